//! A database, a queue or a storage that is gone for a while: a clear 503, readiness that says which,
//! and a service that recovers by itself when it is back.

use reqwest::Method;
use serde_json::json;

use crate::client::{KIB, noise};
use crate::gate::Gate;
use crate::harness::{Options, Stack, Suite, eventually};
use crate::production::Gates;
use crate::suite;

pub const SUITE: Suite = suite! { "outage":
    a_database_that_is_gone_is_a_503_and_comes_back,
    a_storage_that_is_gone_is_a_503_and_comes_back,
    a_queue_that_is_gone_delays_the_work_and_loses_none,
};

async fn gated(stack: &Stack) -> (Stack, Gates) {
    let stack = stack.sibling(Options { gated: true, ..Options::default() }).await;
    let gates = stack.production(|production| production.gates.clone()).unwrap();
    (stack, gates)
}

async fn ready_says(stack: &Stack, part: &str, word: &str) {
    eventually("readiness says so", || async {
        let answer = stack.get("/health/ready").await;
        let matches = answer.body[part] == word;
        if matches && word == "unavailable" {
            assert_eq!(answer.status, 503);
            assert!(answer.headers.contains_key("retry-after"));
        }
        matches.then_some(())
    })
    .await;
}

async fn back(stack: &Stack, gate: &Gate, part: &str) {
    gate.open();
    ready_says(stack, part, "ok").await;
    assert_eq!(stack.get("/health/ready").await.status, 200);
}

async fn a_database_that_is_gone_is_a_503_and_comes_back(stack: Stack) {
    let (stack, gates) = gated(&stack).await;
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, [0]).await;
    gates.database.shut();
    for (method, path) in [
        (Method::GET, upload.path("")),
        (Method::PUT, upload.path("/chunks/0")),
        (Method::GET, "/uploads".into()),
    ] {
        let answer = stack.call(method, &path).await;
        assert!(answer.headers.contains_key("retry-after"));
        let problem = answer.expect_problem(503, "database_unavailable");
        assert!(!problem.to_string().contains("sqlx"), "{problem:#}");
    }
    ready_says(&stack, "database", "unavailable").await;
    stack.get("/health/live").await.expect(200);
    back(&stack, &gates.database, "database").await;
    upload.send_and_confirm(&bytes, [1]).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn a_storage_that_is_gone_is_a_503_and_comes_back(stack: Stack) {
    let (stack, gates) = gated(&stack).await;
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_all(&bytes).await;
    gates.s3.shut();
    let answer = upload.confirm(1).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.expect_problem(503, "storage_unavailable");
    ready_says(&stack, "storage", "unavailable").await;
    // What needs no storage goes on: the upload is pending, and its worker tries again and again.
    upload.complete().await.expect(202);
    eventually("an attempt failed", || async {
        upload.events().await.contains(&"attempt_failed".to_owned()).then_some(())
    })
    .await;
    back(&stack, &gates.s3, "storage").await;
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}

async fn a_queue_that_is_gone_delays_the_work_and_loses_none(stack: Stack) {
    let (stack, gates) = gated(&stack).await;
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_all(&bytes).await;
    gates.redis.shut();
    ready_says(&stack, "queue", "unavailable").await;
    // The database has it: that is what counts.
    let answer = upload.complete().await.expect(202);
    assert_eq!(answer["status"], json!("pending_assembly"));
    back(&stack, &gates.redis, "queue").await;
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}
