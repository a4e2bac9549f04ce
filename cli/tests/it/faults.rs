//! S3 that fails at any step: before it has heard of a call, after it has done it, in the middle of a body,
//! and with answers that are not true. The steps are those that a run without faults shows, so none is left
//! out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use serde_json::json;
use upflow_core::lifecycle::Status;
use uuid::Uuid;

use crate::client::{KIB, MIB, Upload, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::proxy::{Fault, Operation};
use crate::suite;

pub const SUITE: Suite = suite! { "faults":
    any_step_of_copying_may_fail_and_the_file_is_whole,
    any_step_of_streaming_may_fail_and_the_file_is_whole,
    no_chunk_is_deleted_before_completed_is_committed,
    a_storage_that_is_slow_to_anger_is_left_alone_and_holds_up_nobody_else,
    what_the_storage_refuses_is_given_up_and_may_be_completed_later,
    a_storage_that_hides_checksums_is_not_said_to_have_verified,
    a_storage_that_takes_any_bytes_is_not_said_to_have_verified,
    a_storage_that_ignores_the_condition_of_a_copy_is_found_out_by_a_look,
    a_storage_that_does_not_answer_is_a_503_and_not_an_endless_wait,
};

/// A stack behind a proxy, without workers.
async fn proxied(stack: &Stack, change: impl FnOnce(&mut Options)) -> Stack {
    let mut options = Options { proxied: true, ..Options::default() };
    options.worker.lease = Duration::from_secs(2);
    change(&mut options);
    let stack = stack.sibling(options).await;
    stack.stop_workers().await;
    stack
}

async fn pending(stack: &Stack, bytes: &Bytes, chunk_size: usize) -> Upload {
    let upload = stack.plan("file.bin", bytes, chunk_size).await;
    upload.send_all(bytes).await;
    upload.complete().await.expect(202);
    upload
}

/// What can become of a call of this operation, and how often in a row.
fn faults(operation: Operation) -> Vec<(Fault, usize)> {
    // Three in a row outlast the SDK's own tries, so that the attempt ends.
    let mut faults = vec![
        (Fault::LoseRequest, 1),
        (Fault::LoseAnswer, 1),
        (Fault::FailAfter(500, "InternalError"), 3),
        (Fault::Refuse(503, "SlowDown"), 3),
    ];
    match operation {
        Operation::CompleteMultipartUpload => faults.extend([
            (Fault::FailAfter(404, "NoSuchUpload"), 3),
            (Fault::FailAfter(403, "AccessDenied"), 1),
            (Fault::FailAfter(200, "InternalError"), 3),
            (Fault::Refuse(200, "InternalError"), 3),
            (Fault::CutAnswer, 1),
        ]),
        Operation::GetObject | Operation::ListObjects => faults.push((Fault::CutAnswer, 1)),
        Operation::UploadPart => faults.push((Fault::CutRequest, 1)),
        _ => {}
    }
    faults
}

/// The fault of each upload: at its call of this number, and how often in a row; and how often it came.
type Script = Arc<Mutex<HashMap<Uuid, (usize, Fault, usize, usize)>>>;

fn perform(stack: &Stack, script: &Script) {
    let seen: Mutex<HashMap<Uuid, usize>> = Mutex::default();
    let script = script.clone();
    stack.proxy().rule(move |call| {
        let upload = call.upload.filter(|_| !call.presigned)?;
        let mut script = script.lock().unwrap();
        let (at, fault, times, came) = script.get_mut(&upload)?;
        let mut seen = seen.lock().unwrap();
        let number = seen.entry(upload).or_default();
        *number += 1;
        let now = (*at + 1..=*at + *times).contains(number);
        now.then(|| {
            *came += 1;
            *fault
        })
    });
}

async fn any_step_may_fail(stack: Stack, bytes: Bytes, chunk_size: usize) {
    let stack = proxied(&stack, |_| {}).await;
    // What happens when nothing fails.
    let smooth = pending(&stack, &bytes, chunk_size).await;
    stack.proxy().forget_calls();
    stack.start_worker();
    smooth.wait_for("completed").await;
    smooth.assert_whole(&bytes).await;
    stack.stop_workers().await;
    let steps: Vec<Operation> = stack
        .proxy()
        .calls()
        .iter()
        .filter(|call| call.upload == Some(smooth.id) && !call.presigned)
        .map(|call| call.operation)
        .collect();
    for needed in [Operation::CompleteMultipartUpload, Operation::DeleteObjects] {
        assert!(steps.contains(&needed), "{steps:?}");
    }

    let mut plays = Vec::new();
    for (at, operation) in steps.iter().enumerate() {
        plays.extend(faults(*operation).into_iter().map(|(fault, times)| (at, fault, times)));
    }
    let uploads: Vec<Upload> = stream::iter(0..plays.len())
        .map(|_| pending(&stack, &bytes, chunk_size))
        .buffered(4)
        .collect()
        .await;
    let script = Script::default();
    for (upload, (at, fault, times)) in uploads.iter().zip(&plays) {
        script.lock().unwrap().insert(upload.id, (*at, *fault, *times, 0));
    }
    perform(&stack, &script);
    stack.start_worker();
    stack.start_worker();
    for (upload, (at, fault, _)) in uploads.iter().zip(&plays) {
        upload.wait_for("completed").await;
        upload.assert_whole(&bytes).await;
        let came = script.lock().unwrap()[&upload.id].3;
        assert!(came > 0, "{fault:?} did not come at step {at}, {:?}", steps[*at]);
        let events = upload.events().await;
        assert_eq!(events.iter().filter(|event| *event == "assembly_finished").count(), 1);
    }
}

async fn any_step_of_copying_may_fail_and_the_file_is_whole(stack: Stack) {
    any_step_may_fail(stack, noise(5 * MIB + 100 * KIB), 5 * MIB).await;
}

async fn any_step_of_streaming_may_fail_and_the_file_is_whole(stack: Stack) {
    any_step_may_fail(stack, noise(2 * 64 * KIB + 7), 64 * KIB).await;
}

async fn no_chunk_is_deleted_before_completed_is_committed(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    let seen: Arc<Mutex<Vec<Status>>> = Arc::default();
    let (db, statuses) = (stack.ctx().db.clone(), seen.clone());
    stack.proxy().watch(move |call| {
        let (db, statuses) = (db.clone(), statuses.clone());
        async move {
            let deletes = [Operation::DeleteObject, Operation::DeleteObjects];
            if let Some(id) = call.upload.filter(|id| !id.is_nil())
                && deletes.contains(&call.operation)
            {
                let row = upflow_core::uploads::find(&db, id).await.unwrap();
                statuses.lock().unwrap().push(row.status);
            }
            None
        }
        .boxed()
    });
    for chunk_size in [64 * KIB, 5 * MIB] {
        let bytes = noise(2 * chunk_size + 5);
        let upload = pending(&stack, &bytes, chunk_size).await;
        stack.start_worker();
        upload.wait_for("completed").await;
        upload.assert_whole(&bytes).await;
        stack.stop_workers().await;
    }
    let statuses = seen.lock().unwrap().clone();
    assert!(statuses.len() >= 2, "{statuses:?}");
    assert!(statuses.iter().all(|status| *status == Status::Completed), "{statuses:?}");
}

async fn a_storage_that_is_slow_to_anger_is_left_alone_and_holds_up_nobody_else(stack: Stack) {
    // One place: who waits must not hold it.
    let stack = proxied(&stack, |options| options.worker.jobs = 1).await;
    let bytes = noise(5 * MIB + 5 * KIB);
    let angry = pending(&stack, &bytes, 5 * MIB).await;
    let id = angry.id;
    stack.proxy().rule(move |call| {
        let copy = call.operation == Operation::UploadPartCopy && call.upload == Some(id);
        copy.then_some(Fault::Refuse(503, "SlowDown"))
    });
    stack.start_worker();
    eventually("an attempt failed", || async {
        angry.events().await.contains(&"attempt_failed".to_owned()).then_some(())
    })
    .await;
    // As long as the server said, and not only as long as we would.
    let row = upflow_core::uploads::find(&stack.ctx().db, id).await.unwrap();
    let pause = row.lease_until.unwrap() - row_event(&angry).await;
    assert!(pause >= chrono::TimeDelta::seconds(2), "{pause}");
    let calm = pending(&stack, &bytes, 5 * MIB).await;
    calm.wait_for("completed").await;
    assert_eq!(angry.status().await, "pending_assembly");
    stack.proxy().pass_all();
    angry.wait_for("completed").await;
    angry.assert_whole(&bytes).await;
}

/// When the upload's last attempt failed.
async fn row_event(upload: &Upload) -> chrono::DateTime<chrono::Utc> {
    let events = upload.event_times().await;
    events.into_iter().rfind(|(name, _)| name == "attempt_failed").unwrap().1
}

async fn what_the_storage_refuses_is_given_up_and_may_be_completed_later(stack: Stack) {
    let stack = proxied(&stack, |options| options.worker.attempts = 2).await;
    let bytes = noise(5 * MIB + 5 * KIB);
    let upload = pending(&stack, &bytes, 5 * MIB).await;
    stack.proxy().rule(|call| {
        let copy = call.operation == Operation::UploadPartCopy;
        copy.then_some(Fault::Refuse(400, "InvalidRequest"))
    });
    stack.start_worker();
    let failed = upload.wait_for("failed").await;
    assert_eq!(failed["failure"]["code"], "assembly_failed");
    // The chunks are kept.
    assert_eq!(failed["uploaded_chunks"], json!([0, 1]));
    stack.proxy().pass_all();
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn level(stack: &Stack, bytes: &Bytes) -> String {
    let upload = pending(stack, bytes, 5 * MIB).await;
    stack.start_worker();
    let done = upload.wait_for("completed").await;
    upload.assert_whole(bytes).await;
    stack.stop_workers().await;
    assert_eq!(done["integrity"]["value"], crate::client::crc64(bytes));
    done["integrity"]["level"].as_str().unwrap().to_owned()
}

async fn a_storage_that_hides_checksums_is_not_said_to_have_verified(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    let bytes = noise(5 * MIB + 5 * KIB);
    stack.proxy().rule(|_| Some(Fault::HideChecksums));
    assert_eq!(level(&stack, &bytes).await, "client_checksums");
    stack.proxy().pass_all();
    // The store of the embedded set and SeaweedFS enforce every step.
    assert_eq!(level(&stack, &bytes).await, "storage_verified");
}

async fn a_storage_that_takes_any_bytes_is_not_said_to_have_verified(stack: Stack) {
    for lie in [Operation::PutObject, Operation::CompleteMultipartUpload] {
        let stack = proxied(&stack, |_| {}).await;
        stack.proxy().rule(move |call| {
            let trial = call.upload == Some(Uuid::nil());
            let lies = trial && call.operation == lie;
            lies.then_some(Fault::FailAfter(200, ""))
        });
        let level = level(&stack, &noise(5 * MIB + 5 * KIB)).await;
        assert_eq!(level, "client_checksums", "{lie:?}");
        assert!(stack.proxy().count(lie) > 0);
    }
}

async fn a_storage_that_does_not_answer_is_a_503_and_not_an_endless_wait(stack: Stack) {
    let stack = proxied(&stack, |options| options.s3_timeout = Duration::from_millis(500)).await;
    let bytes = noise(64 * KIB);
    let upload = stack.plan("a", &bytes, 64 * KIB).await;
    upload.send(&bytes, 0).await;
    stack.proxy().rule(|_| Some(Fault::HoldRequest));
    let answer = upload.confirm(0).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.expect_problem(503, "storage_unavailable");
    let ready = stack.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.body["storage"]), (503, &json!("unavailable")));
    stack.proxy().pass_all();
    upload.confirm(0).await.expect(200);
}

async fn a_storage_that_ignores_the_condition_of_a_copy_is_found_out_by_a_look(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    let right = noise(2 * 5 * MIB);
    let upload = stack.plan("file.bin", &right, 5 * MIB).await;
    // A URL that is still alive, for other bytes of the same length.
    let wrong: Bytes = vec![7; 5 * MIB].into();
    let alive = upload.presign(0, Some(crate::client::crc64(&wrong))).await;
    upload.send_all(&right).await;
    upload.complete().await.expect(202);
    assert_eq!(upload.put(&alive, wrong).await, 200);
    // It copies the wrong bytes and says so, without a checksum to tell by.
    let copied =
        "<CopyPartResult><ETag>\"0123456789abcdef0123456789abcdef\"</ETag></CopyPartResult>";
    stack.proxy().rule(move |call| {
        (call.operation == Operation::UploadPartCopy).then_some(Fault::Pretend(copied))
    });
    stack.start_worker();
    let back = upload.wait_for("uploading").await;
    assert_eq!(back["failure"]["code"], "chunk_lost");
    assert_eq!(back["failure"]["chunk_indexes"], json!([0]));
    stack.proxy().pass_all();
    upload.send_and_confirm(&right, [0]).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&right).await;
}
