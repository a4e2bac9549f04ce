//! How few requests it takes: of our client to the API, of the API to S3.

use serde_json::json;
use upflow_client::{FileUpload, Listener, Options as ClientOptions, Uploader};
use url::Url;

use crate::client::{KIB, noise};
use crate::harness::{Options, Stack, Suite};
use crate::proxy::{Operation, Proxy};
use crate::suite;

pub const SUITE: Suite = suite! { "requests":
    a_file_of_one_chunk_takes_three_requests_and_one_that_waits,
    many_chunks_without_checksums_are_confirmed_by_one_list,
    many_chunks_with_checksums_are_confirmed_by_a_head_each,
    complete_finds_many_chunks_without_checksums_by_one_list,
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
