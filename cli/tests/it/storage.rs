//! What UpFlow needs of an S3 server, held against the one at hand.

use std::time::Duration;

use chrono::{DateTime, Utc};
use upflow_core::checksum::Algorithm;
use upflow_core::db::now;
use upflow_core::storage::{ErrorKind, Filename, Multipart, NewMultipart, ObjectKey, chunks};
use uuid::Uuid;

use crate::client::{MIB, crc64, noise};
use crate::harness::{Stack, Suite, eventually};
use crate::suite;

pub const SUITE: Suite = suite! { "storage":
    a_presigned_put_takes_exactly_what_was_signed,
    a_presigned_put_ends_when_it_says,
    listings_have_every_key_once_and_deleting_leaves_none,
    parts_are_copied_and_make_the_object_that_they_should,
    an_aborted_multipart_upload_is_gone,
};

const FOREVER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;
const MINUTE: Duration = Duration::from_secs(60);

async fn put(stack: &Stack, key: &ObjectKey, bytes: bytes::Bytes) {
    let signer = stack.ctx().storage.signer(now()).await.unwrap();
    let checksum = Algorithm::Crc64Nvme.parse(&crc64(&bytes)).unwrap();
    let len = bytes.len() as i64;
    let put = signer.put_chunk(key, len, Some(checksum), MINUTE, FOREVER).unwrap();
    let mut request = stack.http().put(put.url).body(bytes);
    for (name, value) in put.headers {
        request = request.header(name, value);
    }
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn a_presigned_put_takes_exactly_what_was_signed(stack: Stack) {
    let storage = &stack.ctx().storage;
    let key = ObjectKey::Chunk { upload_id: Uuid::new_v4(), index: 0 };
    let bytes = noise(1_000);
    let checksum = Algorithm::Crc64Nvme.parse(&crc64(&bytes)).unwrap();
    let signer = storage.signer(now()).await.unwrap();
    let signed = signer.put_chunk(&key, 1_000, Some(checksum), MINUTE, FOREVER).unwrap();
    let header = signed.headers[0].clone();
    let send = |url: String, checksum: Option<String>, bytes: bytes::Bytes| {
        let mut request = stack.http().put(url).body(bytes);
        if let Some(checksum) = checksum {
            request = request.header(&header.0, checksum);
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let (url, right) = (signed.url.clone(), Some(header.1.clone()));
    let other = bytes.iter().map(|byte| !byte).collect::<Vec<u8>>();
    // Another length, other bytes, another checksum, none, another key.
    assert!(send(url.clone(), right.clone(), bytes.slice(1..)).await >= 400);
    assert!(send(url.clone(), right.clone(), other.clone().into()).await >= 400);
    assert!(send(url.clone(), Some(crc64(&other)), other.into()).await >= 400);
    assert!(send(url.clone(), None, bytes.clone()).await >= 400);
    let moved = url.replace("/chunks/0?", "/chunks/1?");
    assert!(send(moved, right.clone(), bytes.clone()).await >= 400);
    // A longer life, another time of signing.
    let longer = url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000");
    assert!(longer != url && send(longer, right.clone(), bytes.clone()).await >= 400);
    let at = url.find("X-Amz-Date=").unwrap() + "X-Amz-Date=".len();
    let later = format!("{}2099{}", &url[..at], &url[at + 4..]);
    assert!(send(later, right.clone(), bytes.clone()).await >= 400);
    assert_eq!(send(url, right, bytes).await, 200);
    let head = storage.head(&key).await.unwrap().unwrap();
    assert_eq!(head.size, 1_000);
    assert_eq!(head.checksum(Algorithm::Crc64Nvme), Some(checksum));
    storage.delete_all(&key.to_string()).await.unwrap();
    assert!(storage.head(&key).await.unwrap().is_none());
}

async fn a_presigned_put_ends_when_it_says(stack: Stack) {
    let key = ObjectKey::Chunk { upload_id: Uuid::new_v4(), index: 0 };
    // Signed a minute ago for half a minute.
    let signer = stack.ctx().storage.signer(now() - MINUTE).await.unwrap();
    let signed = signer.put_chunk(&key, 10, None, MINUTE / 2, FOREVER).unwrap();
    assert!(signed.expires_at < now());
    let answer = stack.http().put(signed.url).body(noise(10)).send().await.unwrap();
    assert!(answer.status().is_client_error(), "{}", answer.status());
    assert!(stack.ctx().storage.head(&key).await.unwrap().is_none());
}

async fn listings_have_every_key_once_and_deleting_leaves_none(stack: Stack) {
    use futures::stream::{self, StreamExt};
    let storage = &stack.ctx().storage;
    let upload_id = Uuid::new_v4();
    let count = 1_203;
    stream::iter(0..count)
        .for_each_concurrent(8, |index| put_small(&stack, upload_id, index))
        .await;
    let (mut seen, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = storage.list(&chunks(upload_id), next).await.unwrap();
        pages += 1;
        assert!(page.objects.len() <= 1_000);
        seen.extend(page.objects.into_iter().map(|object| (object.key, object.size)));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), pages), (count as usize, 2));
    assert!(seen.iter().all(|(_, size)| *size == 3));
    assert_eq!(storage.delete_all(&chunks(upload_id)).await.unwrap(), count as usize);
    assert!(storage.list(&chunks(upload_id), None).await.unwrap().objects.is_empty());
}

async fn put_small(stack: &Stack, upload_id: Uuid, index: i32) {
    put(stack, &ObjectKey::Chunk { upload_id, index }, bytes::Bytes::from_static(b"abc")).await;
}

async fn new_multipart(stack: &Stack, upload_id: Uuid, assembly_id: Uuid) -> Multipart {
    let filename = Filename::parse("näme +%.bin").unwrap();
    let new = NewMultipart {
        key: ObjectKey::Final { upload_id, filename: filename.clone() },
        filename: &filename,
        content_type: "text/x-test",
        algorithm: Algorithm::Crc64Nvme,
        assembly_id,
    };
    stack.ctx().storage.create_multipart(new).await.unwrap()
}

async fn parts_are_copied_and_make_the_object_that_they_should(stack: Stack) {
    let storage = &stack.ctx().storage;
    let (upload_id, assembly_id) = (Uuid::new_v4(), Uuid::new_v4());
    let (first, second) = (noise(5 * MIB), noise(1_234));
    let key = |index| ObjectKey::Chunk { upload_id, index };
    put(&stack, &key(0), first.clone()).await;
    put(&stack, &key(1), second.clone()).await;
    let multipart = new_multipart(&stack, upload_id, assembly_id).await;
    let mut parts = Vec::new();
    for index in 0..2 {
        let etag = storage.head(&key(index)).await.unwrap().unwrap().etag;
        parts.push(storage.copy_part(&multipart, index + 1, &key(index), &etag).await.unwrap());
    }
    let whole = [&first[..], &second[..]].concat();
    let checksum = Algorithm::Crc64Nvme.parse(&crc64(&whole)).unwrap();
    storage.complete_multipart(&multipart, &parts, Some(checksum)).await.unwrap();
    let head = storage.head(&multipart.key).await.unwrap().unwrap();
    assert_eq!(head.size, whole.len() as i64);
    assert_eq!(head.assembly_id, Some(assembly_id));
    let mut body = storage.get(&multipart.key, &head.etag).await.unwrap();
    let mut found = Vec::new();
    while let Some(piece) = body.next().await.unwrap() {
        found.extend_from_slice(&piece);
    }
    assert!(found == whole);
    let missed = storage.get(&multipart.key, "another").await.err().map(|error| error.kind);
    assert_eq!(missed, Some(ErrorKind::Precondition));
}

async fn an_aborted_multipart_upload_is_gone(stack: Stack) {
    let storage = &stack.ctx().storage;
    let upload_id = Uuid::new_v4();
    let multipart = new_multipart(&stack, upload_id, Uuid::new_v4()).await;
    let bytes = noise(100);
    let checksum = Algorithm::Crc64Nvme.parse(&crc64(&bytes)).unwrap();
    let part = storage.put_part(&multipart, 1, bytes, checksum).await.unwrap();
    storage.abort_multipart(&multipart.key, &multipart.upload_id).await.unwrap();
    // Once more changes nothing.
    storage.abort_multipart(&multipart.key, &multipart.upload_id).await.unwrap();
    let completed = storage.complete_multipart(&multipart, &[part], None).await;
    assert!(completed.is_err());
    assert!(storage.head(&multipart.key).await.unwrap().is_none());
    eventually("it is listed no more", || async {
        let listed = storage.list_multiparts(&multipart.key.to_string(), None).await.unwrap();
        listed.uploads.is_empty().then_some(())
    })
    .await;
}
