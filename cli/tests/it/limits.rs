//! What clients may ask for: each limit, at its edge.

use reqwest::Method;
use serde_json::{Value, json};
use upflow_api::limits::ClientLimits;

use crate::client::{KIB, MIB};
use crate::harness::{Stack, Suite};
use crate::locked::Locked;
use crate::suite;

pub const SUITE: Suite = suite! { "limits":
    a_key_that_asks_too_often_is_told_when_to_come_again,
    what_asks_s3_for_all_chunks_passes_less_often,
    an_owner_has_so_many_uploads_under_way_and_no_more_also_at_once,
    an_owner_has_so_many_bytes_under_way_and_no_more,
    files_types_bodies_and_batches_have_their_limits,
};

async fn a_key_that_asks_too_often_is_told_when_to_come_again(stack: Stack) {
    let limits = ClientLimits { requests_per_second: Some(5), ..ClientLimits::default() };
    let locked = Locked::start(&stack, limits).await;
    let (id, token) = locked.upload(&locked.shop).await;
    let list = || locked.call(Some(&locked.shop), Method::GET, "/uploads", None);
    let mut refused = None;
    for _ in 0..500 {
        let answer = list().await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        answer.expect(200);
    }
    let refused = refused.expect("one is refused");
    assert_eq!(refused.headers["retry-after"], "1");
    refused.expect_problem(429, "too_many_requests");
    // Another caller has its own.
    let path = format!("/uploads/{id}");
    locked.call(Some(&token), Method::GET, &path, None).await.expect(200);
}

async fn what_asks_s3_for_all_chunks_passes_less_often(stack: Stack) {
    // Forty a second: twenty would pass at once, and a reconcile weighs as much as forty.
    let limits = ClientLimits { requests_per_second: Some(40), ..ClientLimits::default() };
    let locked = Locked::start(&stack, limits).await;
    let (id, token) = locked.upload(&locked.shop).await;
    let path = format!("/uploads/{id}/reconcile");
    for _ in 0..20 {
        let answer = locked.call(Some(&token), Method::POST, &path, None).await;
        if answer.status == 429 {
            answer.expect_problem(429, "too_many_requests");
            return;
        }
        answer.expect(200);
    }
    panic!("none is refused");
}

async fn an_owner_has_so_many_uploads_under_way_and_no_more_also_at_once(stack: Stack) {
    let limits = ClientLimits { active_uploads: Some(3), ..ClientLimits::default() };
    let locked = Locked::start(&stack, limits).await;
    let init = || locked.init(&locked.shop, json!({ "filename": "a", "file_size": 1 }));
    let answers = futures::future::join_all((0..10).map(|_| init())).await;
    let (made, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!((made.len(), refused.len()), (3, 7));
    for answer in refused {
        answer.expect_problem(409, "too_many_uploads");
    }
    let page = locked.call(Some(&locked.shop), Method::GET, "/uploads", None).await.expect(200);
    assert_eq!(page["uploads"].as_array().unwrap().len(), 3, "what was refused is not stored");
    // One that has ended makes room.
    let path = format!("/uploads/{}", made[0].body["upload_id"].as_str().unwrap());
    locked.call(Some(&locked.shop), Method::DELETE, &path, None).await.expect(200);
    init().await.expect(201);
    init().await.expect_problem(409, "too_many_uploads");
}

async fn an_owner_has_so_many_bytes_under_way_and_no_more(stack: Stack) {
    let limits = ClientLimits { active_bytes: Some(100), ..ClientLimits::default() };
    let locked = Locked::start(&stack, limits).await;
    let init = |size: i64| locked.init(&locked.shop, json!({ "filename": "a", "file_size": size }));
    init(60).await.expect(201);
    init(41).await.expect_problem(409, "too_many_bytes");
    let keyed = || async {
        let request = locked.stack.http().post(locked.stack.url("/uploads/init"));
        let request = request.bearer_auth(&locked.shop).header("idempotency-key", "one");
        let answer = request.json(&json!({ "filename": "a", "file_size": 40 })).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["upload_id"].clone())
    };
    let made = keyed().await;
    assert_eq!(made.0, 201);
    // An owner's replay is no new upload.
    assert_eq!(keyed().await, made);
    init(1).await.expect_problem(409, "too_many_bytes");
}

async fn files_types_bodies_and_batches_have_their_limits(stack: Stack) {
    let limits = ClientLimits {
        file_size: MIB as i64,
        chunks: 4,
        body: 64 * KIB,
        batch: 2,
        content_types: vec!["image/*".to_owned()],
        ..ClientLimits::default()
    };
    let locked = Locked::start(&stack, limits).await;
    let body = |size: usize, chunk: Option<usize>, kind: &str| {
        let mut body = json!({ "filename": "a", "file_size": size, "content_type": kind });
        if let Some(chunk) = chunk {
            body["chunk_size"] = chunk.into();
        }
        body
    };
    let init = |body: Value| locked.init(&locked.shop, body);
    let pointer = |problem: Value| problem["errors"][0]["pointer"].clone();
    let upload = init(body(MIB, Some(256 * KIB), "image/png")).await.expect(201);
    assert_eq!(upload["total_chunks"], 4);
    for (body, place) in [
        (body(MIB + 1, None, "image/png"), "/file_size"),
        (body(MIB, Some(128 * KIB), "image/png"), "/chunk_size"),
        (body(MIB, None, "text/html"), "/content_type"),
    ] {
        let problem = init(body).await.expect_problem(422, "invalid_request");
        assert_eq!(pointer(problem), place);
    }
    let path = format!("/uploads/{}/chunks", upload["upload_id"].as_str().unwrap());
    for (rest, one) in [("presign", json!({ "chunk_index": 0 })), ("confirm", json!(0))] {
        let body = json!({ "chunks": [one.clone(), one.clone(), one] });
        let path = format!("{path}/{rest}");
        let answer = locked.call(Some(&locked.shop), Method::POST, &path, Some(body)).await;
        assert_eq!(pointer(answer.expect_problem(422, "invalid_request")), "/chunks");
    }
    let large = json!({ "filename": "a".repeat(65 * KIB), "file_size": 1 });
    init(large).await.expect_problem(413, "body_too_large");
}
