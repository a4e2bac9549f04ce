//! UploadPartCopy: whole objects and ranges, its conditions, and what it refuses.

use std::sync::Arc;

use aws_sdk_s3::operation::upload_part_copy::builders::UploadPartCopyFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::difference::Difference;
use super::multipart::{PART, Part, Upload};
use super::server::{Server, outcome, refused, success};
use super::{Tests, tests};
use crate::client::{crc64, noise};

pub const TESTS: Tests = tests![
    copied_parts_become_one_object,
    a_copy_is_refused_where_its_condition_does_not_hold,
    a_copied_range_lies_within_its_source,
    a_range_of_a_small_object_is_not_copied,
    what_is_copied_stays_although_its_source_goes,
    a_copy_needs_a_source,
];

/// A copy of the object under a name, whatever it is.
fn copy(s3: &Server, upload: &Upload, number: i32, name: &str) -> UploadPartCopyFluentBuilder {
    let source = s3.key(name);
    let source = utf8_percent_encode(&source, NON_ALPHANUMERIC);
    let copy = s3.client.upload_part_copy().bucket(&s3.bucket).key(&upload.key);
    copy.upload_id(&upload.id).part_number(number).copy_source(format!("{}/{source}", s3.bucket))
}

async fn copied(copy: UploadPartCopyFluentBuilder, number: i32) -> Part {
    let copied = copy.send().await.unwrap().copy_part_result.unwrap();
    Part { number, etag: copied.e_tag.unwrap() }
}

async fn copied_parts_become_one_object(s3: Arc<Server>) {
    let (first, second) = (noise(PART), noise(PART + 7));
    let etag = s3.put(&s3.key("c/ü %+?#&=0"), first.clone()).await;
    s3.put(&s3.key("c/1"), second.clone()).await;
    let upload = Upload::begin_full_object(&s3, "f").await;
    let one = copied(copy(&s3, &upload, 1, "c/ü %+?#&=0").copy_source_if_match(&etag), 1).await;
    let bare = etag.trim_matches('"').to_owned();
    s3.differs(Difference::CopiedPartHasNoQuotes, one.etag.clone(), etag, bare);
    let range = 3..PART + 5;
    let two = copy(&s3, &upload, 2, "c/1");
    let two = two.copy_source_range(format!("bytes={}-{}", range.start, range.end - 1));
    let two = copied(two, 2).await;
    s3.is("sizes", upload.sizes().await, vec![(1, PART as i64), (2, range.len() as i64)]);
    let whole = [&first[..], &second[range]].concat();
    let done = upload.complete(&[one, two]).checksum_crc64_nvme(crc64(&whole)).send().await;
    s3.is("checksum of the whole", outcome(&done), success());
    assert!(s3.get(&upload.key).await.unwrap() == whole);
}

async fn a_copy_is_refused_where_its_condition_does_not_hold(s3: Arc<Server>) {
    let etag = s3.put(&s3.key("c"), noise(1000)).await;
    let head = s3.client.head_object().bucket(&s3.bucket).key(s3.key("c")).send().await.unwrap();
    let modified = head.last_modified.unwrap();
    let before = DateTime::from_secs(modified.secs() - 60);
    let other = "\"00000000000000000000000000000000\"";
    let upload = Upload::begin(&s3, "f").await;
    let copy = || copy(&s3, &upload, 1, "c");
    let failed = refused(412, "PreconditionFailed");
    for (what, refusal) in [
        ("if-match", copy().copy_source_if_match(other)),
        ("if-none-match", copy().copy_source_if_none_match(&etag)),
        ("if-unmodified-since", copy().copy_source_if_unmodified_since(before)),
        ("if-modified-since", copy().copy_source_if_modified_since(modified)),
    ] {
        s3.is(what, outcome(&refusal.send().await), failed.clone());
    }
    s3.is("parts", upload.sizes().await, vec![]);
    for (what, done) in [
        ("if-match", copy().copy_source_if_match(&etag)),
        ("if-none-match", copy().copy_source_if_none_match(other)),
        ("if-unmodified-since", copy().copy_source_if_unmodified_since(modified)),
        ("if-modified-since", copy().copy_source_if_modified_since(before)),
    ] {
        s3.is(what, outcome(&done.send().await), success());
    }
    // <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>: the ETag overrules the time.
    let both = copy().copy_source_if_match(&etag).copy_source_if_unmodified_since(before);
    s3.is("matches, though modified", outcome(&both.send().await), success());
    let both = copy().copy_source_if_none_match(&etag).copy_source_if_modified_since(before);
    s3.is("known, though modified", outcome(&both.send().await), failed);
}

async fn a_copied_range_lies_within_its_source(s3: Arc<Server>) {
    s3.put(&s3.key("c"), noise(PART + 1)).await;
    let upload = Upload::begin(&s3, "f").await;
    let copy = |range: &str| copy(&s3, &upload, 1, "c").copy_source_range(range).send();
    // AWS documents neither of the two codes.
    for range in ["0-5242881", "5242881-5242882", "5-3", "-5", "5-"] {
        let (status, _) = outcome(&copy(&format!("bytes={range}")).await);
        s3.is(range, [400, 416].contains(&status), true);
    }
    s3.is("parts", upload.sizes().await, vec![]);
    let bare = outcome(&copy("0-5").await);
    let aws = refused(400, "InvalidArgument");
    s3.differs(Difference::AnyRangePasses, bare, aws, success());
    s3.is("all of it", outcome(&copy("bytes=0-5242880").await), success());
    let (second, last) = (Upload::begin(&s3, "g").await, "bytes=5242880-5242880");
    let last = self::copy(&s3, &second, 1, "c").copy_source_range(last).send().await;
    s3.is("its last byte", outcome(&last), success());
    s3.is("parts", second.sizes().await, vec![(1, 1)]);
}

async fn a_range_of_a_small_object_is_not_copied(s3: Arc<Server>) {
    s3.put(&s3.key("c"), noise(PART)).await;
    let upload = Upload::begin(&s3, "f").await;
    let range = copy(&s3, &upload, 1, "c").copy_source_range("bytes=0-99").send().await;
    let aws = refused(400, "InvalidRequest");
    s3.differs(Difference::SmallSourcesHaveRanges, outcome(&range), aws, success());
    s3.is("the whole", outcome(&copy(&s3, &upload, 1, "c").send().await), success());
}

async fn what_is_copied_stays_although_its_source_goes(s3: Arc<Server>) {
    let body = noise(PART);
    s3.put(&s3.key("c"), body.clone()).await;
    let upload = Upload::begin(&s3, "f").await;
    let parts =
        [copied(copy(&s3, &upload, 1, "c"), 1).await, copied(copy(&s3, &upload, 2, "c"), 2).await];
    s3.put(&s3.key("c"), "another").await;
    s3.client.delete_object().bucket(&s3.bucket).key(s3.key("c")).send().await.unwrap();
    upload.complete(&parts).send().await.unwrap();
    assert!(s3.get(&upload.key).await.unwrap() == [&body[..], &body].concat());
    // And of what was itself made of parts.
    let second = Upload::begin(&s3, "g").await;
    let part = [copied(copy(&s3, &second, 1, "f"), 1).await];
    s3.client.delete_object().bucket(&s3.bucket).key(&upload.key).send().await.unwrap();
    second.complete(&part).send().await.unwrap();
    assert!(s3.get(&second.key).await.unwrap() == [&body[..], &body].concat());
}

async fn a_copy_needs_a_source(s3: Arc<Server>) {
    let upload = Upload::begin(&s3, "f").await;
    let missing = copy(&s3, &upload, 1, "missing").send().await;
    s3.is("no object", outcome(&missing), refused(404, "NoSuchKey"));
    let nowhere = copy(&s3, &upload, 1, "x").copy_source(format!("{}/x", s3.bucket_name()));
    let nowhere = nowhere.send().await;
    s3.is("no bucket", outcome(&nowhere), refused(404, "NoSuchBucket"));
    s3.put(&s3.key("c"), noise(10)).await;
    let gone = Upload { id: "made-up".to_owned(), ..upload };
    let gone = copy(&s3, &gone, 1, "c").send().await;
    s3.is("no upload", outcome(&gone), refused(404, "NoSuchUpload"));
}
