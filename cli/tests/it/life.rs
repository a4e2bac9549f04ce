//! What an upload allows in each status and past its life.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::all_calls;
use crate::client::{KIB, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::suite;

pub const SUITE: Suite = suite! { "life":
    an_ended_upload_takes_nothing_more,
    an_upload_being_assembled_takes_only_what_it_has,
    an_upload_past_its_life_is_expired_even_before_the_janitor_comes,
    an_expired_upload_leaves_nothing_in_the_bucket,
    an_expired_upload_stays_so_over_a_restart,
    touching_an_upload_makes_it_live_longer,
    a_replayed_init_makes_it_live_longer_and_says_so,
};

async fn an_ended_upload_takes_nothing_more(stack: Stack) {
    let bytes = noise(10);
    let aborted = stack.plan("a", &bytes, 64 * KIB).await;
    aborted.send_and_confirm(&bytes, [0]).await;
    stack.call(Method::DELETE, &aborted.path("")).await.expect(200);
    let completed = stack.plan("c", &bytes, 64 * KIB).await;
    completed.send_all(&bytes).await;
    completed.complete_and_wait().await;

    for (id, status) in [(aborted.id, "aborted"), (completed.id, "completed")] {
        for (call, answer) in all_calls(&stack, &id.to_string()).await {
            let fine = match call.as_str() {
                "GET " | "GET /events" | "POST /requeue" => true,
                // What has been done is answered as done.
                "DELETE " => status == "aborted",
                "POST /complete" | "GET /download" => status == "completed",
                _ => false,
            };
            if fine {
                assert_eq!(answer.status, 200, "{call} {status}");
            } else {
                answer.expect_problem(409, &format!("upload_{status}"));
            }
        }
        let upload = stack.get(&format!("/uploads/{id}")).await.expect(200);
        assert_eq!(upload["status"], status);
    }
    aborted.assert_nothing_left().await;
    completed.assert_whole(&bytes).await;
}

async fn an_upload_being_assembled_takes_only_what_it_has(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_all(&bytes).await;
    upload.complete().await.expect(202);
    let again = upload.confirm(1).await.expect(200);
    assert_eq!(again["uploaded_chunks_count"], 2);
    assert_eq!(again["status"], "pending_assembly");
    let path = upload.path("/chunks/confirm");
    stack.post(&path, json!({ "chunks": [0, 1] })).await.expect(200);
    let presign = json!({ "chunks": [{ "chunk_index": 0 }] });
    let answer = stack.post(&upload.path("/chunks/presign"), presign).await;
    answer.expect_problem(409, "upload_assembling");
    let answer = stack.call(Method::POST, &upload.path("/reconcile")).await;
    answer.expect_problem(409, "upload_assembling");
    upload.complete().await.expect(202);
    stack.start_worker();
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}

fn short_lived(seconds: u64) -> Options {
    let mut options = Options::default();
    options.limits.upload_life = Duration::from_secs(seconds);
    options.limits.url_life = Duration::from_secs(seconds);
    options
}

async fn an_upload_past_its_life_is_expired_even_before_the_janitor_comes(stack: Stack) {
    let stack = stack.sibling(short_lived(2)).await;
    stack.stop_workers().await;
    let bytes = noise(10);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    let presigned = upload.presign(0, None).await;
    assert!(presigned["expires_in"].as_i64().unwrap() <= 2);
    assert_eq!(upload.put(&presigned, bytes).await, 200);
    eventually("the upload has expired", || async {
        (upload.status().await == "expired").then_some(())
    })
    .await;
    upload.confirm(0).await.expect_problem(409, "upload_expired");
    upload.complete().await.expect_problem(409, "upload_expired");
    let listed = stack.get("/uploads?status=expired").await.expect(200);
    assert_eq!(listed["uploads"][0]["upload_id"], upload.id.to_string());
    let listed = stack.get("/uploads?status=initialized").await.expect(200);
    assert_eq!(listed["uploads"], json!([]));
}

async fn an_expired_upload_leaves_nothing_in_the_bucket(stack: Stack) {
    let stack = stack.sibling(short_lived(2)).await;
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send(&bytes, 0).await;
    eventually("the janitor has been by", || async {
        upload.events().await.contains(&"expired".to_owned()).then_some(())
    })
    .await;
    upload.assert_nothing_left().await;
}

async fn touching_an_upload_makes_it_live_longer(stack: Stack) {
    let stack = stack.sibling(short_lived(8)).await;
    let bytes = noise(64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    let end = |body: &Value| body["expires_at"].as_str().unwrap().to_owned();
    let passed = |time: String| async move {
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        (now > time).then_some(())
    };
    let first = end(&upload.body);
    let created =
        upload.body["created_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>();
    let half = created.unwrap() + Duration::from_secs(4);
    let half = half.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    eventually("half of the life has passed", || passed(half.clone())).await;
    upload.send(&bytes, 0).await;
    let second = end(&upload.get().await);
    assert!(second > first, "presign slides {first} to {second}");
    // Past the first end it lives on, by the second.
    eventually("the first end has passed", || passed(first.clone())).await;
    upload.confirm(0).await.expect(200);
    assert!(end(&upload.get().await) > second, "confirm slides it too");
    upload.complete_and_wait().await;
}

async fn an_expired_upload_stays_so_over_a_restart(stack: Stack) {
    let stack = stack.sibling(short_lived(2)).await;
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, [0]).await;
    eventually("the janitor has been by", || async {
        upload.events().await.contains(&"expired".to_owned()).then_some(())
    })
    .await;
    stack.stop_workers().await;
    stack.stop_api().await;
    stack.start_api().await;
    assert_eq!(upload.status().await, "expired");
    upload.confirm(0).await.expect_problem(409, "upload_expired");
    stack.start_worker();
    upload.assert_nothing_left().await;
    assert_eq!(upload.status().await, "expired");
}

async fn a_replayed_init_makes_it_live_longer_and_says_so(stack: Stack) {
    let body = json!({ "filename": "a", "file_size": 1 });
    let init = || async {
        let request = stack.http().post(stack.url("/uploads/init")).json(&body);
        let answer = request.header("idempotency-key", "replayed").send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let first = init().await;
    let second = init().await;
    assert_eq!(first["upload_id"], second["upload_id"]);
    let (first, second) = (first["expires_at"].as_str(), second["expires_at"].as_str());
    assert!(second > first, "{first:?} to {second:?}");
}
