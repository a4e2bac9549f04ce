//! Copying while the client still sends.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use tokio::sync::watch;
use upflow_core::db::now;
use upflow_core::storage::ObjectKey;
use upflow_core::uploads::{self, CopiedPart, Error};
use uuid::Uuid;

use crate::client::{KIB, MIB, Upload, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::proxy::{Fault, Operation};
use crate::suite;

pub const SUITE: Suite = suite! { "ahead":
    confirmed_chunks_are_copied_while_the_client_still_sends,
    copying_ahead_costs_no_call_to_s3_more,
    a_chunk_confirmed_anew_is_copied_anew,
    a_chunk_gone_before_it_is_copied_is_named_and_can_be_sent_again,
    an_upload_that_ends_otherwise_leaves_neither_parts_nor_chunks,
    copying_ahead_gives_way_to_an_upload_that_waits_for_its_end,
    an_error_while_copying_ahead_does_not_fail_the_upload,
    a_client_that_completes_in_the_middle_of_it_is_served_by_the_same_worker,
    the_last_chunks_do_not_wait_for_copies_that_are_under_way,
    a_copy_is_written_down_by_the_holder_of_the_lease_and_of_the_chunk_as_it_is,
};

pub async fn proxied(stack: &Stack, change: impl FnOnce(&mut Options)) -> Stack {
    let mut options = Options { proxied: true, ..Options::default() };
    change(&mut options);
    stack.sibling(options).await
}

/// Has the server's calls of this operation wait until they are released.
pub fn held_back(stack: &Stack, operation: Operation) -> watch::Sender<bool> {
    let (release, released) = watch::channel(false);
    stack.proxy().watch(move |call| {
        let mut released = released.clone();
        async move {
            if call.operation == operation && !call.presigned {
                let _ = released.wait_for(|released| *released).await;
            }
            None
        }
        .boxed()
    });
    release
}

pub async fn copied(upload: &Upload, count: usize) {
    eventually("so many chunks are copied", || async {
        let upload = upload.get().await;
        assert_eq!(upload["status"], "uploading");
        (upload["assembled_chunks"] == count).then_some(())
    })
    .await;
}

async fn confirmed_chunks_are_copied_while_the_client_still_sends(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    let bytes = noise(3 * 5 * MIB + 5 * KIB);
    let upload = stack.plan("file.bin", &bytes, 5 * MIB).await;
    upload.send_and_confirm(&bytes, [2, 0]).await;
    copied(&upload, 2).await;
    // More come, and nothing but their confirmation announces them.
    upload.send_and_confirm(&bytes, [1]).await;
    copied(&upload, 3).await;
    upload.send_and_confirm(&bytes, [3]).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
    let proxy = stack.proxy();
    assert_eq!(proxy.count(Operation::UploadPartCopy), 4, "each chunk once");
}

/// How often each operation was called by the server itself for an upload of four chunks.
async fn calls(stack: &Stack, eager: bool, chunk: usize) -> BTreeMap<String, usize> {
    let stack = proxied(stack, |options| options.limits.eager = eager).await;
    let bytes = noise(3 * chunk + 5 * KIB);
    let upload = stack.plan("file.bin", &bytes, chunk).await;
    upload.send_and_confirm(&bytes, 0..4).await;
    if eager {
        copied(&upload, 4).await;
    }
    assert!(eager || upload.get().await["assembled_chunks"] == 0);
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
    let mut counts = BTreeMap::new();
    for call in stack.proxy().calls() {
        if call.upload == Some(upload.id) && !call.presigned {
            *counts.entry(format!("{:?}", call.operation)).or_default() += 1;
        }
    }
    counts
}

async fn copying_ahead_costs_no_call_to_s3_more(stack: Stack) {
    for chunk in [5 * MIB, 4 * MIB] {
        assert_eq!(calls(&stack, true, chunk).await, calls(&stack, false, chunk).await);
    }
}

async fn a_chunk_confirmed_anew_is_copied_anew(stack: Stack) {
    let old = noise(2 * 5 * MIB);
    let upload = stack.plan("file.bin", &old, 5 * MIB).await;
    upload.send_and_confirm(&old, [0]).await;
    copied(&upload, 1).await;
    let new: bytes::Bytes = old.iter().map(|byte| !byte).collect::<Vec<u8>>().into();
    upload.send_and_confirm(&new, [0]).await;
    upload.send_and_confirm(&old, [1]).await;
    copied(&upload, 2).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&[&new[..5 * MIB], &old[5 * MIB..]].concat().into()).await;
}

async fn a_chunk_gone_before_it_is_copied_is_named_and_can_be_sent_again(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(3 * 5 * MIB);
    let upload = stack.plan("file.bin", &bytes, 5 * MIB).await;
    upload.send_and_confirm(&bytes, 0..3).await;
    let key = ObjectKey::Chunk { upload_id: upload.id, index: 1 }.to_string();
    stack.ctx().storage.delete_all(&key).await.unwrap();
    stack.start_worker();
    stack.call(Method::POST, &upload.path("/requeue")).await.expect(200);
    let told = eventually("it is told", || async {
        let upload = upload.get().await;
        upload.get("failure").is_some().then_some(upload)
    })
    .await;
    assert_eq!(told["failure"]["code"], "chunk_lost");
    assert_eq!(told["failure"]["chunk_indexes"], json!([1]));
    assert_eq!(told["uploaded_chunks"], json!([0, 2]));
    assert_eq!(told["status"], "uploading");
    upload.send_and_confirm(&bytes, [1]).await;
    let done = upload.complete_and_wait().await;
    assert!(done.get("failure").is_none());
    upload.assert_whole(&bytes).await;
}

async fn an_upload_that_ends_otherwise_leaves_neither_parts_nor_chunks(stack: Stack) {
    let mut options = Options::default();
    options.limits.upload_life = Duration::from_secs(6);
    let brief = stack.sibling(options).await;
    let bytes = noise(2 * 5 * MIB);
    let expiring = brief.plan("file.bin", &bytes, 5 * MIB).await;
    expiring.send_and_confirm(&bytes, [0]).await;
    copied(&expiring, 1).await;
    let aborted = stack.plan("file.bin", &bytes, 5 * MIB).await;
    aborted.send_and_confirm(&bytes, [0]).await;
    copied(&aborted, 1).await;
    stack.call(Method::DELETE, &aborted.path("")).await.expect(200);
    aborted.assert_nothing_left().await;
    eventually("the other one has expired", || async {
        expiring.events().await.contains(&"expired".to_owned()).then_some(())
    })
    .await;
    expiring.assert_nothing_left().await;
}

async fn copying_ahead_gives_way_to_an_upload_that_waits_for_its_end(stack: Stack) {
    let stack = proxied(&stack, |options| {
        options.worker.jobs = 1;
        options.worker.copies = 1;
    })
    .await;
    gives_way(stack, 5 * MIB, Operation::UploadPartCopy).await;
}

/// An upload of eight chunks to one of two, where one call of `making` is under way at a time.
pub async fn gives_way(stack: Stack, chunk: usize, making: Operation) {
    stack.stop_workers().await;
    let bytes = noise(8 * chunk);
    let patient = stack.plan("file.bin", &bytes, chunk).await;
    patient.send_and_confirm(&bytes, 0..8).await;
    let short = noise(chunk + 5 * KIB);
    let urgent = stack.plan("file.bin", &short, chunk).await;
    urgent.send_all(&short).await;
    // The first copy ahead takes until the other upload is at its end.
    let (patient_id, urgent_id) = (patient.id, urgent.id);
    stack.proxy().rule(move |call| {
        let copy = call.operation == making;
        let slow = copy && (call.upload == Some(patient_id) || call.upload == Some(urgent_id));
        slow.then_some(Fault::Delay(Duration::from_millis(700)))
    });
    stack.proxy().forget_calls();
    stack.start_worker();
    eventually("a chunk is being copied ahead", || async {
        (stack.proxy().count(making) > 0).then_some(())
    })
    .await;
    urgent.complete().await.expect(202);
    urgent.wait_for("completed").await;
    let calls = stack.proxy().calls();
    let copies = calls.iter().filter(|call| call.operation == making);
    let order: Vec<bool> = copies.map(|call| call.upload == Some(urgent_id)).collect();
    let last_urgent = order.iter().rposition(|urgent| *urgent).unwrap();
    let ahead = order[..last_urgent].iter().filter(|urgent| !**urgent).count();
    assert!(ahead <= 2, "one under way, and one that began at the same moment: {order:?}");
    copied(&patient, 8).await;
    patient.complete_and_wait().await;
    patient.assert_whole(&bytes).await;
}

async fn an_error_while_copying_ahead_does_not_fail_the_upload(stack: Stack) {
    let stack = proxied(&stack, |options| options.worker.attempts = 1).await;
    let bytes = noise(2 * 5 * MIB);
    let upload = stack.plan("file.bin", &bytes, 5 * MIB).await;
    stack.proxy().rule(|call| {
        let copy = call.operation == Operation::UploadPartCopy;
        copy.then_some(Fault::Refuse(500, "InternalError"))
    });
    upload.send_and_confirm(&bytes, [0]).await;
    eventually("it was tried", || async {
        (stack.proxy().count(Operation::UploadPartCopy) >= 3).then_some(())
    })
    .await;
    stack.proxy().pass_all();
    upload.send_and_confirm(&bytes, [1]).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
    assert!(!upload.events().await.contains(&"gave_up".to_owned()));
}

async fn a_client_that_completes_in_the_middle_of_it_is_served_by_the_same_worker(stack: Stack) {
    let stack = proxied(&stack, |options| options.worker.copies = 1).await;
    let bytes = noise(4 * 5 * MIB);
    let upload = stack.plan("file.bin", &bytes, 5 * MIB).await;
    stack.proxy().rule(|call| {
        let copy = call.operation == Operation::UploadPartCopy;
        copy.then_some(Fault::Delay(Duration::from_millis(300)))
    });
    // All four under one lease: it begins once they are confirmed.
    stack.stop_workers().await;
    upload.send_and_confirm(&bytes, 0..4).await;
    stack.start_worker();
    stack.call(Method::POST, &upload.path("/requeue")).await.expect(200);
    let row = eventually("a worker copies ahead", || async {
        let row = upflow_core::uploads::find(&stack.ctx().db, upload.id).await.unwrap();
        row.lease_id.is_some().then_some(row)
    })
    .await;
    upload.complete().await.expect(202);
    let after = upflow_core::uploads::find(&stack.ctx().db, upload.id).await.unwrap();
    assert!(after.lease_id == row.lease_id || after.lease_id.is_none(), "nobody took it away");
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
    assert_eq!(stack.proxy().count(Operation::UploadPartCopy), 4);
}

async fn the_last_chunks_do_not_wait_for_copies_that_are_under_way(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    let bytes = noise(2 * 5 * MIB + 5 * KIB);
    let upload = stack.plan("file.bin", &bytes, 5 * MIB).await;
    let release = held_back(&stack, Operation::UploadPartCopy);
    let copies = |count| {
        let stack = &stack;
        async move {
            eventually("so many copies are under way", || async {
                (stack.proxy().count(Operation::UploadPartCopy) >= count).then_some(())
            })
            .await;
        }
    };
    upload.send_and_confirm(&bytes, [0]).await;
    copies(1).await;
    upload.send_and_confirm(&bytes, [1]).await;
    copies(2).await;
    upload.send(&bytes, 2).await;
    upload.complete().await.expect(202);
    copies(3).await;
    release.send(true).unwrap();
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
    assert_eq!(stack.proxy().count(Operation::UploadPartCopy), 3, "each chunk once");
}

async fn a_copy_is_written_down_by_the_holder_of_the_lease_and_of_the_chunk_as_it_is(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(3 * 5 * MIB);
    let upload = stack.plan("file.bin", &bytes, 5 * MIB).await;
    upload.send_and_confirm(&bytes, 0..3).await;
    let (db, id, lease, life) =
        (&stack.ctx().db, upload.id, Uuid::new_v4(), Duration::from_secs(60));
    uploads::claim_ahead(db, id, lease, life, now()).await.unwrap().expect("it is free");
    // The attempts of the others failed.
    db.execute_unprepared("UPDATE upload_sessions SET attempts = 3").await.unwrap();
    let etag = uploads::chunk_rows(db, id, Some(&[0])).await.unwrap().remove(0).etag.unwrap();
    let part = |index, etag: &str| CopiedPart {
        index,
        etag: etag.to_owned(),
        part_etag: format!("part {index}"),
        part_checksum: Some(format!("checksum {index}")),
    };
    let copies = || async {
        let rows = uploads::chunk_rows(db, id, None).await.unwrap();
        let attempts = uploads::find(db, id).await.unwrap().attempts;
        let copy =
            rows.into_iter().map(|row| row.copied_etag.zip(row.part_etag).zip(row.part_checksum));
        (attempts, copy.collect::<Vec<_>>())
    };
    let late = uploads::record_parts(db, id, Uuid::new_v4(), vec![part(0, &etag)]).await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    assert_eq!(copies().await, (3, vec![None, None, None]));
    // Chunk 1 was sent anew after the copy began.
    let parts = vec![part(0, &etag), part(1, "its ETag before")];
    uploads::record_parts(db, id, lease, parts).await.unwrap();
    let written = ((etag, "part 0".to_owned()), "checksum 0".to_owned());
    assert_eq!(copies().await, (1, vec![Some(written), None, None]));
    // And into another multipart upload nothing was copied yet.
    uploads::set_multipart(db, id, lease, None, Uuid::new_v4()).await.unwrap();
    assert_eq!(copies().await, (1, vec![None, None, None]));
    uploads::let_go(db, id, lease).await.unwrap();
    stack.start_worker();
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}
