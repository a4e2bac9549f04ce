//! What is done to an upload in one statement, where somebody else has changed it since it was read.

use std::time::Duration;

use sea_orm::ConnectionTrait;
use serde_json::json;
use upflow_core::db::{self, Db, now};
use upflow_core::uploads::{self as rows, SeenChunk};
use uuid::Uuid;

use crate::client::{KIB, noise};
use crate::harness::{Stack, Suite, eventually};
use crate::queries::all;
use crate::suite;

pub const SUITE: Suite = suite! { "overtaken":
    a_confirmation_that_is_taken_back_while_complete_waits_counts_no_more,
    a_checksum_that_comes_while_a_presign_without_it_waits_is_taken_back,
    a_first_confirm_that_waits_for_an_abort_keeps_nothing,
    a_first_confirm_after_another_one_leaves_the_upload_as_it_is,
    a_worker_that_waits_for_the_one_that_took_its_lease_completes_nothing,
};

const MINUTE: Duration = Duration::from_secs(60);

async fn a_confirmation_that_is_taken_back_while_complete_waits_counts_no_more(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, [0, 1]).await;
    let (db, id) = (&stack.ctx().db, upload.id);
    // As whoever takes one back does.
    let taken_back = [
        "UPDATE upload_sessions SET updated_at = now() WHERE upload_id",
        "UPDATE upload_chunks SET confirmed_at = NULL WHERE chunk_index = 1 AND upload_id",
    ];
    let complete = meanwhile(db, id, &taken_back, async move { upload.complete().await }).await;
    // It is in the bucket, so this call confirms it anew: the upload moves with it and not without.
    complete.expect(202);
    assert_eq!(confirmed(db).await, "2");
}

async fn a_checksum_that_comes_while_a_presign_without_it_waits_is_taken_back(stack: Stack) {
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.presign(1, None).await;
    let (db, id) = (stack.ctx().db.clone(), upload.id);
    // As a presign of both chunks does.
    let declared = [
        "UPDATE upload_sessions SET updated_at = now() WHERE upload_id",
        "INSERT INTO upload_chunks (upload_id, chunk_index, declared_checksum)
         SELECT upload_id, 0, 'AAAAAAAAAAA=' FROM upload_sessions WHERE upload_id",
        "UPDATE upload_chunks SET declared_checksum = 'AAAAAAAAAAA=' WHERE chunk_index = 1 AND upload_id",
    ];
    let path = upload.path("/chunks/presign");
    let chunks = json!({ "chunks": [{ "chunk_index": 0 }, { "chunk_index": 1 }] });
    let presign = async move { stack.post(&path, chunks).await };
    meanwhile(&db, id, &declared, presign).await.expect(200);
    let kept = rows::chunk_rows(&db, id, None).await.unwrap();
    let kept: Vec<_> = kept.into_iter().map(|chunk| chunk.declared_checksum).collect();
    assert_eq!(kept, [None, None]);
}

async fn a_first_confirm_that_waits_for_an_abort_keeps_nothing(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(10);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send(&bytes, 0).await;
    let (db, id) = (&stack.ctx().db, upload.id);
    let aborted = ["UPDATE upload_sessions SET status = 'aborted' WHERE upload_id"];
    let confirm = meanwhile(db, id, &aborted, async move { upload.confirm(0).await }).await;
    confirm.expect_problem(409, "upload_aborted");
    assert_eq!(confirmed(db).await, "0");
}

async fn a_first_confirm_after_another_one_leaves_the_upload_as_it_is(stack: Stack) {
    let bytes = noise(2 * 64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    let (db, life) = (&stack.ctx().db, stack.options().limits.upload_life);
    let read_before = rows::find(db, upload.id).await.unwrap();
    upload.send_and_confirm(&bytes, [0]).await;
    let moved = rows::find(db, upload.id).await.unwrap();
    let (size, etag) = (64 * KIB as i64, "etag".to_owned());
    let seen = [SeenChunk { index: 1, size, etag, checksum: None, known: false }];
    let later = read_before.created_at + MINUTE;
    let confirmed = rows::confirm(db, &read_before, &seen, life, later).await.unwrap();
    assert_eq!(confirmed.count, 2);
    assert_eq!(rows::find(db, upload.id).await.unwrap().updated_at, moved.updated_at);
}

async fn a_worker_that_waits_for_the_one_that_took_its_lease_completes_nothing(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(10);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, [0]).await;
    upload.complete().await.expect(202);
    let (db, id, lease) = (&stack.ctx().db, upload.id, Uuid::new_v4());
    rows::claim(db, id, lease, MINUTE, now()).await.unwrap().expect("it is free");
    let taken = ["UPDATE upload_sessions SET lease_id = gen_random_uuid() WHERE upload_id"];
    let integrity = rows::Integrity { level: "size_only", value: None };
    let finish = {
        let db = db.clone();
        async move { rows::finish(&db, id, lease, integrity, now()).await }
    };
    let finished = meanwhile(db, id, &taken, finish).await;
    assert!(matches!(finished, Err(rows::Error::LeaseLost)), "{finished:?}");
    assert_eq!(upload.status().await, "pending_assembly");
}

/// What comes of `act` where somebody else has made these changes to the upload before it and commits them while
/// it waits for the row.
async fn meanwhile<T: Send + 'static>(
    db: &Db,
    id: Uuid,
    changes: &[&str],
    act: impl Future<Output = T> + Send + 'static,
) -> T {
    let other = db::begin(db).await.unwrap();
    for change in changes {
        other.execute_unprepared(&format!("{change} = '{id}'")).await.unwrap();
    }
    let act = tokio::spawn(act);
    let waiting = "SELECT pid::text AS pid FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("it waits for the row", || async {
        (!all::<String>(db, waiting, &["pid"]).await.is_empty()).then_some(())
    })
    .await;
    other.commit().await.unwrap();
    act.await.unwrap()
}

/// So many chunks are confirmed, of all uploads.
async fn confirmed(db: &Db) -> String {
    let sql =
        "SELECT count(*)::text AS confirmed FROM upload_chunks WHERE confirmed_at IS NOT NULL";
    all::<String>(db, sql, &["confirmed"]).await.remove(0).remove(0)
}
