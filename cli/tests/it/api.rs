//! The HTTP contract: what is refused, with which code, and that nothing is stored then.

use std::time::Duration;

use base64::Engine as _;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{KIB, crc64, noise};
use crate::harness::{Stack, Suite};
use crate::suite;

pub const SUITE: Suite = suite! { "api":
    an_unsafe_filename_is_refused_and_nothing_is_stored,
    every_fault_of_an_init_is_told_at_once_with_its_place,
    bodies_that_are_no_json_of_ours_are_refused_with_a_problem,
    paths_and_methods_that_are_not_ours_get_a_problem,
    a_chunk_that_was_not_sent_is_not_confirmed,
    a_chunk_of_another_size_is_not_confirmed,
    a_chunk_with_another_checksum_is_not_confirmed,
    indexes_out_of_range_are_refused,
    an_unknown_upload_is_a_404_everywhere,
    lists_come_newest_first_in_pages_and_by_status,
    waiting_for_a_status_answers_as_soon_as_it_is_there,
    a_download_before_the_end_is_refused,
    the_spec_the_docs_and_the_demo_are_served,
    a_whole_batch_may_be_presigned_and_confirmed,
    complete_confirms_a_thousand_chunks_a_call_and_says_to_come_again,
    statistics_bear_more_bytes_than_a_number_holds,
};

async fn nothing_is_stored(stack: &Stack) {
    let uploads = stack.get("/uploads").await.expect(200);
    assert_eq!(uploads["uploads"], json!([]));
}

async fn an_unsafe_filename_is_refused_and_nothing_is_stored(stack: Stack) {
    let long = "x".repeat(256);
    let names = [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a\\b",
        "a\u{0}b",
        "a\nb",
        "a\u{7f}",
        " a",
        "a\u{202e}b",
        &long,
    ];
    for name in names {
        let answer = stack.post("/uploads/init", json!({ "filename": name, "file_size": 1 })).await;
        let problem = answer.expect_problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/filename", "{name:?}");
    }
    nothing_is_stored(&stack).await;
}

async fn every_fault_of_an_init_is_told_at_once_with_its_place(stack: Stack) {
    let body = json!({
        "filename": "a/b", "file_size": -1, "content_type": "nonsense", "checksum": "?",
        "metadata": { "a": "x".repeat(5_000) },
    });
    let problem = stack.post("/uploads/init", body).await.expect_problem(422, "invalid_request");
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/filename", "/file_size", "/content_type", "/checksum", "/metadata"]);

    let init = |body: Value| stack.post("/uploads/init", body);
    for (body, pointer) in [
        (json!({ "filename": "a" }), "/file_size"),
        (json!({ "filename": "a", "file_size": 1, "checksum": null }), "/checksum"),
        (json!({ "filename": "a", "file_size": null }), "/file_size"),
        (json!({ "filename": "a", "file_size": "1" }), "/file_size"),
        (json!({ "filename": "a", "file_size": 1, "chunk_size": 1 }), "/chunk_size"),
        (
            json!({ "filename": "a", "file_size": 1_000_000_000_000_i64, "chunk_size": 65536 }),
            "/chunk_size",
        ),
        (
            json!({ "filename": "a", "file_size": 1, "checksum_algorithm": "md5" }),
            "/checksum_algorithm",
        ),
        (json!({ "filename": "a", "file_size": 1, "chunks": [{}] }), "/chunks/0/chunk_index"),
        (
            json!({ "filename": "a", "file_size": 1, "chunks": [{ "chunk_index": 0, "checksum": "x" }] }),
            "/chunks/0/checksum",
        ),
    ] {
        let problem = init(body.clone()).await.expect_problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    init(json!({ "filename": "a", "file_size": 1, "chunks": [{ "chunk_index": 1 }] }))
        .await
        .expect_problem(422, "chunk_index_out_of_range");
    nothing_is_stored(&stack).await;
}

async fn bodies_that_are_no_json_of_ours_are_refused_with_a_problem(stack: Stack) {
    let send = |content_type: Option<&'static str>, body: Vec<u8>| {
        let mut request = stack.http().post(stack.url("/uploads/init")).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            (status, answer.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned())
        }
    };
    let json = Some("application/json");
    let good = br#"{"filename":"a","file_size":1}"#.to_vec();
    assert_eq!(send(json, b"{".to_vec()).await, (400, "malformed_json".into()));
    assert_eq!(send(json, Vec::new()).await, (400, "malformed_json".into()));
    assert_eq!(send(json, b"\xff\xfe".to_vec()).await, (400, "malformed_json".into()));
    assert_eq!(send(json, b"[]".to_vec()).await, (422, "invalid_request".into()));
    let array = br#"["a",1,null,null,null,null,null,null]"#.to_vec();
    assert_eq!(send(json, array).await, (422, "invalid_request".into()));
    let nested = br#"{"filename":"a","file_size":1,"chunks":[[0,null]]}"#.to_vec();
    assert_eq!(send(json, nested).await, (422, "invalid_request".into()));
    assert_eq!(send(None, good.clone()).await, (415, "unsupported_media_type".into()));
    assert_eq!(send(Some("text/plain"), good).await, (415, "unsupported_media_type".into()));
    let large = format!(r#"{{"filename":"{}","file_size":1}}"#, "x".repeat(2 * 1024 * KIB));
    assert_eq!(send(json, large.into_bytes()).await, (413, "body_too_large".into()));
    nothing_is_stored(&stack).await;
}

async fn paths_and_methods_that_are_not_ours_get_a_problem(stack: Stack) {
    stack.get("/nowhere").await.expect_problem(404, "not_found");
    stack.get("/static/nowhere.js").await.expect_problem(404, "not_found");
    for odd in ["/%ff", "/uploads/%ff", "/uploads/%ff/complete"] {
        stack.get(odd).await.expect_problem(404, "not_found");
    }
    let id = Uuid::new_v4();
    for (method, path, allowed) in [
        (Method::DELETE, "/uploads".to_owned(), "GET"),
        (Method::GET, "/uploads/init".to_owned(), "POST"),
        (Method::PATCH, format!("/uploads/{id}"), "DELETE, GET"),
        (Method::POST, "/health/live".to_owned(), "GET, HEAD"),
    ] {
        let answer = stack.call(method, &path).await;
        let mut allow: Vec<&str> = answer.headers["allow"].to_str().unwrap().split(", ").collect();
        allow.sort_unstable();
        assert_eq!(allow.join(", "), allowed, "{path}");
        answer.expect_problem(405, "method_not_allowed");
    }
    stack.get("/uploads?limit=0").await.expect_problem(422, "invalid_request");
    stack.get("/uploads?limit=x").await.expect_problem(422, "invalid_request");
    stack.get("/uploads?status=done").await.expect_problem(422, "invalid_request");
    stack.get("/uploads?cursor=x").await.expect_problem(422, "invalid_request");
    let far = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(format!("-8334601228800000 {}", Uuid::new_v4()));
    let far = stack.get(&format!("/uploads?cursor={far}")).await;
    far.expect_problem(422, "invalid_request");
    for key in [&b"caf\xe9"[..], b"", &[b'x'; 256]] {
        let key = reqwest::header::HeaderValue::from_bytes(key).unwrap();
        let body = json!({ "filename": "a", "file_size": 1 });
        let request = stack.http().post(stack.url("/uploads/init")).json(&body);
        let answer = request.header("idempotency-key", key).send().await.unwrap();
        assert_eq!(answer.status(), 422);
    }
    nothing_is_stored(&stack).await;
    let answer = stack.get("/stats").await;
    assert!(answer.headers.contains_key("x-request-id"));
    answer.expect(200);
}

async fn a_chunk_that_was_not_sent_is_not_confirmed(stack: Stack) {
    let upload = stack.plan("a", &noise(10), 64 * KIB).await;
    upload.confirm(0).await.expect_problem(409, "chunk_missing");
    assert_eq!(upload.status().await, "initialized");
    assert_eq!(upload.get().await["uploaded_chunks"], json!([]));
}

async fn a_chunk_of_another_size_is_not_confirmed(stack: Stack) {
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    // Its URL takes no other size; somebody with the keys of the bucket could.
    let presigned = upload.presign(0, None).await;
    assert_ne!(upload.put(&presigned, bytes.slice(..100)).await, 200);
    let other = stack.plan("b", &noise(100), 64 * KIB).await;
    let signed = stack.ctx().storage.signer(upflow_core::db::now()).await.unwrap();
    let key = upflow_core::storage::ObjectKey::Chunk { upload_id: upload.id, index: 0 };
    let life = Duration::from_secs(60);
    let put =
        signed.put_chunk(&key, 100, None, life, chrono::DateTime::<chrono::Utc>::MAX_UTC).unwrap();
    let sent = stack.http().put(put.url).body(noise(100)).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    drop(other);
    upload.confirm(0).await.expect_problem(409, "chunk_size_mismatch");
    assert_eq!(upload.get().await["uploaded_chunks"], json!([]));
}

async fn a_chunk_with_another_checksum_is_not_confirmed(stack: Stack) {
    let bytes = noise(64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    // Sent and confirmed as it was declared first, then declared anew, which takes that back.
    upload.send(&bytes, 0).await;
    upload.confirm(0).await.expect(200);
    upload.presign(0, Some(crc64(b"other bytes"))).await;
    upload.confirm(0).await.expect_problem(409, "chunk_checksum_mismatch");
    let path = upload.path("/chunks/confirm");
    let answer = stack.post(&path, json!({ "chunks": [0] })).await.expect(200);
    assert_eq!(answer["rejected"][0]["code"], "chunk_checksum_mismatch");
    assert_eq!(upload.get().await["uploaded_chunks"], json!([]));
    upload.complete().await.expect_problem(409, "upload_incomplete");
}

async fn indexes_out_of_range_are_refused(stack: Stack) {
    let upload = stack.plan("a", &noise(3 * 64 * KIB), 64 * KIB).await;
    for index in ["3", "-1", "99999999999", "x"] {
        let path = upload.path(&format!("/chunks/{index}"));
        stack.call(Method::PUT, &path).await.expect_problem(422, "chunk_index_out_of_range");
    }
    let presign = upload.path("/chunks/presign");
    let confirm = upload.path("/chunks/confirm");
    let one = |index: i32| json!({ "chunks": [{ "chunk_index": index }] });
    stack.post(&presign, one(3)).await.expect_problem(422, "chunk_index_out_of_range");
    stack.post(&presign, one(-1)).await.expect_problem(422, "chunk_index_out_of_range");
    stack.post(&presign, json!({ "chunks": [] })).await.expect_problem(422, "invalid_request");
    let many: Vec<Value> = (0..1_001).map(|_| json!({ "chunk_index": 0 })).collect();
    stack.post(&presign, json!({ "chunks": many })).await.expect_problem(422, "invalid_request");
    stack
        .post(&confirm, json!({ "chunks": [3] }))
        .await
        .expect_problem(422, "chunk_index_out_of_range");
    stack.post(&confirm, json!({ "chunks": [0, 0] })).await.expect_problem(422, "invalid_request");
    stack.post(&confirm, json!({ "chunks": [] })).await.expect_problem(422, "invalid_request");
    assert_eq!(upload.status().await, "initialized");
}

/// Every call on one upload.
pub async fn all_calls(stack: &Stack, id: &str) -> Vec<(String, crate::client::Answer)> {
    let chunks = json!({ "chunks": [{ "chunk_index": 0 }] });
    let calls = [
        (Method::POST, "/chunks/presign", Some(chunks)),
        (Method::PUT, "/chunks/0", None),
        (Method::POST, "/chunks/confirm", Some(json!({ "chunks": [0] }))),
        (Method::POST, "/reconcile", None),
        (Method::POST, "/complete", None),
        (Method::DELETE, "", None),
        (Method::GET, "/download", None),
        (Method::GET, "", None),
        (Method::GET, "/events", None),
        (Method::POST, "/requeue", None),
    ];
    let mut answers = Vec::new();
    for (method, rest, body) in calls {
        let name = format!("{method} {rest}");
        let path = format!("/uploads/{id}{rest}");
        answers.push((name, stack.try_call(method, &path, body).await.unwrap()));
    }
    answers
}

async fn an_unknown_upload_is_a_404_everywhere(stack: Stack) {
    for id in [Uuid::new_v4().to_string(), "not-an-id".to_owned()] {
        for (_, answer) in all_calls(&stack, &id).await {
            answer.expect_problem(404, "upload_not_found");
        }
    }
}

async fn lists_come_newest_first_in_pages_and_by_status(stack: Stack) {
    let mut ids = Vec::new();
    for i in 0..5 {
        let upload = stack.init(json!({ "filename": format!("{i}"), "file_size": 0 })).await;
        ids.push(upload.id.to_string());
    }
    ids.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stack.get(&format!("/uploads?limit=2{cursor}")).await.expect(200);
        for upload in page["uploads"].as_array().unwrap() {
            assert!(upload.get("uploaded_chunks").is_none());
            seen.push(upload["upload_id"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    // Those of one millisecond come in any order, but each comes once.
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(seen.clone()), sorted(ids));
    stack.call(Method::DELETE, &format!("/uploads/{}", seen[0])).await.expect(200);
    let page = stack.get("/uploads?status=aborted").await.expect(200);
    assert_eq!(page["uploads"].as_array().unwrap().len(), 1);
    let stats = stack.get("/stats").await.expect(200);
    let count = |status: &str| {
        let rows = stats["statuses"].as_array().unwrap();
        rows.iter().find(|row| row["status"] == status).map(|row| row["uploads"].as_i64().unwrap())
    };
    assert_eq!((count("initialized"), count("aborted")), (Some(4), Some(1)));
}

async fn waiting_for_a_status_answers_as_soon_as_it_is_there(stack: Stack) {
    let upload = stack.plan("a", &noise(0), 64 * KIB).await;
    let path = upload.path("?wait_for=completed&timeout_seconds=0");
    assert_eq!(stack.get(&path).await.expect(200)["status"], "initialized");
    let path = upload.path("?wait_for=completed&timeout_seconds=60");
    let (waited, ()) = tokio::join!(stack.get(&path), async {
        upload.complete().await.expect(202);
    });
    assert_eq!(waited.expect(200)["status"], "completed");
    // An end that is not the one waited for is an answer too.
    let aborted = stack.plan("b", &noise(1), 64 * KIB).await;
    stack.call(Method::DELETE, &aborted.path("")).await.expect(200);
    let path = aborted.path("?wait_for=completed&timeout_seconds=60");
    assert_eq!(stack.get(&path).await.expect(200)["status"], "aborted");
    let path = aborted.path("?wait_for=completed&timeout_seconds=61");
    stack.get(&path).await.expect_problem(422, "invalid_request");
}

async fn a_download_before_the_end_is_refused(stack: Stack) {
    let upload = stack.plan("a", &noise(1), 64 * KIB).await;
    let answer = stack.get(&upload.path("/download")).await;
    answer.expect_problem(409, "upload_not_completed");
}

async fn the_spec_the_docs_and_the_demo_are_served(stack: Stack) {
    for (path, kind, text) in [
        ("/openapi.yaml", "application/yaml", "init_upload"),
        ("/openapi.json", "application/json", ""),
        ("/docs", "text/html", "swagger"),
        ("/static/index.html", "text/html", "UpFlow"),
        ("/", "text/html", "UpFlow"),
        ("/health/live", "application/json", ""),
    ] {
        let answer = stack.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let found = answer.headers["content-type"].to_str().unwrap();
        assert!(found.starts_with(kind), "{path}: {found}");
        assert!(answer.body.to_string().contains(text), "{path}");
    }
    let spec = stack.get("/openapi.json").await.body;
    for operation in ["/uploads/init", "/uploads/{upload_id}/chunks/presign", "/stats"] {
        assert!(spec["paths"][operation].is_object(), "{operation}");
    }
    let ready = stack.get("/health/ready").await.expect(200);
    assert_eq!(ready["database"], "ok");
}

async fn a_whole_batch_may_be_presigned_and_confirmed(stack: Stack) {
    let upload = stack
        .init(json!({ "filename": "big", "file_size": 2_000 * 64 * KIB, "chunk_size": 64 * KIB }))
        .await;
    let chunks: Vec<Value> = (0..1_000)
        .map(|index| json!({ "chunk_index": index, "checksum": "AAAAAAAAAAA=" }))
        .collect();
    let path = upload.path("/chunks/presign");
    let answer = stack.post(&path, json!({ "chunks": chunks })).await.expect(200);
    assert_eq!(answer["chunks"].as_array().unwrap().len(), 1_000);
    let indexes: Vec<i32> = (0..1_000).collect();
    let path = upload.path("/chunks/confirm");
    let answer = stack.post(&path, json!({ "chunks": indexes })).await.expect(200);
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 1_000);
    assert_eq!(answer["confirmed"], json!([]));
}

async fn complete_confirms_a_thousand_chunks_a_call_and_says_to_come_again(stack: Stack) {
    use futures::stream::{self, StreamExt};
    let total = 1_050;
    let bytes = noise(total * 64 * KIB);
    let upload = stack.plan("unconfirmed.bin", &bytes, 64 * KIB).await;
    stream::iter(0..total).for_each_concurrent(8, |index| upload.send(&bytes, index)).await;
    let answer = upload.complete().await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.expect_problem(409, "confirm_in_progress");
    // What was confirmed stays.
    assert_eq!(upload.get().await["uploaded_chunks_count"], 1_000);
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn statistics_bear_more_bytes_than_a_number_holds(stack: Stack) {
    use sea_orm::ConnectionTrait;
    for name in ["a", "b"] {
        stack.init(json!({ "filename": name, "file_size": 1 })).await;
    }
    // As many planned files as would make it, in two rows.
    let large = "UPDATE upload_sessions SET file_size = 9223372036854775807";
    stack.ctx().db.execute_unprepared(large).await.unwrap();
    let stats = stack.get("/stats").await.expect(200);
    assert_eq!(stats["statuses"][0]["uploads"], 2);
    assert_eq!(stats["statuses"][0]["file_bytes"], i64::MAX);
}
