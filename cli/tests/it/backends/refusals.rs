//! What UploadPart and CompleteMultipartUpload refuse; the upload stays usable.

use std::sync::Arc;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};

use super::difference::Difference;
use super::multipart::{PART, Part, Upload};
use super::server::{Server, outcome, refused, success};
use super::{Tests, tests};
use crate::client::{crc64, noise};

pub const TESTS: Tests = tests![
    a_refused_complete_leaves_the_upload_and_the_old_object,
    a_complete_names_each_part_once_and_one_at_least,
    a_complete_may_ask_for_a_new_key_or_for_the_one_it_knows,
    a_complete_may_say_how_large_the_object_is,
    a_part_that_fails_its_check_is_none,
    a_part_has_the_checksum_that_was_declared,
    part_numbers_are_1_to_10000,
    checksums_that_cannot_cover_an_object_are_refused,
    an_upload_is_known_by_its_key_too,
];

/// An upload over an old object, with parts of 5 MiB, 1,000 and 1,001 bytes.
async fn three_parts(s3: &Arc<Server>, name: &str) -> (Upload, [Part; 3]) {
    s3.put(&s3.key(name), "old").await;
    let upload = Upload::begin(s3, name).await;
    let one = upload.put(1, &noise(PART)).await;
    let two = upload.put(2, &noise(1000)).await;
    let three = upload.put(3, &noise(1001)).await;
    (upload, [one, two, three])
}

async fn a_refused_complete_leaves_the_upload_and_the_old_object(s3: Arc<Server>) {
    let (upload, [one, two, three]) = three_parts(&s3, "f").await;
    let wrong = Part { number: 2, etag: "\"00000000000000000000000000000000\"".to_owned() };
    let missing = Part { number: 9, ..two.clone() };
    for (what, listed, code) in [
        ("out of order", vec![two.clone(), one.clone()], "InvalidPartOrder"),
        ("another ETag", vec![one.clone(), wrong], "InvalidPart"),
        ("a part that is not there", vec![one.clone(), missing], "InvalidPart"),
        ("a small part before the last", vec![one.clone(), two.clone(), three], "EntityTooSmall"),
    ] {
        let refusal = upload.complete(&listed).send().await;
        s3.is(what, outcome(&refusal), refused(400, code));
        s3.is(what, s3.get(&upload.key).await, Some("old".into()));
    }
    upload.complete(&[one, two]).send().await.unwrap();
    assert!(s3.get(&upload.key).await.unwrap() == [noise(PART), noise(1000)].concat());
}

async fn a_complete_names_each_part_once_and_one_at_least(s3: Arc<Server>) {
    let (upload, [one, two, _]) = three_parts(&s3, "f").await;
    let none = outcome(&upload.complete(&[]).send().await);
    let (aws, there) = (refused(400, "MalformedXML"), refused(404, "NoSuchUpload"));
    s3.differs(Difference::NoPartIsNoUpload, none, aws, there);
    s3.is("object", s3.get(&upload.key).await, Some("old".into()));
    let twice = outcome(&upload.complete(&[one.clone(), one, two]).send().await);
    let aws = refused(400, "InvalidPartOrder");
    s3.differs(Difference::PartMayBeNamedTwice, twice, aws, success());
}

async fn a_complete_may_ask_for_a_new_key_or_for_the_one_it_knows(s3: Arc<Server>) {
    let etag = s3.put(&s3.key("f"), "old").await;
    let upload = Upload::begin(&s3, "f").await;
    let part = [upload.put(1, &noise(1000)).await];
    let there = upload.complete(&part).if_none_match("*").send().await;
    s3.is("it is there", outcome(&there), refused(412, "PreconditionFailed"));
    let another = upload.complete(&part).if_match("\"00\"").send().await;
    s3.is("it is another", outcome(&another), refused(412, "PreconditionFailed"));
    s3.is("unchanged", s3.get(&upload.key).await, Some("old".into()));
    upload.complete(&part).if_match(etag).send().await.unwrap();
    let upload = Upload::begin(&s3, "new").await;
    let part = [upload.put(1, &noise(1000)).await];
    upload.complete(&part).if_none_match("*").send().await.unwrap();
    s3.is("object", s3.get(&upload.key).await, Some(noise(1000)));
}

async fn a_complete_may_say_how_large_the_object_is(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let part = [upload.put(1, &noise(1000)).await];
    let wrong = upload.complete(&part).mpu_object_size(999).send().await;
    let aws = refused(400, "InvalidRequest");
    s3.differs(Difference::ObjectSizeIsIgnored, outcome(&wrong), aws, success());
    let made = s3.get(&upload.key).await.is_some();
    s3.differs(Difference::ObjectSizeIsIgnored, made, false, true);
    upload.complete(&part).mpu_object_size(1000).send().await.unwrap();
    s3.is("object", s3.get(&upload.key).await, Some(noise(1000)));
}

async fn a_part_that_fails_its_check_is_none(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let put = || {
        let put = s3.client.upload_part().bucket(&s3.bucket).key(&upload.key);
        put.upload_id(&upload.id).part_number(1).body(noise(1000).into())
    };
    let good = upload.put(1, &noise(2000)).await;
    for (what, wrong) in [
        ("CRC64NVME", put().checksum_crc64_nvme(crc64(b"other"))),
        ("CRC32C", put().checksum_crc32_c("uTja5A==")),
        ("SHA256", put().checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")),
        ("Content-MD5", put().content_md5("1B2M2Y8AsgTpgAmY7PhCfg==")),
    ] {
        s3.is(what, outcome(&wrong.send().await), refused(400, "BadDigest"));
        s3.is("the part before", upload.sizes().await, vec![(1, 2000)]);
    }
    upload.complete(&[good]).send().await.unwrap();
    s3.is("object", s3.get(&upload.key).await, Some(noise(2000)));
}

async fn a_part_has_the_checksum_that_was_declared(s3: Arc<Server>) {
    let key = s3.key("f");
    let begin = s3.client.create_multipart_upload().bucket(&s3.bucket).key(&key);
    let begun = begin.checksum_algorithm(ChecksumAlgorithm::Crc32C).send().await.unwrap();
    let put = || {
        let put = s3.client.upload_part().bucket(&s3.bucket).key(&key).part_number(1);
        put.upload_id(begun.upload_id().unwrap()).body(bytes::Bytes::from_static(b"hello").into())
    };
    let none = put().send().await;
    let aws = refused(400, "InvalidRequest");
    let difference = Difference::PartNeedsNoDeclaredChecksum;
    s3.differs(difference, outcome(&none), aws.clone(), success());
    let other = put().checksum_crc64_nvme(crc64(b"hello")).send().await;
    s3.is("another", outcome(&other), aws);
    put().checksum_crc32_c("mnG7TA==").send().await.unwrap();
}

async fn part_numbers_are_1_to_10000(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    for (number, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
        let put = s3.client.upload_part().bucket(&s3.bucket).key(&upload.key);
        let put = put.upload_id(&upload.id).part_number(number).body(noise(10).into());
        let put = outcome(&put.send().await);
        if good {
            s3.is(&number.to_string(), put, success());
        } else {
            let (aws, there) = (refused(400, "InvalidArgument"), refused(400, "InvalidPart"));
            s3.differs(Difference::PartNumberHasAnotherCode, put, aws, there);
        }
    }
}

async fn checksums_that_cannot_cover_an_object_are_refused(s3: Arc<Server>) {
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Sha256, ChecksumType::FullObject),
        (ChecksumAlgorithm::Sha1, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::Composite),
    ] {
        let begin = s3.client.create_multipart_upload().bucket(&s3.bucket).key(s3.key("f"));
        let begin = begin.checksum_algorithm(algorithm.clone()).checksum_type(kind).send().await;
        s3.is(algorithm.as_str(), outcome(&begin), refused(400, "InvalidRequest"));
    }
}

async fn an_upload_is_known_by_its_key_too(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let part = upload.put(1, &noise(10)).await;
    let none = refused(404, "NoSuchUpload");
    let elsewhere = s3.client.upload_part().bucket(&s3.bucket).key(s3.key("g"));
    let elsewhere = elsewhere.upload_id(&upload.id).part_number(2).body(noise(10).into());
    s3.is("UploadPart", outcome(&elsewhere.send().await), none.clone());
    let made_up = s3.client.list_parts().bucket(&s3.bucket).key(&upload.key).upload_id("made-up");
    s3.is("ListParts", outcome(&made_up.send().await), none);
    upload.complete(&[part]).send().await.unwrap();
}
