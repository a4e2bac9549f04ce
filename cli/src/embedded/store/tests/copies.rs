//! Part copies, which are references to the bytes that are there.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};

use super::multipart::{PART, complete};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_part_copy_is_a_reference() {
    let rig = Rig::start().await;
    let bodies = [noise(PART, 1), noise(PART + 7, 2)];
    let etags =
        [rig.put("c/ü %+0", bodies[0].clone()).await, rig.put("c/1", bodies[1].clone()).await];
    let begun = rig.client.create_multipart_upload().bucket(BUCKET).key("f");
    let begun = begun
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject);
    let upload = begun.send().await.unwrap().upload_id.unwrap();
    let copy = |number: i32, source: &str| {
        let copy = rig
            .client
            .upload_part_copy()
            .bucket(BUCKET)
            .key("f")
            .upload_id(&upload)
            .part_number(number);
        copy.copy_source(format!("{BUCKET}/{source}"))
    };
    let refused = copy(1, "c/1").copy_source_if_match(&etags[0]).send().await.unwrap_err();
    assert_eq!(code(&refused), (412, "PreconditionFailed".into()));
    let refused = copy(1, "c/1").copy_source_if_none_match(&etags[1]).send().await.unwrap_err();
    assert_eq!(code(&refused), (412, "PreconditionFailed".into()));
    assert_eq!(code(&copy(1, "c/2").send().await.unwrap_err()), (404, "NoSuchKey".into()));
    let beyond = copy(1, "c/1")
        .copy_source_range(format!("bytes=0-{}", bodies[1].len()))
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&beyond), (400, "InvalidArgument".into()));

    let first = copy(1, "c/%C3%BC%20%25%2B0").copy_source_if_match(&etags[0]).send().await.unwrap();
    let first = first.copy_part_result.unwrap();
    assert_eq!(first.e_tag(), Some(etags[0].as_str()));
    assert_eq!(first.checksum_crc64_nvme(), Some(crc64(&bodies[0]).as_str()));
    let range = 3..PART + 5;
    let second =
        copy(2, "c/1").copy_source_range(format!("bytes={}-{}", range.start, range.end - 1));
    let second = second.send().await.unwrap().copy_part_result.unwrap();
    assert_eq!(second.checksum_crc64_nvme(), Some(crc64(&bodies[1][range.clone()]).as_str()));
    assert_eq!(rig.blobs(), 2);
    // The sources go, their bytes stay for as long as a part or an object needs them.
    for key in ["c/ü %+0", "c/1"] {
        rig.client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    let rig = rig.restart().await;
    let whole = [&bodies[0][..], &bodies[1][range]].concat();
    let parts = [(1, first.e_tag.unwrap()), (2, second.e_tag.unwrap())];
    complete(&rig, "f", &upload, parts).checksum_crc64_nvme(crc64(&whole)).send().await.unwrap();
    assert_eq!(rig.get("f").await.as_ref(), Some(&whole));

    // A copy of a multipart object, whose ETag is no MD5.
    let upload = rig.begin("g").await;
    let copy =
        rig.client.upload_part_copy().bucket(BUCKET).key("g").upload_id(&upload).part_number(1);
    let part =
        copy.copy_source(format!("{BUCKET}/f")).send().await.unwrap().copy_part_result.unwrap();
    complete(&rig, "g", &upload, [(1, part.e_tag.unwrap())]).send().await.unwrap();
    let rig = rig.restart().await;
    rig.client.delete_object().bucket(BUCKET).key("f").send().await.unwrap();
    assert_eq!(rig.get("g").await, Some(whole));
    assert_eq!(rig.blobs(), 2);
    rig.client.delete_object().bucket(BUCKET).key("g").send().await.unwrap();
    until(|| rig.blobs() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completing_copies_is_no_second_set_of_bytes() {
    let rig = Rig::start().await;
    let body = noise(PART, 1);
    rig.put("chunk", body.clone()).await;
    let upload = rig.begin("f").await;
    let copies = (1..=100).map(|number| {
        let copy = rig
            .client
            .upload_part_copy()
            .bucket(BUCKET)
            .key("f")
            .upload_id(&upload)
            .part_number(number);
        let copy = copy.copy_source(format!("{BUCKET}/chunk"));
        async move { (number, copy.send().await.unwrap().copy_part_result.unwrap().e_tag.unwrap()) }
    });
    let parts = futures::future::join_all(copies).await;
    let started = std::time::Instant::now();
    let done = complete(&rig, "f", &upload, parts).send().await.unwrap();
    println!("completing 100 copied parts took {:?}", started.elapsed());
    let expected = super::super::crc::Crc::CRC64NVME.combine((0..100).map(|_| {
        (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &body), body.len() as u64)
    }));
    assert_eq!(done.checksum_crc64_nvme(), Some(STANDARD.encode(expected.to_be_bytes()).as_str()));
    assert_eq!(rig.blobs(), 1);
    let head = rig.client.head_object().bucket(BUCKET).key("f").send().await.unwrap();
    assert_eq!(head.content_length(), Some(100 * PART as i64));
}
