//! Long polls: whoever waits for an upload learns of its end at once, whichever process brought it about,
//! and costs nothing meanwhile.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use upflow_core::queue::{Listener, News};
use uuid::Uuid;

use crate::client::{KIB, Upload, noise};
use crate::gate::Gate;
use crate::harness::{Options, Stack, Suite, eventually};
use crate::suite;

pub const SUITE: Suite = suite! { "waiting":
    everybody_is_told_when_an_upload_moves_on,
    who_waits_for_a_status_that_comes_before_the_end_is_told_too,
};

/// What takes several processes.
pub const PROCESSES: Suite = suite! { "waiting":
    who_waits_at_another_process_is_told_by_news_and_not_by_a_look,
    hundreds_that_wait_ask_the_database_next_to_nothing,
    who_waits_learns_of_the_end_while_redis_is_away,
    after_a_gap_news_are_heard_again,
};

/// Hears that this upload has moved on.
async fn told(listener: &mut Listener, upload: &Upload) {
    let told = async { while listener.next().await.unwrap() != News::Moved(upload.id) {} };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("it is told");
}

async fn everybody_is_told_when_an_upload_moves_on(stack: Stack) {
    let mut listener = stack.ctx().queue.listen().await.unwrap();
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, [0]).await;
    told(&mut listener, &upload).await;
    assert_eq!(upload.status().await, "uploading");
    upload.send_and_confirm(&bytes, [1]).await;
    upload.complete().await.expect(202);
    // That it is to be assembled, and that it has been.
    told(&mut listener, &upload).await;
    told(&mut listener, &upload).await;
    assert_eq!(upload.status().await, "completed");

    let aborted = stack.plan("a", &bytes, 64 * KIB).await;
    stack.call(Method::DELETE, &aborted.path("")).await.expect(200);
    told(&mut listener, &aborted).await;
    assert_eq!(aborted.status().await, "aborted");
}

async fn who_waits_for_a_status_that_comes_before_the_end_is_told_too(stack: Stack) {
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    let waits = tokio::spawn({
        let upload = upload.clone();
        async move { upload.wait_for("uploading").await }
    });
    upload.send_and_confirm(&bytes, [0]).await;
    assert_eq!(waits.await.unwrap()["status"], "uploading");
}

async fn who_waits_at_another_process_is_told_by_news_and_not_by_a_look(stack: Stack) {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = stack.start_mortal_api(address).await;
    let bytes = noise(10);
    let mut waited = Duration::ZERO;
    for _ in 0..6 {
        let upload = stack.plan("a", &bytes, 64 * KIB).await;
        let url = format!("http://{address}{}", upload.path("?wait_for=completed"));
        let waits = tokio::spawn(answer(stack.clone(), url));
        upload.send_and_confirm(&bytes, [0]).await;
        let mut listener = stack.ctx().queue.listen().await.unwrap();
        upload.complete().await.expect(202);
        told(&mut listener, &upload).await;
        let since = Instant::now();
        assert_eq!(waits.await.unwrap()["status"], "completed");
        waited += since.elapsed();
    }
    // By a look alone, every five seconds, it would be half a minute.
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    other.kill().await;
}

async fn answer(stack: Stack, url: String) -> Value {
    stack.http().get(url).send().await.unwrap().json().await.unwrap()
}

async fn hundreds_that_wait_ask_the_database_next_to_nothing(stack: Stack) {
    let stack = stack.sibling(Options { gated: true, ..Options::default() }).await;
    stack.stop_workers().await;
    let gate = stack.production(|production| production.gates.clone()).unwrap().database;
    let mut uploads = Vec::new();
    for _ in 0..10 {
        uploads.push(stack.plan("a", &noise(10), 64 * KIB).await);
    }
    let waits: Vec<_> = (0..300)
        .map(|n: usize| {
            let upload = uploads[n % 10].clone();
            let url = stack.url(&upload.path("?wait_for=completed&timeout_seconds=60"));
            tokio::spawn(answer(stack.clone(), url))
        })
        .collect();
    // All of them have asked once when nothing more is asked for a while.
    eventually("all wait", || async {
        let before = gate.passed();
        tokio::time::sleep(Duration::from_secs(1)).await;
        (gate.passed() - before < 10 * KIB).then_some(())
    })
    .await;
    let before = gate.passed();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let asked = gate.passed() - before;
    assert!((1..20 * KIB).contains(&asked), "one look at all of them has {asked} bytes");
    for upload in &uploads {
        stack.call(Method::DELETE, &upload.path("")).await.expect(200);
    }
    for waits in waits {
        assert_eq!(waits.await.unwrap()["status"], "aborted");
    }
}

async fn who_waits_learns_of_the_end_while_redis_is_away(stack: Stack) {
    let stack = stack.sibling(Options { gated: true, ..Options::default() }).await;
    let redis = stack.production(|production| production.gates.clone()).unwrap().redis;
    let upload = stack.plan("a", &noise(10), 64 * KIB).await;
    let url = stack.url(&upload.path("?wait_for=completed&timeout_seconds=60"));
    let waits = tokio::spawn(answer(stack.clone(), url));
    redis.shut();
    stack.call(Method::DELETE, &upload.path("")).await.expect(200);
    assert_eq!(waits.await.unwrap()["status"], "aborted");
    back(&stack, &redis).await;
}

async fn after_a_gap_news_are_heard_again(stack: Stack) {
    let stack = stack.sibling(Options { gated: true, ..Options::default() }).await;
    let redis = stack.production(|production| production.gates.clone()).unwrap().redis;
    let queue = stack.ctx().queue.clone();
    let mut listener = queue.listen().await.unwrap();
    let before = Uuid::new_v4();
    queue.tell(before).await;
    assert_eq!(listener.next().await.unwrap(), News::Moved(before));
    redis.shut();
    eventually("it hears nothing", || async { (!listener.hears()).then_some(()) }).await;
    redis.open();
    assert_eq!(listener.next().await.unwrap(), News::Gap);
    let after = Uuid::new_v4();
    // Who tells comes back in its own time.
    let tells = async {
        loop {
            queue.tell(after).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let hears = async { while listener.next().await.unwrap() != News::Moved(after) {} };
    tokio::select! {
        () = hears => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("nothing is heard"),
        () = tells => {}
    }
    back(&stack, &redis).await;
}

/// Redis is there again, and the programs have noticed.
async fn back(stack: &Stack, redis: &Gate) {
    redis.open();
    eventually("readiness says so", || async {
        (stack.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
}
