//! Interruptions: clients that die, servers that restart, calls that come twice and all at once.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use upflow_core::storage::ObjectKey;

use crate::client::{KIB, MIB, noise};
use crate::harness::{Stack, Suite};
use crate::suite;

pub const SUITE: Suite = suite! { "resume":
    a_client_that_died_goes_on_with_what_the_server_says,
    reconcile_confirms_what_is_there_and_drops_what_is_gone,
    reconcile_takes_a_chunk_that_was_overwritten_with_other_bytes_anew,
    the_api_and_the_worker_may_restart_in_every_status,
    parallel_confirms_of_one_upload_lose_none,
    a_chunk_confirmed_again_and_again_counts_once,
    complete_called_many_times_at_once_assembles_once,
    confirms_and_completes_race_and_the_file_is_whole,
    abort_races_with_complete_and_one_of_them_wins,
    init_with_one_idempotency_key_makes_one_upload,
};

async fn a_client_that_died_goes_on_with_what_the_server_says(stack: Stack) {
    let bytes = noise(10 * 64 * KIB + 7);
    let upload = stack.plan("resume.bin", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, [0, 2, 3]).await;
    // Sent, and the client died before it could confirm.
    upload.send(&bytes, 5).await;

    let known = stack.call(Method::POST, &upload.path("/reconcile")).await.expect(200);
    assert_eq!(known["uploaded_chunks"], json!([0, 2, 3, 5]));
    let missing: Vec<usize> = (0..11).filter(|index| ![0, 2, 3, 5].contains(index)).collect();
    upload.send_and_confirm(&bytes, missing).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn reconcile_confirms_what_is_there_and_drops_what_is_gone(stack: Stack) {
    let bytes = noise(4 * 64 * KIB);
    let upload = stack.plan("gone.bin", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, 0..4).await;
    // Somebody deletes a chunk in the bucket. The keys of chunks 10 to 19 would begin like that of 1.
    let key = ObjectKey::Chunk { upload_id: upload.id, index: 1 }.to_string();
    stack.ctx().storage.delete_all(&key).await.unwrap();

    let known = stack.call(Method::POST, &upload.path("/reconcile")).await.expect(200);
    assert_eq!(known["uploaded_chunks"], json!([0, 2, 3]));
    assert_eq!(known["status"], "uploading");
    assert!(upload.events().await.contains(&"chunk_dropped".to_owned()));
    upload.complete().await.expect_problem(409, "upload_incomplete");
    upload.send_and_confirm(&bytes, [1]).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn reconcile_takes_a_chunk_that_was_overwritten_with_other_bytes_anew(stack: Stack) {
    let old = noise(2 * 64 * KIB);
    let upload = stack.plan("other.bin", &old, 64 * KIB).await;
    upload.send_and_confirm(&old, 0..2).await;
    let new: bytes::Bytes = old.iter().map(|byte| !byte).collect::<Vec<u8>>().into();
    upload.send(&new, 0).await;
    let known = stack.call(Method::POST, &upload.path("/reconcile")).await.expect(200);
    assert_eq!(known["uploaded_chunks"], json!([0, 1]));
    upload.complete_and_wait().await;
    let expected = [&new[..64 * KIB], &old[64 * KIB..]].concat();
    upload.assert_whole(&expected.into()).await;
}

async fn the_api_and_the_worker_may_restart_in_every_status(stack: Stack) {
    let restart = || async {
        stack.stop_workers().await;
        stack.stop_api().await;
        stack.start_api().await;
    };
    let bytes = noise(12 * MIB);
    let upload = stack.plan("restart.bin", &bytes, 5 * MIB).await;
    assert_eq!(upload.status().await, "initialized");
    restart().await;
    upload.send_and_confirm(&bytes, [0, 1]).await;
    assert_eq!(upload.status().await, "uploading");
    restart().await;
    upload.send_and_confirm(&bytes, [2]).await;
    // No worker runs: the upload stays pending over the restart.
    upload.complete().await.expect(202);
    restart().await;
    assert_eq!(upload.status().await, "pending_assembly");
    stack.start_worker();
    upload.wait_for("completed").await;
    restart().await;
    stack.start_worker();
    assert_eq!(upload.status().await, "completed");
    upload.assert_whole(&bytes).await;

    // And those that end otherwise.
    let failing =
        stack.init(json!({ "filename": "f", "file_size": 5, "checksum": "AAAAAAAAAAA=" })).await;
    failing.send_all(&noise(5)).await;
    failing.complete().await.expect(202);
    failing.wait_for("failed").await;
    restart().await;
    assert_eq!(failing.status().await, "failed");
    stack.call(Method::DELETE, &failing.path("")).await.expect(200);
    restart().await;
    stack.start_worker();
    assert_eq!(failing.status().await, "aborted");
    failing.assert_nothing_left().await;
}

async fn parallel_confirms_of_one_upload_lose_none(stack: Stack) {
    let bytes = noise(32 * 64 * KIB);
    let upload = stack.plan("parallel.bin", &bytes, 64 * KIB).await;
    join_all((0..32).map(|index| upload.send(&bytes, index))).await;
    let answers = join_all((0..32).map(|index| upload.confirm(index))).await;
    for answer in answers {
        answer.expect(200);
    }
    let known = upload.get().await;
    assert_eq!(known["uploaded_chunks"], json!((0..32).collect::<Vec<_>>()));
    assert_eq!(known["uploaded_bytes"], 32 * 64 * KIB);
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn a_chunk_confirmed_again_and_again_counts_once(stack: Stack) {
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("again.bin", &bytes, 64 * KIB).await;
    upload.send(&bytes, 0).await;
    let answers = join_all((0..16).map(|_| upload.confirm(0))).await;
    for answer in answers {
        assert_eq!(answer.expect(200)["uploaded_chunks_count"], 1);
    }
    let path = upload.path("/chunks/confirm");
    let answer = stack.post(&path, json!({ "chunks": [0, 1] })).await.expect(200);
    assert_eq!(answer["confirmed"], json!([0]));
    assert_eq!(answer["rejected"][0]["code"], "chunk_missing");
    assert_eq!(answer["uploaded_chunks_count"], 1);
}

async fn complete_called_many_times_at_once_assembles_once(stack: Stack) {
    let bytes = noise(11 * MIB);
    let upload = stack.plan("once.bin", &bytes, 5 * MIB).await;
    upload.send_all(&bytes).await;
    for answer in join_all((0..16).map(|_| upload.complete())).await {
        assert!(matches!(answer.status.as_u16(), 200 | 202), "{:#}", answer.body);
    }
    upload.wait_for("completed").await;
    upload.complete().await.expect(200);
    upload.assert_whole(&bytes).await;
    let events = upload.events().await;
    let count = |name: &str| events.iter().filter(|event| *event == name).count();
    assert_eq!((count("assembly_requested"), count("assembly_finished")), (1, 1), "{events:?}");
}

async fn confirms_and_completes_race_and_the_file_is_whole(stack: Stack) {
    let bytes = noise(8 * 64 * KIB);
    let upload = stack.plan("race.bin", &bytes, 64 * KIB).await;
    join_all((0..8).map(|index| upload.send(&bytes, index))).await;
    let confirms = join_all((0..8).map(|index| upload.confirm(index)));
    let completes = join_all((0..4).map(|_| upload.complete()));
    let (confirms, completes) = tokio::join!(confirms, completes);
    for answer in confirms {
        // A confirm that comes late finds its chunk confirmed, or the upload at its end.
        let ended = answer.body["code"] == "upload_completed";
        assert!(answer.status == 200 || ended, "{:#}", answer.body);
    }
    for answer in completes {
        assert!(matches!(answer.status.as_u16(), 200 | 202), "{:#}", answer.body);
    }
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}

async fn abort_races_with_complete_and_one_of_them_wins(stack: Stack) {
    for round in 0..5 {
        let bytes = noise(6 * MIB + round);
        let upload = stack.plan("abort.bin", &bytes, 5 * MIB).await;
        upload.send_all(&bytes).await;
        let path = upload.path("");
        let (complete, abort) = tokio::join!(upload.complete(), stack.call(Method::DELETE, &path));
        let after =
            stack.get(&upload.path("?wait_for=completed&timeout_seconds=60")).await.expect(200);
        match after["status"].as_str().unwrap() {
            "completed" => {
                abort.expect_problem(409, "upload_completed");
                upload.assert_whole(&bytes).await;
            }
            "aborted" => {
                abort.expect(200);
                if complete.status != 202 {
                    complete.expect_problem(409, "upload_aborted");
                }
                upload.assert_nothing_left().await;
                let finals = upflow_core::storage::finals(upload.id);
                crate::harness::eventually("no final object is left", || async {
                    let page = stack.ctx().storage.list(&finals, None).await.unwrap();
                    page.objects.is_empty().then_some(())
                })
                .await;
            }
            other => panic!("{other}"),
        }
    }
}

async fn init_with_one_idempotency_key_makes_one_upload(stack: Stack) {
    let init = |size: i64| {
        let request = stack
            .http()
            .post(stack.url("/uploads/init"))
            .header("idempotency-key", "the same")
            .json(&json!({ "filename": "a", "file_size": size, "chunks": [{ "chunk_index": 0 }] }));
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
        }
    };
    let answers = join_all((0..8).map(|_| init(5))).await;
    let first = &answers[0].1["upload_id"];
    for (status, body) in &answers {
        assert_eq!(*status, 201, "{body:#}");
        assert_eq!(body["upload_id"], *first);
        assert_eq!(body["presigned"].as_array().unwrap().len(), 1);
    }
    let (status, body) = init(6).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("idempotency_key_reused")));
    let uploads = stack.get("/uploads").await.expect(200);
    assert_eq!(uploads["uploads"].as_array().unwrap().len(), 1);
}
