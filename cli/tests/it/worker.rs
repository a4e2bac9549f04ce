//! Workers: several at once, killed in the middle, with lost and doubled messages, and what they find
//! when somebody has been at the bucket.

use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface, StreamsInterface};
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use upflow_core::checksum::Algorithm;
use upflow_core::config::QueueSettings;
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::queue::Job;
use upflow_core::storage::{Filename, NewMultipart, ObjectKey};
use upflow_core::uploads;

use crate::client::{KIB, MIB, Upload, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::suite;

pub const SUITE: Suite = suite! { "worker":
    several_workers_share_many_uploads_and_finish_each_once,
    a_job_announced_many_times_is_done_once,
    a_worker_overtaken_in_the_middle_changes_nothing_and_the_file_is_whole,
    a_chunk_deleted_after_its_confirm_sends_the_upload_back,
    a_chunk_overwritten_after_its_confirm_is_never_in_the_file,
    an_aborted_upload_leaves_nothing_whatever_was_sent,
    a_multipart_upload_that_vanished_is_made_again,
    rows_past_their_retention_go_and_the_file_stays,
    a_file_mended_after_a_failure_is_assembled_anew,
    a_chunk_that_lands_after_the_clean_up_is_removed_by_the_next_one,
    what_a_trial_of_the_storage_has_left_is_removed,
};

/// With the stream of the production set.
pub const REDIS: Suite = suite! { "redis":
    redis_emptied_between_complete_and_assembly_loses_nothing,
    the_stream_holds_nothing_once_the_work_is_done,
    a_message_of_a_dead_consumer_is_taken_over_and_the_consumer_removed,
};

pub async fn redis(settings: &QueueSettings) -> fred::clients::Client {
    let config = fred::types::config::Config::from_url(&settings.url).unwrap();
    let client = fred::types::Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    client
}

async fn pending(stack: &Stack, bytes: &bytes::Bytes, chunk_size: usize) -> Upload {
    let upload = stack.plan("file.bin", bytes, chunk_size).await;
    upload.send_all(bytes).await;
    upload.complete().await.expect(202);
    upload
}

async fn several_workers_share_many_uploads_and_finish_each_once(stack: Stack) {
    stack.start_worker();
    stack.start_worker();
    let bytes = noise(3 * 64 * KIB);
    let uploads = join_all((0..12).map(|_| pending(&stack, &bytes, 64 * KIB))).await;
    for upload in &uploads {
        upload.wait_for("completed").await;
        upload.assert_whole(&bytes).await;
        let events = upload.events().await;
        let finished = events.iter().filter(|event| *event == "assembly_finished");
        assert_eq!(finished.count(), 1, "{events:?}");
    }
}

async fn a_job_announced_many_times_is_done_once(stack: Stack) {
    stack.start_worker();
    stack.stop_workers().await;
    let bytes = noise(11 * MIB);
    let upload = pending(&stack, &bytes, 5 * MIB).await;
    for _ in 0..20 {
        stack.ctx().queue.push(Job { upload_id: upload.id }).await.unwrap();
    }
    stack.start_worker();
    stack.start_worker();
    upload.wait_for("completed").await;
    for _ in 0..5 {
        stack.call(Method::POST, &upload.path("/requeue")).await.expect(200);
    }
    upload.assert_whole(&bytes).await;
    let events = upload.events().await;
    assert_eq!(events.iter().filter(|event| *event == "assembly_finished").count(), 1);
}

async fn a_worker_overtaken_in_the_middle_changes_nothing_and_the_file_is_whole(stack: Stack) {
    use sea_orm::ConnectionTrait;
    stack.stop_workers().await;
    let bytes = noise(40 * MIB + 3);
    let upload = pending(&stack, &bytes, 5 * MIB).await;
    let (db, mut overtaken) = (&stack.ctx().db, 0);
    // At several moments of its work, from the moment on at which it holds the lease.
    for delay in [0, 60] {
        stack.start_worker();
        let row = eventually("a worker holds the lease, or is done", || async {
            let row = uploads::find(db, upload.id).await.unwrap();
            (row.lease_id.is_some() || row.status != Status::PendingAssembly).then_some(row)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        stack.abandon_workers().await;
        if row.status != Status::PendingAssembly {
            break;
        }
        overtaken += 1;
        // As when the lease has run out and the janitor has announced the upload: the job of the
        // worker before is still under way.
        let free = "UPDATE upload_sessions SET lease_id = NULL, lease_until = NULL";
        db.execute_unprepared(free).await.unwrap();
        stack.ctx().queue.push(Job { upload_id: upload.id }).await.unwrap();
    }
    assert!(overtaken > 0, "no worker was overtaken while it worked");
    stack.start_worker();
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}

async fn a_chunk_deleted_after_its_confirm_sends_the_upload_back(stack: Stack) {
    for chunk_size in [64 * KIB, 5 * MIB] {
        stack.stop_workers().await;
        let bytes = noise(2 * chunk_size + 5);
        let upload = pending(&stack, &bytes, chunk_size).await;
        let key = ObjectKey::Chunk { upload_id: upload.id, index: 1 }.to_string();
        stack.ctx().storage.delete_all(&key).await.unwrap();
        stack.start_worker();
        let back = upload.wait_for("uploading").await;
        assert_eq!(back["failure"]["code"], "chunk_lost");
        assert_eq!(back["failure"]["chunk_indexes"], json!([1]));
        assert_eq!(back["uploaded_chunks"], json!([0, 2]));
        upload.send_and_confirm(&bytes, [1]).await;
        upload.complete_and_wait().await;
        upload.assert_whole(&bytes).await;
    }
}

async fn a_chunk_overwritten_after_its_confirm_is_never_in_the_file(stack: Stack) {
    for chunk_size in [64 * KIB, 5 * MIB] {
        stack.stop_workers().await;
        let right = noise(2 * chunk_size);
        let upload = stack.plan("file.bin", &right, chunk_size).await;
        // A URL that is still alive, for other bytes of the same length.
        let wrong: bytes::Bytes = vec![7; chunk_size].into();
        let alive = upload.presign(0, Some(crate::client::crc64(&wrong))).await;
        upload.send_all(&right).await;
        upload.complete().await.expect(202);
        assert_eq!(upload.put(&alive, wrong).await, 200);
        stack.start_worker();
        let back = upload.wait_for("uploading").await;
        assert_eq!(back["failure"]["chunk_indexes"], json!([0]));
        upload.send_and_confirm(&right, [0]).await;
        upload.complete_and_wait().await;
        upload.assert_whole(&right).await;
    }
}

async fn an_aborted_upload_leaves_nothing_whatever_was_sent(stack: Stack) {
    let bytes = noise(5 * 64 * KIB);
    let upload = stack.plan("file.bin", &bytes, 64 * KIB).await;
    upload.send_and_confirm(&bytes, 0..3).await;
    upload.send(&bytes, 4).await;
    let late = upload.presign(2, None).await;
    stack.call(Method::DELETE, &upload.path("")).await.expect(200);
    stack.call(Method::DELETE, &upload.path("")).await.expect(200);
    upload.assert_nothing_left().await;
    // A URL that is still alive makes a chunk again: it is not forgotten, for the row waits until the
    // URL is dead.
    assert_eq!(upload.put(&late, upload.cut(&bytes, 2)).await, 200);
    let row = upflow_core::uploads::find(&stack.ctx().db, upload.id).await.unwrap();
    assert!(row.chunks_deleted_at.is_none());
    assert!(row.lease_until.is_some_and(|again| again > row.urls_expire_at));
}

async fn a_multipart_upload_that_vanished_is_made_again(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(12 * MIB);
    let upload = pending(&stack, &bytes, 5 * MIB).await;
    let (db, storage) = (&stack.ctx().db, &stack.ctx().storage);
    // A worker got as far as to make one, and ended; then a rule of the bucket removed it.
    let (lease, assembly_id) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let minute = Duration::from_secs(60);
    uploads::claim(db, upload.id, lease, minute, now()).await.unwrap().unwrap();
    let filename = Filename::parse("file.bin").unwrap();
    let new = NewMultipart {
        key: ObjectKey::Final { upload_id: upload.id, filename: filename.clone() },
        filename: &filename,
        content_type: "application/octet-stream",
        algorithm: Algorithm::Crc64Nvme,
        assembly_id,
    };
    let multipart = storage.create_multipart(new).await.unwrap();
    let id = Some(multipart.upload_id.as_str());
    uploads::set_multipart(db, upload.id, lease, id, assembly_id).await.unwrap();
    storage.abort_multipart(&multipart.key, &multipart.upload_id).await.unwrap();
    let why = "it ended".to_owned();
    uploads::hand_back(db, upload.id, lease, now(), why, false, now()).await.unwrap();

    stack.start_worker();
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
    let events = upload.events().await;
    let failed = events.iter().filter(|event| *event == "attempt_failed").count();
    assert_eq!(failed, 2, "that of the test, and the one that found it gone: {events:?}");
}

async fn a_file_mended_after_a_failure_is_assembled_anew(stack: Stack) {
    use sea_orm::ConnectionTrait;
    for chunk_size in [64 * KIB, 5 * MIB] {
        let old = noise(2 * chunk_size);
        let upload = stack.plan("mended.bin", &old, chunk_size).await;
        upload.send_all(&old).await;
        upload.complete_and_wait().await;
        upload.assert_whole(&old).await;
        // As if Complete had taken effect and nobody had heard of it until the worker gave up: the object
        // is there, with the assembly's id, and the upload has failed.
        let failed = "UPDATE upload_sessions SET status = 'failed', chunks_deleted_at = NULL, \
                      lease_until = NULL WHERE status = 'completed'";
        stack.ctx().db.execute_unprepared(failed).await.unwrap();
        let new: bytes::Bytes = old.iter().map(|byte| !byte).collect::<Vec<u8>>().into();
        upload.send_all(&new).await;
        upload.complete_and_wait().await;
        upload.assert_whole(&new).await;
    }
}

async fn a_chunk_that_lands_after_the_clean_up_is_removed_by_the_next_one(stack: Stack) {
    let mut options = Options::default();
    options.limits.url_life = Duration::from_secs(4);
    let stack = stack.sibling(options).await;
    let bytes = noise(100);
    let upload = stack.plan("late.bin", &bytes, 64 * KIB).await;
    let presigned = upload.presign(0, None).await;
    stack.call(Method::DELETE, &upload.path("")).await.expect(200);
    eventually("it was cleaned up once", || async {
        let row = upflow_core::uploads::find(&stack.ctx().db, upload.id).await.unwrap();
        row.lease_until.filter(|_| row.lease_id.is_none())
    })
    .await;
    assert_eq!(upload.put(&presigned, bytes).await, 200);
    eventually("it was cleaned up for good", || async {
        let row = upflow_core::uploads::find(&stack.ctx().db, upload.id).await.unwrap();
        row.chunks_deleted_at
    })
    .await;
    let page = stack.ctx().storage.list(&upflow_core::storage::chunks(upload.id), None).await;
    assert!(page.unwrap().objects.is_empty());
}

async fn what_a_trial_of_the_storage_has_left_is_removed(stack: Stack) {
    // As a worker leaves it that is killed after the first step of each trial.
    let storage = &stack.ctx().storage;
    let filename = Filename::parse("trial").unwrap();
    let key = ObjectKey::Final { upload_id: uuid::Uuid::nil(), filename: filename.clone() };
    let new = NewMultipart {
        key: key.clone(),
        filename: &filename,
        content_type: "application/octet-stream",
        algorithm: Algorithm::Crc32c,
        assembly_id: uuid::Uuid::nil(),
    };
    storage.create_multipart(new).await.unwrap();
    let left =
        || async { storage.list_multiparts(&key.to_string(), None).await.unwrap().uploads.len() };
    // One under way is left alone.
    storage.remove_trials(now() - Duration::from_secs(60)).await.unwrap();
    assert_eq!(left().await, 1);
    storage.remove_trials(now() + Duration::from_secs(60)).await.unwrap();
    assert_eq!(left().await, 0);
    for algorithm in Algorithm::ALL {
        let abilities = storage.abilities(algorithm).await.unwrap();
        assert!(abilities.refuses_wrong_chunks && abilities.refuses_wrong_files, "{algorithm}");
    }
    assert_eq!(left().await, 0, "a trial that ends leaves nothing");
}

async fn rows_past_their_retention_go_and_the_file_stays(stack: Stack) {
    let mut options = Options::default();
    options.limits.retention = Duration::from_secs(1);
    let stack = stack.sibling(options).await;
    let upload = stack.plan("empty", &noise(0), 64 * KIB).await;
    upload.complete_and_wait().await;
    let finals = upflow_core::storage::finals(upload.id);
    eventually("the row is gone", || async {
        (stack.get(&upload.path("")).await.status == 404).then_some(())
    })
    .await;
    assert_eq!(stack.ctx().storage.list(&finals, None).await.unwrap().objects.len(), 1);
}

async fn redis_emptied_between_complete_and_assembly_loses_nothing(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(3 * 64 * KIB);
    let upload = pending(&stack, &bytes, 64 * KIB).await;
    let settings = stack.production(|production| production.queue.clone());
    let redis = redis(&settings).await;
    // Stream, group and message: what FLUSHALL leaves of this deployment's queue.
    let deleted: i64 = redis.del(&settings.stream).await.unwrap();
    assert_eq!(deleted, 1);
    stack.start_worker();
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;

    // And under the hands of a worker that waits for a message.
    let deleted: i64 = redis.del(&settings.stream).await.unwrap();
    assert_eq!(deleted, 1);
    let upload = pending(&stack, &bytes, 64 * KIB).await;
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}

async fn the_stream_holds_nothing_once_the_work_is_done(stack: Stack) {
    stack.start_worker();
    let bytes = noise(64 * KIB);
    let uploads = join_all((0..6).map(|_| pending(&stack, &bytes, 64 * KIB))).await;
    for upload in uploads {
        upload.wait_for("completed").await;
        upload.assert_nothing_left().await;
    }
    let settings = stack.production(|production| production.queue.clone());
    let redis = redis(&settings).await;
    eventually("the stream is empty", || async {
        let length: i64 = redis.xlen(&settings.stream).await.unwrap();
        (length == 0).then_some(())
    })
    .await;
    // Workers that end take their consumers with them.
    stack.stop_workers().await;
    let consumers: Vec<fred::types::Value> =
        redis.xinfo_consumers(&settings.stream, "workers").await.unwrap();
    assert!(consumers.is_empty(), "{consumers:?}");
}

async fn a_message_of_a_dead_consumer_is_taken_over_and_the_consumer_removed(stack: Stack) {
    stack.stop_workers().await;
    let mut dead = stack.ctx().queue.consumer().await.unwrap();
    let job = Job { upload_id: uuid::Uuid::new_v4() };
    stack.ctx().queue.push(job).await.unwrap();
    let taken = dead.next().await.unwrap().unwrap();
    assert_eq!(taken.job, job);
    // Young messages stay with their consumer.
    let mut living = stack.ctx().queue.consumer().await.unwrap();
    assert!(living.take_over().await.unwrap().is_none());

    // To somebody with less patience it is dead.
    let settings = stack.production(|production| production.queue.clone());
    let patience = Duration::from_millis(50);
    let impatient =
        QueueSettings { claim_after: patience, remove_after: patience, ..settings.clone() };
    let queue = upflow_core::queue::Queue::redis(&impatient).await.unwrap();
    let mut heir = queue.consumer().await.unwrap();
    tokio::time::sleep(2 * patience).await;
    let claimed = heir.take_over().await.unwrap().unwrap();
    assert_eq!(claimed.job, job);
    claimed.done().await.unwrap();
    let redis = redis(&settings).await;
    assert_eq!(redis.xlen::<i64, _>(&settings.stream).await.unwrap(), 0);
    assert!(heir.take_over().await.unwrap().is_none());
    let consumers: Vec<std::collections::HashMap<String, fred::types::Value>> =
        redis.xinfo_consumers(&settings.stream, "workers").await.unwrap();
    let names: Vec<String> = consumers.iter().filter_map(|one| one["name"].as_string()).collect();
    assert!(!names.contains(&dead.name().to_owned()), "{names:?}");
}
