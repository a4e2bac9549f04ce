//! What the janitor does and never does: several deployments on one bucket, a database that is empty or
//! restored, and the look that changes nothing.

use std::time::Duration;

use reqwest::Method;
use sea_orm::ConnectionTrait;
use upflow_core::db::now;
use upflow_core::storage::{chunks, finals};
use upflow_core::uploads;

use crate::client::{KIB, MIB, Upload, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::processes::{environment, with};
use crate::programs::{Running, run};
use crate::suite;

/// With the programs of the production set.
pub const SUITE: Suite = suite! { "janitor":
    a_dry_run_says_what_would_be_done_and_does_nothing,
    an_empty_database_and_a_full_bucket_lose_nothing,
    two_deployments_on_one_bucket_lose_nothing,
    a_restored_database_goes_on_with_what_is_in_the_bucket,
    orphans_are_counted_and_go_only_when_told_and_old,
};

/// Everything that can be in a bucket: a finished file, an unfinished upload with parts, one just begun.
async fn various(stack: &Stack) -> (Upload, Upload, bytes::Bytes) {
    let bytes = noise(2 * 5 * MIB);
    let done = stack.plan("done.bin", &bytes, 5 * MIB).await;
    done.send_all(&bytes).await;
    done.complete_and_wait().await;
    done.assert_whole(&bytes).await;
    let open = stack.plan("open.bin", &bytes, 5 * MIB).await;
    open.send_and_confirm(&bytes, [0]).await;
    eventually("a part is there", || async {
        (open.get().await["assembled_chunks"] == 1).then_some(())
    })
    .await;
    (done, open, bytes)
}

async fn worker_says(stack: &Stack, arguments: &[&str]) -> String {
    let environment = environment(stack);
    let ended = run(with("upflow-worker", stack, &environment).args(arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out
}

/// Another deployment with a database of its own, on the bucket and prefix of `stack`; a janitor of it has
/// looked round several times.
async fn stranger(stack: &Stack) -> Stack {
    let key_prefix = stack.production(|production| production.storage.key_prefix.clone());
    let options = Options { key_prefix: Some(key_prefix), ..Options::default() };
    let stranger = stack.sibling(options).await;
    let mut environment = environment(stack);
    let url = stranger.production(|production| production.database.url.clone());
    environment.insert("DATABASE_URL", url);
    environment.insert("UPFLOW_JANITOR_INTERVAL", "100ms".to_owned());
    environment.insert("UPFLOW_RETENTION", "1s".to_owned());
    let mut worker = Running::start(&mut with("upflow-worker", stack, &environment));
    // The count of the orphans comes last in a round.
    worker.says("that this database does not know").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    worker.signal("TERM").await;
    assert_eq!(worker.ended().await.0, Some(0));
    stranger
}

async fn still_whole(done: &Upload, open: &Upload, bytes: &bytes::Bytes) {
    done.assert_whole(bytes).await;
    open.send_and_confirm(bytes, [1]).await;
    open.complete_and_wait().await;
    open.assert_whole(bytes).await;
}

async fn a_dry_run_says_what_would_be_done_and_does_nothing(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(64 * KIB);
    let pending = stack.plan("pending", &bytes, 64 * KIB).await;
    pending.send_all(&bytes).await;
    pending.complete().await.expect(202);
    let overdue = stack.plan("overdue", &bytes, 64 * KIB).await;
    let aborted = stack.plan("aborted", &bytes, 64 * KIB).await;
    aborted.send(&bytes, 0).await;
    stack.call(Method::DELETE, &aborted.path("")).await.expect(200);
    let retired = stack.plan("retired", &bytes, 64 * KIB).await;
    stack.call(Method::DELETE, &retired.path("")).await.expect(200);
    let db = &stack.ctx().db;
    let change = |upload: &Upload, set: &str| {
        let update = format!("UPDATE upload_sessions SET {set} WHERE upload_id = '{}'", upload.id);
        async move { db.execute_unprepared(&update).await.unwrap() }
    };
    change(&pending, "updated_at = now() - interval '1 day'").await;
    change(&overdue, "expires_at = now() - interval '1 second'").await;
    change(&retired, "updated_at = now() - interval '31 days', chunks_deleted_at = now()").await;
    let before = uploads::list(db, uploads::Filter { limit: 10, ..Default::default() }, now());
    let before = before.await.unwrap();
    let said = worker_says(&stack, &["janitor", "--dry-run"]).await;
    for (what, upload) in [
        ("announce again", &pending),
        ("expire", &overdue),
        ("clean up", &aborted),
        ("delete the row of", &retired),
    ] {
        let line = said.lines().find(|line| line.ends_with(&upload.id.to_string())).unwrap();
        assert!(line.starts_with(what), "{said}");
    }
    assert!(said.contains("4 actions; nothing was done"), "{said}");
    let after = uploads::list(db, uploads::Filter { limit: 10, ..Default::default() }, now());
    assert_eq!(after.await.unwrap(), before);
    let storage = &stack.ctx().storage;
    assert_eq!(storage.list(&chunks(aborted.id), None).await.unwrap().objects.len(), 1);
}

async fn an_empty_database_and_a_full_bucket_lose_nothing(stack: Stack) {
    let (done, open, bytes) = various(&stack).await;
    stranger(&stack).await;
    still_whole(&done, &open, &bytes).await;
}

async fn two_deployments_on_one_bucket_lose_nothing(stack: Stack) {
    let (done, open, bytes) = various(&stack).await;
    // It has uploads of its own too, which end in every way.
    let other = stranger(&stack).await;
    let (its_done, its_open, its_bytes) = various(&other).await;
    stack.call(Method::DELETE, &open.path("")).await.expect(200);
    open.assert_nothing_left().await;
    still_whole(&its_done, &its_open, &its_bytes).await;
    done.assert_whole(&bytes).await;
}

async fn a_restored_database_goes_on_with_what_is_in_the_bucket(stack: Stack) {
    let (done, open, bytes) = various(&stack).await;
    stack.stop_workers().await;
    // A backup from before `open` had a confirmed chunk, and before a third upload was begun at all.
    let db = &stack.ctx().db;
    let later = stack.plan("later.bin", &bytes, 5 * MIB).await;
    later.send_and_confirm(&bytes, [0]).await;
    for undo in [
        format!("DELETE FROM upload_sessions WHERE upload_id = '{}'", later.id),
        format!("DELETE FROM upload_chunks WHERE upload_id = '{}'", open.id),
        format!(
            "UPDATE upload_sessions SET status = 'initialized', multipart_upload_id = NULL, \
             assembly_id = NULL WHERE upload_id = '{}'",
            open.id
        ),
    ] {
        db.execute_unprepared(&undo).await.unwrap();
    }
    stack.start_worker();
    // The client goes on as after any interruption.
    let known = stack.call(Method::POST, &open.path("/reconcile")).await.expect(200);
    assert_eq!(known["uploaded_chunks"], serde_json::json!([0]));
    still_whole(&done, &open, &bytes).await;
    // What the backup does not know is kept, until somebody decides.
    let storage = &stack.ctx().storage;
    assert_eq!(storage.list(&chunks(later.id), None).await.unwrap().objects.len(), 1);
}

async fn orphans_are_counted_and_go_only_when_told_and_old(stack: Stack) {
    let (done, open, bytes) = various(&stack).await;
    stack.stop_workers().await;
    let forget = "DELETE FROM upload_sessions";
    stack.ctx().db.execute_unprepared(forget).await.unwrap();
    let said = worker_says(&stack, &["orphans"]).await;
    assert!(said.contains(&open.id.to_string()) && !said.contains(&done.id.to_string()), "{said}");
    assert!(said.contains("1 chunks, 5242880 bytes, 1 multipart uploads"), "{said}");
    assert!(said.contains("0 removed"), "{said}");
    // Too young.
    let said = worker_says(&stack, &["orphans", "--delete", "--older-than", "1h"]).await;
    assert!(said.contains("0 uploads without a row"), "{said}");
    // Deleting takes an age.
    let environment = environment(&stack);
    let ended =
        run(with("upflow-worker", &stack, &environment).args(["orphans", "--delete"])).await;
    assert_ne!(ended.code, Some(0));
    assert!(ended.err.contains("--older-than"), "{}", ended.err);
    let storage = &stack.ctx().storage;
    assert_eq!(storage.list(&chunks(open.id), None).await.unwrap().objects.len(), 1);
    // S3 keeps whole seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let said = worker_says(&stack, &["orphans", "--delete", "--older-than", "1s"]).await;
    assert!(said.contains("1 removed"), "{said}");
    open.assert_nothing_left().await;
    // A finished file without a row is no orphan.
    let finals = storage.list(&finals(done.id), None).await.unwrap().objects;
    assert_eq!((finals.len(), finals[0].size), (1, bytes.len() as i64));
}
