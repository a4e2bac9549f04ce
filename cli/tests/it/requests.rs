//! How few requests it takes: of our client to the API, of the API to S3.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use serde_json::json;
use tokio::sync::Semaphore;
use upflow_client::{FileUpload, Listener, Options as ClientOptions, Uploader};
use url::Url;

use crate::client::{KIB, MIB, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::proxy::{Operation, Proxy};
use crate::suite;

pub const SUITE: Suite = suite! { "requests":
    a_file_of_one_chunk_takes_three_requests_and_one_that_waits,
    many_chunks_without_checksums_are_confirmed_by_one_list,
    many_chunks_with_checksums_are_confirmed_by_a_head_each,
    complete_finds_many_chunks_without_checksums_by_one_list,
    no_more_calls_to_s3_are_under_way_than_allowed,
    no_more_calls_to_s3_are_under_way_for_one_request_than_allowed,
    confirms_of_a_chunk_each_that_come_together_have_each_its_own_answer,
    what_is_asked_of_s3_for_each_chunk_is_asked_without_the_sdk,
    a_chunk_is_confirmed_while_another_takes_long,
};

async fn proxied(stack: &Stack) -> Stack {
    stack.sibling(Options { proxied: true, ..Options::default() }).await
}

async fn a_file_of_one_chunk_takes_three_requests_and_one_that_waits(stack: Stack) {
    let stack = proxied(&stack).await;
    let api = Proxy::before(&Url::parse(&stack.url("/")).unwrap()).await;
    let path = stack.dir().join("file.bin");
    std::fs::write(&path, noise(300 * KIB)).unwrap();
    let uploader = Uploader::new(ClientOptions::new(api.url().as_str()).unwrap()).unwrap();
    uploader.upload(&FileUpload::new(&path), Listener::none()).await.unwrap();
    // Init, complete, and one that is answered at the end; the one PUT goes to S3.
    assert_eq!(api.calls().len(), 3, "{:#?}", api.calls());
    let puts = stack.proxy().calls().into_iter().filter(|call| call.presigned);
    assert_eq!(puts.map(|call| call.operation).collect::<Vec<_>>(), [Operation::PutObject]);
}

/// An upload of so many chunks of which all are sent, with or without checksums, and none is confirmed.
async fn sent(stack: &Stack, chunks: usize, checksums: bool) -> crate::client::Upload {
    use futures::stream::{self, StreamExt};
    let bytes = noise(64 * KIB);
    let upload = stack
        .init(json!({ "filename": "a", "file_size": chunks * 64 * KIB, "chunk_size": 64 * KIB }))
        .await;
    let checksum = checksums.then(|| crate::client::crc64(&bytes));
    stream::iter(0..chunks)
        .for_each_concurrent(4, |index| {
            let (upload, bytes, checksum) = (&upload, bytes.clone(), checksum.clone());
            async move {
                let presigned = upload.presign(index, checksum).await;
                assert_eq!(upload.put(&presigned, bytes).await, 200);
            }
        })
        .await;
    stack.proxy().forget_calls();
    upload
}

async fn confirmed(stack: &Stack, chunks: usize, checksums: bool) -> (usize, usize) {
    let upload = sent(stack, chunks, checksums).await;
    let indexes: Vec<usize> = (0..chunks).collect();
    let path = upload.path("/chunks/confirm");
    let answer = stack.post(&path, json!({ "chunks": indexes })).await.expect(200);
    assert_eq!(answer["confirmed"], json!(indexes));
    assert_eq!(answer["uploaded_chunks_count"], json!(chunks));
    (stack.proxy().count(Operation::ListObjects), stack.proxy().count(Operation::HeadObject))
}

async fn many_chunks_without_checksums_are_confirmed_by_one_list(stack: Stack) {
    let stack = proxied(&stack).await;
    assert_eq!(confirmed(&stack, 40, false).await, (1, 0));
}

async fn many_chunks_with_checksums_are_confirmed_by_a_head_each(stack: Stack) {
    let stack = proxied(&stack).await;
    assert_eq!(confirmed(&stack, 40, true).await, (0, 40));
}

async fn complete_finds_many_chunks_without_checksums_by_one_list(stack: Stack) {
    let stack = proxied(&stack).await;
    stack.stop_workers().await;
    let upload = sent(&stack, 40, false).await;
    upload.complete().await.expect(202);
    assert_eq!(stack.proxy().count(Operation::ListObjects), 1);
    assert_eq!(stack.proxy().count(Operation::HeadObject), 0);
}

async fn no_more_calls_to_s3_are_under_way_than_allowed(stack: Stack) {
    let options = Options { proxied: true, s3_calls: 3, ..Options::default() };
    assert_eq!(most_at_once(stack.sibling(options).await, 2).await, 3);
}

async fn no_more_calls_to_s3_are_under_way_for_one_request_than_allowed(stack: Stack) {
    let mut options = Options { proxied: true, ..Options::default() };
    options.limits.s3_calls_per_request = 3;
    assert_eq!(most_at_once(stack.sibling(options).await, 1).await, 3);
}

/// So many calls to S3 are under way at once, at most, while so many requests confirm 16 chunks each.
async fn most_at_once(stack: Stack, requests: usize) -> usize {
    stack.stop_workers().await;
    let upload = sent(&stack, 16, true).await;
    let (under_way, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let seen = most.clone();
    stack.proxy().watch(move |_| {
        let (under_way, most) = (under_way.clone(), seen.clone());
        async move {
            most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            None
        }
        .boxed()
    });
    let path = upload.path("/chunks/confirm");
    let indexes: Vec<usize> = (0..16).collect();
    let confirm = || stack.post(&path, json!({ "chunks": indexes }));
    for answer in join_all((0..requests).map(|_| confirm())).await {
        assert_eq!(answer.expect(200)["confirmed"], json!(indexes));
    }
    most.load(Ordering::SeqCst)
}

/// S3 holds the first two back, so that the others wait and are one confirm.
async fn confirms_of_a_chunk_each_that_come_together_have_each_its_own_answer(stack: Stack) {
    let stack = proxied(&stack).await;
    stack.stop_workers().await;
    let upload = sent(&stack, 12, true).await;
    upload.presign(7, Some(crate::client::crc64(b"other bytes"))).await;
    let (held, go) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
    let (count, gate) = (held.clone(), go.clone());
    stack.proxy().watch(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let gate = gate.clone();
        async move {
            let _go = gate.acquire().await.unwrap();
            None
        }
        .boxed()
    });
    let first = join_all((0..2).map(|index| upload.confirm(index)));
    let others = async {
        eventually("both ask S3", || async { (held.load(Ordering::SeqCst) == 2).then_some(()) })
            .await;
        let calls = join_all((2..13).chain([11]).map(|index| upload.confirm(index)));
        let open = async {
            // Whether they come before or after it changes no answer.
            tokio::task::yield_now().await;
            go.add_permits(1_000);
        };
        tokio::join!(calls, open).0
    };
    let (first, others) = tokio::join!(first, others);
    for (index, answer) in (0..13).chain([11]).zip(first.into_iter().chain(others)) {
        match index {
            7 => drop(answer.expect_problem(409, "chunk_checksum_mismatch")),
            12 => drop(answer.expect_problem(422, "chunk_index_out_of_range")),
            _ => assert_eq!(answer.expect(200)["chunk_index"], json!(index)),
        }
    }
    let confirmed: Vec<usize> = (0..12).filter(|index| *index != 7).collect();
    assert_eq!(upload.get().await["uploaded_chunks"], json!(confirmed));
    // One is asked for twice, in two confirms or in one.
    assert!(matches!(stack.proxy().count(Operation::HeadObject), 12 | 13));
}

async fn what_is_asked_of_s3_for_each_chunk_is_asked_without_the_sdk(stack: Stack) {
    let stack = proxied(&stack).await;
    // Whose way to the bucket it is.
    stack.ctx().storage.check_bucket().await.unwrap();
    for (bytes, chunk_size, reads) in [
        (noise(12 * MIB), 5 * MIB, Operation::UploadPartCopy),
        (noise(12 * 64 * KIB), 64 * KIB, Operation::GetObject),
    ] {
        let upload = stack.plan("a", &bytes, chunk_size).await;
        upload.send_all(&bytes).await;
        upload.complete_and_wait().await;
        upload.assert_whole(&bytes).await;
        for operation in [Operation::HeadObject, reads] {
            let calls = stack.proxy().calls().into_iter().filter(|call| {
                call.operation == operation && call.upload == Some(upload.id) && !call.presigned
            });
            let by_sdk: Vec<bool> = calls.map(|call| call.by_sdk).collect();
            assert!(by_sdk.len() >= upload.total(), "{operation:?}: {by_sdk:?}");
            assert!(!by_sdk.contains(&true), "{operation:?}: {by_sdk:?}");
        }
    }
}

async fn a_chunk_is_confirmed_while_another_takes_long(stack: Stack) {
    let stack = proxied(&stack).await;
    let (puts, go) = (AtomicUsize::new(0), Arc::new(Semaphore::new(0)));
    let gate = go.clone();
    stack.proxy().watch(move |call| {
        let first = call.presigned && puts.fetch_add(1, Ordering::SeqCst) == 0;
        let gate = gate.clone();
        async move {
            if first {
                let _go = gate.acquire().await.unwrap();
            }
            None
        }
        .boxed()
    });
    let path = stack.dir().join("slow.bin");
    std::fs::write(&path, noise(128 * KIB)).unwrap();
    let file = FileUpload { chunk_size: Some(64 * KIB as u64), ..FileUpload::new(&path) };
    let uploader = Uploader::new(ClientOptions::new(&stack.url("/")).unwrap()).unwrap();
    let uploading = uploader.upload(&file, Listener::none());
    let confirmed = async {
        eventually("the other one is confirmed", || async {
            let all = stack.get("/uploads").await.expect(200);
            (all["uploads"][0]["uploaded_chunks_count"] == 1).then_some(())
        })
        .await;
        go.add_permits(1);
    };
    let (uploaded, ()) = tokio::join!(uploading, confirmed);
    uploaded.unwrap();
}
