//! Multipart uploads: parts, Complete and its refusals.

use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};

use super::*;

pub const PART: usize = 5 * MIB;

pub fn complete(
    rig: &Rig,
    key: &str,
    upload: &str,
    parts: impl IntoIterator<Item = (i32, String)>,
) -> CompleteMultipartUploadFluentBuilder {
    let part = |(number, etag): (i32, String)| {
        CompletedPart::builder().part_number(number).e_tag(etag).build()
    };
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts.into_iter().map(part).collect()))
        .build();
    rig.client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(upload)
        .multipart_upload(parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_become_one_object_and_complete_may_be_asked_again() {
    let rig = Rig::start().await;
    let bodies = [noise(PART, 1), noise(PART, 2), noise(1000, 3)];
    let whole = bodies.concat();
    let begun = rig.client.create_multipart_upload().bucket(BUCKET).key("f").content_type("text/x");
    let begun = begun
        .content_disposition("attachment")
        .metadata("assembly-id", "7")
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject)
        .send()
        .await
        .unwrap();
    let upload = begun.upload_id.unwrap();
    let mut parts = Vec::new();
    // Out of order, and one of them twice.
    for index in [2, 0, 1, 0] {
        let put = rig
            .client
            .upload_part()
            .bucket(BUCKET)
            .key("f")
            .upload_id(&upload)
            .part_number(index as i32 + 1);
        let put = put
            .checksum_crc64_nvme(crc64(&bodies[index]))
            .body(ByteStream::from(bodies[index].clone()));
        let put = put.send().await.unwrap();
        assert_eq!(put.checksum_crc64_nvme(), Some(crc64(&bodies[index]).as_str()));
        parts.push((index as i32 + 1, put.e_tag.unwrap()));
    }
    parts.sort();
    parts.dedup();
    assert_eq!(rig.get("f").await, None);
    let rig = rig.restart().await;
    let listed = rig
        .client
        .list_parts()
        .bucket(BUCKET)
        .key("f")
        .upload_id(&upload)
        .max_parts(2)
        .send()
        .await
        .unwrap();
    assert_eq!((listed.parts().len(), listed.is_truncated()), (2, Some(true)));
    assert_eq!(listed.parts()[0].checksum_crc64_nvme(), Some(crc64(&bodies[0]).as_str()));
    let marker = listed.next_part_number_marker.unwrap();
    let rest = rig
        .client
        .list_parts()
        .bucket(BUCKET)
        .key("f")
        .upload_id(&upload)
        .part_number_marker(marker);
    assert_eq!(rest.send().await.unwrap().parts()[0].size(), Some(1000));

    let done = complete(&rig, "f", &upload, parts.clone()).checksum_crc64_nvme(crc64(&whole));
    let done = done.mpu_object_size(whole.len() as i64).send().await.unwrap();
    assert_eq!(done.checksum_crc64_nvme(), Some(crc64(&whole).as_str()));
    assert_eq!(done.checksum_type(), Some(&ChecksumType::FullObject));
    assert!(done.e_tag().unwrap().ends_with("-3\""));
    assert_eq!(rig.get("f").await.as_ref(), Some(&whole));
    let head =
        rig.client.head_object().bucket(BUCKET).key("f").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.checksum_crc64_nvme(), Some(crc64(&whole).as_str()));
    assert_eq!(head.e_tag(), done.e_tag());
    assert_eq!(
        (head.content_type(), head.content_disposition()),
        (Some("text/x"), Some("attachment"))
    );
    assert_eq!(head.metadata().unwrap()["assembly-id"], "7");
    let across = format!("bytes={}-{}", PART - 10, 2 * PART + 9);
    let across =
        rig.client.get_object().bucket(BUCKET).key("f").range(across).send().await.unwrap();
    assert_eq!(bytes(across).await, whole[PART - 10..2 * PART + 10]);

    let rig = rig.restart().await;
    let again = complete(&rig, "f", &upload, parts).send().await.unwrap();
    assert_eq!(
        (again.e_tag(), again.checksum_crc64_nvme()),
        (done.e_tag(), done.checksum_crc64_nvme())
    );
    let late = rig
        .client
        .upload_part()
        .bucket(BUCKET)
        .key("f")
        .upload_id(&upload)
        .part_number(1)
        .send()
        .await;
    assert_eq!(code(&late.unwrap_err()), (404, "NoSuchUpload".into()));
    assert_eq!(rig.blobs(), 3);
    assert_eq!(files(&rig.folder.path().join("buckets/upflow/uploads")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_complete_leaves_the_upload_usable() {
    let rig = Rig::start().await;
    rig.put("f", "old").await;
    let bodies = [noise(PART, 1), noise(1000, 2), noise(1000, 3)];
    let begun = rig.client.create_multipart_upload().bucket(BUCKET).key("f");
    let begun =
        begun.checksum_algorithm(ChecksumAlgorithm::Crc32C).checksum_type(ChecksumType::FullObject);
    let upload = begun.send().await.unwrap().upload_id.unwrap();
    let mut etags = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        let put = rig
            .client
            .upload_part()
            .bucket(BUCKET)
            .key("f")
            .upload_id(&upload)
            .part_number(index as i32 + 1);
        let put = put.checksum_crc32_c(crc(crc_fast::CrcAlgorithm::Crc32Iscsi, body));
        etags.push(put.body(ByteStream::from(body.clone())).send().await.unwrap().e_tag.unwrap());
    }
    let [one, two, three] = [0, 1, 2].map(|index: usize| (index as i32 + 1, etags[index].clone()));
    let good = || complete(&rig, "f", &upload, [one.clone(), two.clone()]);
    let wrong = "\"00000000000000000000000000000000\"".to_owned();
    let refusals = [
        (complete(&rig, "f", &upload, [two.clone(), one.clone()]), 400, "InvalidPartOrder"),
        (complete(&rig, "f", &upload, [one.clone(), one.clone()]), 400, "InvalidPartOrder"),
        (complete(&rig, "f", &upload, [one.clone(), (2, wrong)]), 400, "InvalidPart"),
        (complete(&rig, "f", &upload, [one.clone(), (9, two.1.clone())]), 400, "InvalidPart"),
        (complete(&rig, "f", &upload, [one.clone(), two.clone(), three]), 400, "EntityTooSmall"),
        (complete(&rig, "f", &upload, []), 400, "MalformedXML"),
        (good().if_none_match("*"), 412, "PreconditionFailed"),
        (good().if_match("\"00\""), 412, "PreconditionFailed"),
        (good().mpu_object_size(7), 400, "InvalidRequest"),
        (good().checksum_crc32_c("AAAAAA=="), 400, "BadDigest"),
        (good().checksum_crc64_nvme("AAAAAAAAAAA="), 400, "InvalidRequest"),
        (good().checksum_type(ChecksumType::Composite), 400, "InvalidRequest"),
        (complete(&rig, "g", &upload, [one.clone()]), 404, "NoSuchUpload"),
    ];
    for (request, status, name) in refusals {
        let refusal = request.send().await.unwrap_err();
        assert_eq!(code(&refusal), (status, name.into()));
        assert_eq!(rig.get("f").await, Some(b"old".to_vec()));
    }
    let whole = bodies[..2].concat();
    let crc32c = crc(crc_fast::CrcAlgorithm::Crc32Iscsi, &whole);
    let done = good().checksum_crc32_c(&crc32c).send().await.unwrap();
    assert_eq!(done.checksum_crc32_c(), Some(crc32c.as_str()));
    assert_eq!(rig.get("f").await, Some(whole));
    // The part that was not listed, and the object that was there, are gone.
    until(|| rig.blobs() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn composite_checksums_and_mismatched_algorithms() {
    let rig = Rig::start().await;
    let begun = rig.client.create_multipart_upload().bucket(BUCKET).key("f");
    let begun = begun.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    assert_eq!(begun.checksum_type(), Some(&ChecksumType::Composite));
    let upload = begun.upload_id.unwrap();
    let put = |number| {
        let put =
            rig.client.upload_part().bucket(BUCKET).key("f").upload_id(&upload).part_number(number);
        put.body(ByteStream::from_static(b"hello"))
    };
    let refused = put(1).send().await.unwrap_err();
    assert_eq!(code(&refused), (400, "InvalidRequest".into()));
    let refused = put(1).checksum_crc64_nvme(crc64(b"hello")).send().await.unwrap_err();
    assert_eq!(code(&refused), (400, "InvalidRequest".into()));
    let sha = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let etag = put(1).checksum_sha256(sha).send().await.unwrap().e_tag.unwrap();
    let refused = complete(&rig, "f", &upload, [(1, etag.clone())]).send().await.unwrap_err();
    assert_eq!(code(&refused), (400, "InvalidRequest".into()));
    let part = CompletedPart::builder().part_number(1).e_tag(etag).checksum_sha256(sha).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let done = rig.client.complete_multipart_upload().bucket(BUCKET).key("f").upload_id(&upload);
    let done = done.multipart_upload(parts).send().await.unwrap();
    assert_eq!(done.checksum_type(), Some(&ChecksumType::Composite));
    assert!(done.checksum_sha256().unwrap().ends_with("=-1"));
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Sha256, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::Composite),
    ] {
        let begun = rig.client.create_multipart_upload().bucket(BUCKET).key("f");
        let refused =
            begun.checksum_algorithm(algorithm).checksum_type(kind).send().await.unwrap_err();
        assert_eq!(code(&refused), (400, "InvalidRequest".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_leaves_nothing() {
    let rig = Rig::start().await;
    let upload = rig.begin("f").await;
    rig.put_part("f", &upload, 1, noise(MIB, 1)).await;
    let abort = || rig.client.abort_multipart_upload().bucket(BUCKET).key("f").upload_id(&upload);
    abort().send().await.unwrap();
    assert_eq!(code(&abort().send().await.unwrap_err()), (404, "NoSuchUpload".into()));
    let listed = rig.client.list_parts().bucket(BUCKET).key("f").upload_id(&upload).send().await;
    assert_eq!(code(&listed.unwrap_err()), (404, "NoSuchUpload".into()));
    until(|| rig.blobs() == 0).await;
    for number in [0, 10_001] {
        let put = rig
            .client
            .upload_part()
            .bucket(BUCKET)
            .key("f")
            .upload_id("x")
            .part_number(number)
            .send()
            .await;
        assert_eq!(code(&put.unwrap_err()), (400, "InvalidArgument".into()));
    }
}

#[test]
fn combining_is_what_crc_fast_combines() {
    use super::super::crc::Crc;
    let cases = [
        (Crc::CRC32, crc_fast::CrcAlgorithm::Crc32IsoHdlc),
        (Crc::CRC32C, crc_fast::CrcAlgorithm::Crc32Iscsi),
        (Crc::CRC64NVME, crc_fast::CrcAlgorithm::Crc64Nvme),
    ];
    for (crc, algorithm) in cases {
        let whole = noise(100_003, 4);
        for cuts in [
            vec![0, 100_003],
            vec![0, 1, 2, 50_000, 100_000, 100_003],
            vec![0, 0, 100_003, 100_003],
        ] {
            let parts = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]);
            let combined = crc.combine(
                parts.map(|part| (crc_fast::checksum(algorithm, part), part.len() as u64)),
            );
            assert_eq!(combined, crc_fast::checksum(algorithm, &whole), "{algorithm:?} {cuts:?}");
        }
    }
}
