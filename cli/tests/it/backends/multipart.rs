//! Multipart uploads that end well: parts, their order, what Complete makes of them.

use std::sync::Arc;

use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use bytes::Bytes;

use super::difference::Difference;
use super::server::{Server, outcome, refused, success};
use super::{Tests, tests};
use crate::client::{MIB, crc64, noise};

pub const TESTS: Tests = tests![
    parts_in_any_order_become_one_object,
    the_checksum_of_the_whole_is_proven_by_those_of_the_parts,
    a_composite_checksum_is_one_of_checksums,
    a_part_sent_again_takes_the_place_of_the_first,
    parts_that_are_not_named_are_dropped,
    a_complete_asked_again_answers_as_the_first,
    an_upload_that_was_aborted_takes_nothing_more,
];

pub const PART: usize = 5 * MIB;

/// A multipart upload under way.
pub struct Upload {
    pub s3: Arc<Server>,
    pub key: String,
    pub id: String,
}

/// A part as Complete names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub number: i32,
    pub etag: String,
}

impl Upload {
    pub async fn begin(s3: &Arc<Server>, name: &str) -> Upload {
        let key = s3.key(name);
        let begin = s3.client.create_multipart_upload().bucket(&s3.bucket).key(&key);
        let id = begin.send().await.unwrap().upload_id.unwrap();
        Upload { s3: s3.clone(), key, id }
    }

    /// With the checksum of the whole declared, as UpFlow does.
    pub async fn begin_full_object(s3: &Arc<Server>, name: &str) -> Upload {
        let key = s3.key(name);
        let begin = s3.client.create_multipart_upload().bucket(&s3.bucket).key(&key);
        let begin = begin
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .content_type("text/x-test")
            .content_disposition("attachment")
            .metadata("assembly-id", "7");
        let id = begin.send().await.unwrap().upload_id.unwrap();
        Upload { s3: s3.clone(), key, id }
    }

    pub async fn put(&self, number: i32, body: &Bytes) -> Part {
        let put = self.s3.client.upload_part().bucket(&self.s3.bucket).key(&self.key);
        let put = put.upload_id(&self.id).part_number(number).body(body.clone().into());
        let put = put.checksum_crc64_nvme(crc64(body)).send().await.unwrap();
        Part { number, etag: put.e_tag.unwrap() }
    }

    pub fn complete(&self, parts: &[Part]) -> CompleteMultipartUploadFluentBuilder {
        let named = parts.iter().map(|part| {
            CompletedPart::builder().part_number(part.number).e_tag(&part.etag).build()
        });
        let named = CompletedMultipartUpload::builder().set_parts(Some(named.collect())).build();
        let complete = self.s3.client.complete_multipart_upload().bucket(&self.s3.bucket);
        complete.key(&self.key).upload_id(&self.id).multipart_upload(named)
    }

    /// The sizes of its parts, as ListParts has them.
    pub async fn sizes(&self) -> Vec<(i32, i64)> {
        let list = self.s3.client.list_parts().bucket(&self.s3.bucket).key(&self.key);
        let listed = list.upload_id(&self.id).send().await.unwrap();
        listed
            .parts()
            .iter()
            .map(|part| (part.part_number().unwrap(), part.size().unwrap()))
            .collect()
    }
}

async fn parts_in_any_order_become_one_object(s3: Arc<Server>) {
    let bodies = [noise(PART), noise(PART + 1), noise(1000)];
    let upload = Upload::begin(&s3, "f").await;
    let mut parts = Vec::new();
    for index in [2, 0, 1] {
        parts.push(upload.put(index + 1, &bodies[index as usize]).await);
    }
    parts.sort_by_key(|part| part.number);
    s3.is("nothing yet", s3.get(&upload.key).await, None);
    let sizes = vec![(1, PART as i64), (2, PART as i64 + 1), (3, 1000)];
    s3.is("parts", upload.sizes().await, sizes);
    let done = upload.complete(&parts).send().await.unwrap();
    s3.is("ETag", done.e_tag().is_some_and(|etag| etag.ends_with("-3\"")), true);
    let whole = bodies.concat();
    assert!(s3.get(&upload.key).await.unwrap() == whole);
    let head = s3.client.head_object().bucket(&s3.bucket).key(&upload.key).send().await.unwrap();
    s3.is("length", head.content_length(), Some(whole.len() as i64));
    s3.is("ETag", head.e_tag(), done.e_tag());
    let across = format!("bytes={}-{}", PART - 10, 2 * PART + 9);
    let across = s3.client.get_object().bucket(&s3.bucket).key(&upload.key).range(across);
    let across = across.send().await.unwrap().body.collect().await.unwrap().into_bytes();
    assert!(across == whole[PART - 10..2 * PART + 10]);
    let left = s3.client.list_multipart_uploads().bucket(&s3.bucket).prefix(&s3.prefix);
    s3.is("uploads left", left.send().await.unwrap().uploads().len(), 0);
}

async fn the_checksum_of_the_whole_is_proven_by_those_of_the_parts(s3: Arc<Server>) {
    let bodies = [noise(PART), noise(12_345)];
    let whole = bodies.concat();
    let upload = Upload::begin_full_object(&s3, "f").await;
    let parts = [upload.put(1, &bodies[0]).await, upload.put(2, &bodies[1]).await];
    let listed = s3.client.list_parts().bucket(&s3.bucket).key(&upload.key).upload_id(&upload.id);
    let listed = listed.send().await.unwrap();
    let checksums =
        listed.parts().iter().map(|part| part.checksum_crc64_nvme().unwrap_or_default());
    let checksums: Vec<String> = checksums.map(str::to_owned).collect();
    let (aws, there) = (vec![crc64(&bodies[0]), crc64(&bodies[1])], vec![String::new(); 2]);
    s3.differs(Difference::PartsAreListedWithoutChecksums, checksums, aws, there);
    let wrong = upload.complete(&parts).checksum_crc64_nvme(crc64(b"other")).send().await;
    s3.is("another", outcome(&wrong), refused(400, "BadDigest"));
    let done = upload.complete(&parts).checksum_crc64_nvme(crc64(&whole));
    let done = done.checksum_type(ChecksumType::FullObject).send().await.unwrap();
    s3.is("of the whole", done.checksum_crc64_nvme(), Some(crc64(&whole).as_str()));
    let head = s3.client.head_object().bucket(&s3.bucket).key(&upload.key);
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    s3.is("kept", head.checksum_crc64_nvme(), Some(crc64(&whole).as_str()));
    s3.is("kind", head.checksum_type(), Some(&ChecksumType::FullObject));
    s3.is("type", head.content_type(), Some("text/x-test"));
    s3.is("disposition", head.content_disposition(), Some("attachment"));
    let metadata = head.metadata().and_then(|all| all.get("assembly-id")).map(String::as_str);
    s3.is("metadata", metadata, Some("7"));
}

async fn a_composite_checksum_is_one_of_checksums(s3: Arc<Server>) {
    let key = s3.key("f");
    let begin = s3.client.create_multipart_upload().bucket(&s3.bucket).key(&key);
    let begun = begin.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    let id = begun.upload_id.unwrap();
    let sha = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let put = s3.client.upload_part().bucket(&s3.bucket).key(&key).upload_id(&id).part_number(1);
    let put = put.checksum_sha256(sha).body(Bytes::from_static(b"hello").into());
    let etag = put.send().await.unwrap().e_tag.unwrap();
    let part = CompletedPart::builder().part_number(1).e_tag(etag).checksum_sha256(sha).build();
    let named = CompletedMultipartUpload::builder().parts(part).build();
    let done = s3.client.complete_multipart_upload().bucket(&s3.bucket).key(&key).upload_id(&id);
    let done = done.multipart_upload(named).send().await.unwrap();
    s3.is("kind", done.checksum_type(), Some(&ChecksumType::Composite));
    // The SHA-256 of the one part's SHA-256.
    let composite = "lZXJ35AHUUjrBoYDZd8zWEt1v/eCpRDGzUiDpBmDPVA=-1";
    s3.is("value", done.checksum_sha256(), Some(composite));
}

async fn a_part_sent_again_takes_the_place_of_the_first(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let first = upload.put(1, &noise(1000)).await;
    let second = upload.put(1, &noise(2000)).await;
    let mut sizes = upload.sizes().await;
    sizes.sort_unstable();
    let both = vec![(1, 1000), (1, 2000)];
    s3.differs(Difference::ReplacedPartStays, sizes, vec![(1, 2000)], both);
    upload.complete(&[second]).send().await.unwrap();
    s3.is("object", s3.get(&upload.key).await, Some(noise(2000)));
    let upload = Upload::begin(&s3, "g").await;
    upload.put(1, &noise(1000)).await;
    upload.put(1, &noise(2000)).await;
    let stale = outcome(&upload.complete(&[first]).send().await);
    let aws = refused(400, "InvalidPart");
    s3.differs(Difference::ReplacedPartStays, stale, aws, success());
}

async fn parts_that_are_not_named_are_dropped(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let (first, last) = (noise(PART), noise(10));
    let parts = [upload.put(3, &first).await, upload.put(9, &last).await];
    upload.put(5, &noise(77)).await;
    upload.complete(&parts).send().await.unwrap();
    assert!(s3.get(&upload.key).await.unwrap() == [&first[..], &last].concat());
}

async fn a_complete_asked_again_answers_as_the_first(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let part = [upload.put(1, &noise(1000)).await];
    let first = upload.complete(&part).send().await.unwrap();
    let again = upload.complete(&part).send().await;
    s3.is("again", again.ok().and_then(|again| again.e_tag), first.e_tag);
    let listed = s3.client.list_parts().bucket(&s3.bucket).key(&upload.key).upload_id(&upload.id);
    s3.is("its parts", outcome(&listed.send().await), refused(404, "NoSuchUpload"));
}

async fn an_upload_that_was_aborted_takes_nothing_more(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let part = [upload.put(1, &noise(1000)).await];
    let none = refused(404, "NoSuchUpload");
    let abort = || {
        s3.client.abort_multipart_upload().bucket(&s3.bucket).key(&upload.key).upload_id(&upload.id)
    };
    abort().send().await.unwrap();
    s3.is("Complete", outcome(&upload.complete(&part).send().await), none.clone());
    let put = s3.client.upload_part().bucket(&s3.bucket).key(&upload.key).upload_id(&upload.id);
    let put = put.part_number(1).body(noise(10).into()).send().await;
    s3.is("UploadPart", outcome(&put), none.clone());
    let list = s3.client.list_parts().bucket(&s3.bucket).key(&upload.key).upload_id(&upload.id);
    s3.is("ListParts", outcome(&list.send().await), none.clone());
    let again = outcome(&abort().send().await);
    s3.differs(Difference::AbortMayBeRepeated, again, none, success());
    s3.is("object", s3.get(&upload.key).await, None);
}
