//! Parts made of several small chunks while the client still sends.

use std::time::Duration;

use reqwest::Method;
use upflow_core::uploads;

use crate::ahead::{copied, gives_way, held_back, proxied};
use crate::client::{KIB, MIB, noise};
use crate::harness::{Stack, Suite, eventually};
use crate::proxy::{Fault, Operation};
use crate::suite;

pub const SUITE: Suite = suite! { "streaming_ahead":
    small_chunks_become_parts_while_the_client_still_sends,
    parts_behind_many_that_are_not_whole_are_made_too,
    a_part_of_small_chunks_is_made_anew_where_one_of_them_was_sent_anew,
    a_chunk_confirmed_anew_while_its_part_is_made_is_not_said_to_be_lost,
    small_chunks_give_way_too_where_all_wait_for_memory,
    an_upload_that_is_waited_for_gets_the_memory_before_those_that_are_not,
    a_worker_told_to_stop_hands_over_what_is_waited_for_meanwhile,
    an_upload_aborted_while_a_part_is_made_leaves_nothing,
};

async fn small_chunks_become_parts_while_the_client_still_sends(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    // Parts of eight chunks, the last one of two.
    let bytes = noise(17 * MIB + 5 * KIB);
    let upload = stack.plan("file.bin", &bytes, MIB).await;
    upload.send_and_confirm(&bytes, (1..16).rev()).await;
    // What makes no whole part is left alone, and nobody waits for it under a lease.
    copied(&upload, 8).await;
    eventually("the worker lets go", || async {
        let row = uploads::find(&stack.ctx().db, upload.id).await.unwrap();
        row.lease_id.is_none().then_some(())
    })
    .await;
    assert_eq!(upload.get().await["assembled_chunks"], 8);
    upload.send_and_confirm(&bytes, [0, 16, 17]).await;
    copied(&upload, 18).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
    let calls = stack.proxy().calls();
    let own = calls.iter().filter(|call| call.upload == Some(upload.id) && !call.presigned);
    let own: Vec<Operation> = own.map(|call| call.operation).collect();
    let count = |operation| own.iter().filter(|own| **own == operation).count();
    assert_eq!(count(Operation::GetObject), 18, "each chunk once");
    assert_eq!(count(Operation::UploadPart), 3, "each part once");
}

async fn parts_behind_many_that_are_not_whole_are_made_too(stack: Stack) {
    // More than are looked at in one go: of each part of 128 chunks all but the first.
    let chunks = 9 * 128;
    let bytes = noise(chunks * 64 * KIB);
    let upload = stack.plan("file.bin", &bytes, 64 * KIB).await;
    let indexes: Vec<usize> = (0..8 * 128).filter(|index| index % 128 != 0).collect();
    upload.send_side_by_side(&bytes, indexes.into_iter().chain(8 * 128..chunks)).await;
    copied(&upload, 128).await;
    upload.send_side_by_side(&bytes, (0..8 * 128).step_by(128)).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&bytes).await;
}

async fn a_part_of_small_chunks_is_made_anew_where_one_of_them_was_sent_anew(stack: Stack) {
    let old = noise(4 * 4 * MIB);
    let upload = stack.plan("file.bin", &old, 4 * MIB).await;
    upload.send_and_confirm(&old, 0..3).await;
    copied(&upload, 2).await;
    let mut new = old.to_vec();
    new[4 * MIB..8 * MIB].iter_mut().for_each(|byte| *byte = !*byte);
    let new = new.into();
    upload.send_and_confirm(&new, 1..4).await;
    copied(&upload, 3).await;
    upload.complete_and_wait().await;
    upload.assert_whole(&new).await;
}

async fn a_chunk_confirmed_anew_while_its_part_is_made_is_not_said_to_be_lost(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    let old = noise(2 * 4 * MIB);
    let upload = stack.plan("file.bin", &old, 4 * MIB).await;
    let release = held_back(&stack, Operation::GetObject);
    upload.send_and_confirm(&old, 0..2).await;
    eventually("the part is being made", || async {
        (stack.proxy().count(Operation::GetObject) > 0).then_some(())
    })
    .await;
    let new = old.iter().map(|byte| !byte).collect::<Vec<u8>>().into();
    upload.send_and_confirm(&new, 0..2).await;
    release.send(true).unwrap();
    copied(&upload, 2).await;
    assert!(upload.get().await.get("failure").is_none());
    upload.complete_and_wait().await;
    upload.assert_whole(&new).await;
    let events = upload.events().await;
    assert!(!events.contains(&"chunk_dropped".to_owned()), "{events:?}");
}

async fn small_chunks_give_way_too_where_all_wait_for_memory(stack: Stack) {
    let stack = proxied(&stack, |options| {
        options.worker.jobs = 1;
        options.worker.stream_memory = 8 * MIB;
    })
    .await;
    gives_way(stack, 4 * MIB, Operation::UploadPart).await;
}

async fn an_upload_that_is_waited_for_gets_the_memory_before_those_that_are_not(stack: Stack) {
    let stack = proxied(&stack, |options| {
        options.worker.jobs = 2;
        options.worker.stream_memory = 8 * MIB;
    })
    .await;
    stack.stop_workers().await;
    let bytes = noise(8 * 4 * MIB);
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let upload = stack.plan("file.bin", &bytes, 4 * MIB).await;
        upload.send_and_confirm(&bytes, 0..8).await;
        uploads.push(upload);
    }
    stack.proxy().rule(move |call| {
        let part = call.operation == Operation::UploadPart && !call.presigned;
        part.then_some(Fault::Delay(Duration::from_millis(500)))
    });
    stack.proxy().forget_calls();
    stack.start_worker();
    let parts = || {
        let mut calls = stack.proxy().calls();
        calls.retain(|call| call.operation == Operation::UploadPart);
        calls.into_iter().map(|call| call.upload.unwrap()).collect::<Vec<_>>()
    };
    let first = eventually("a part is being made", || async { parts().first().copied() }).await;
    eventually("both are being copied ahead", || async {
        let mut held = 0;
        for upload in &uploads {
            let row = uploads::find(&stack.ctx().db, upload.id).await.unwrap();
            held += usize::from(row.lease_id.is_some());
        }
        (held == 2).then_some(())
    })
    .await;
    let urgent = uploads.iter().find(|upload| upload.id != first).unwrap();
    urgent.complete().await.expect(202);
    urgent.wait_for("completed").await;
    let parts = parts();
    let last = parts.iter().rposition(|upload| *upload == urgent.id).unwrap();
    let before = parts[..last].iter().filter(|upload| **upload == first).count();
    assert!(before <= 2, "one under way, and one that began at the same moment: {parts:?}");
    let patient = uploads.iter().find(|upload| upload.id == first).unwrap();
    for upload in [urgent, patient] {
        upload.complete_and_wait().await;
        upload.assert_whole(&bytes).await;
    }
}

async fn a_worker_told_to_stop_hands_over_what_is_waited_for_meanwhile(stack: Stack) {
    let stack = proxied(&stack, |options| {
        // Whoever went on without being told would come too late.
        options.worker.lease = Duration::from_secs(600);
    })
    .await;
    let bytes = noise(2 * 4 * MIB);
    let upload = stack.plan("file.bin", &bytes, 4 * MIB).await;
    stack
        .proxy()
        .rule(|call| (call.operation == Operation::UploadPart).then_some(Fault::HoldRequest));
    let mut held = stack.proxy().held();
    upload.send_and_confirm(&bytes, 0..2).await;
    held.wait_for(|held| *held > 0).await.unwrap();
    upload.complete().await.expect(202);
    stack.stop_workers().await;
    let row = uploads::find(&stack.ctx().db, upload.id).await.unwrap();
    assert_eq!(row.lease_id, None, "it was handed over");
    stack.proxy().pass_all();
    stack.start_worker();
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
}

async fn an_upload_aborted_while_a_part_is_made_leaves_nothing(stack: Stack) {
    let stack = proxied(&stack, |_| {}).await;
    let bytes = noise(2 * 4 * MIB);
    let upload = stack.plan("file.bin", &bytes, 4 * MIB).await;
    let release = held_back(&stack, Operation::UploadPart);
    upload.send_and_confirm(&bytes, 0..2).await;
    eventually("the part is being made", || async {
        (stack.proxy().count(Operation::UploadPart) > 0).then_some(())
    })
    .await;
    stack.call(Method::DELETE, &upload.path("")).await.expect(200);
    release.send(true).unwrap();
    upload.assert_nothing_left().await;
}
