//! Put, get, head and delete of single objects.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, Delete, ObjectIdentifier};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_comes_back_as_it_was_put() {
    let rig = Rig::start().await;
    let body = noise(3 * MIB + 17, 1);
    let put = rig
        .client
        .put_object()
        .bucket(BUCKET)
        .key("dir/a.bin")
        .body(ByteStream::from(body.clone()));
    let put = put
        .content_type("video/mp4")
        .content_disposition("attachment; filename=\"a.bin\"")
        .cache_control("no-store")
        .content_language("de")
        .metadata("assembly-id", "42")
        .send()
        .await
        .unwrap();
    assert_eq!(put.checksum_crc64_nvme(), Some(crc64(&body).as_str()));

    let head = rig.client.head_object().bucket(BUCKET).key("dir/a.bin");
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(head.content_length(), Some(body.len() as i64));
    assert_eq!(head.e_tag(), put.e_tag());
    assert_eq!(head.checksum_crc64_nvme(), Some(crc64(&body).as_str()));
    assert_eq!(head.checksum_type(), Some(&ChecksumType::FullObject));
    assert_eq!(head.content_type(), Some("video/mp4"));
    assert_eq!(head.content_disposition(), Some("attachment; filename=\"a.bin\""));
    assert_eq!(head.cache_control(), Some("no-store"));
    assert_eq!(head.content_language(), Some("de"));
    assert_eq!(head.metadata().unwrap()["assembly-id"], "42");
    assert!(
        rig.client
            .head_object()
            .bucket(BUCKET)
            .key("dir/a.bin")
            .send()
            .await
            .unwrap()
            .checksum_type()
            .is_none()
    );

    let got =
        rig.client.get_object().bucket(BUCKET).key("dir/a.bin").response_content_type("text/plain");
    let got = got.response_content_disposition("inline").send().await.unwrap();
    assert_eq!(
        (got.content_type(), got.content_disposition()),
        (Some("text/plain"), Some("inline"))
    );
    assert_eq!(bytes(got).await, body);

    let rig = rig.restart().await;
    assert_eq!(rig.get("dir/a.bin").await, Some(body));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_object_and_its_etag() {
    let rig = Rig::start().await;
    assert_eq!(rig.put("empty", "").await, "\"d41d8cd98f00b204e9800998ecf8427e\"");
    assert_eq!(rig.get("empty").await, Some(Vec::new()));
    assert_eq!(rig.blobs(), 0);
    let range = rig.client.get_object().bucket(BUCKET).key("empty").range("bytes=0-0").send().await;
    assert_eq!(code(&range.unwrap_err()), (416, "InvalidRange".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_fails_its_check_leaves_the_old_object() {
    let rig = Rig::start().await;
    rig.put("a", "old").await;
    let put =
        || rig.client.put_object().bucket(BUCKET).key("a").body(ByteStream::from_static(b"new"));
    let refusals = [
        put().checksum_crc64_nvme(crc64(b"other")).send().await,
        put().checksum_crc32_c(crc(crc_fast::CrcAlgorithm::Crc32Iscsi, b"other")).send().await,
        put().checksum_crc32(crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc, b"other")).send().await,
        put().checksum_sha1("2jmj7l5rSw0yVb/vlWAYkK/YBwk=").send().await,
        put().checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").send().await,
        put().content_md5("1B2M2Y8AsgTpgAmY7PhCfg==").send().await,
    ];
    for refusal in refusals {
        assert_eq!(code(&refusal.unwrap_err()), (400, "BadDigest".into()));
    }
    let unknown = put().checksum_sha512("AAAA").send().await.unwrap_err();
    assert_eq!(code(&unknown), (501, "NotImplemented".into()));
    let invalid = put().content_md5("nonsense").send().await.unwrap_err();
    assert_eq!(code(&invalid), (400, "InvalidDigest".into()));
    let invalid = put().checksum_crc64_nvme("AAAA").send().await.unwrap_err();
    assert_eq!(code(&invalid), (400, "InvalidRequest".into()));
    assert_eq!(rig.get("a").await, Some(b"old".to_vec()));
    assert_eq!((rig.blobs(), files(&rig.folder.path().join("drafts"))), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_data() {
    let rig = Rig::start().await;
    let long = "k".repeat(1024);
    let umlauts = "ü".repeat(512);
    let keys = [
        "a",
        "a/b",
        "a/",
        "a//b",
        "/a",
        "../x",
        "../../../../etc/passwd",
        "a/../b",
        "a/./b",
        ".",
        "..",
        "a b",
        " a ",
        "a+b",
        "100%",
        "%2F",
        "%",
        "a?b=c&d",
        "a#b",
        "ключ/файл.txt",
        "🦀",
        "a\\b",
        "\"q\"",
        "<&>'",
        "con",
        "a:b",
        "a\tb",
        "*",
        "~",
        "a=b;c,d!$()@[]{}|^`",
        long.as_str(),
        umlauts.as_str(),
    ];
    for key in keys {
        rig.put(key, key.as_bytes()).await;
    }
    let rig = rig.restart().await;
    for key in keys {
        assert_eq!(rig.get(key).await.as_deref(), Some(key.as_bytes()), "{key}");
        rig.client.head_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    let listed = rig.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let listed: Vec<&str> = listed.contents().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(listed, sorted);
    let too_long = "k".repeat(1025);
    let refused = rig.client.put_object().bucket(BUCKET).key(too_long).send().await.unwrap_err();
    assert_eq!(code(&refused), (400, "KeyTooLongError".into()));
    for key in keys {
        rig.client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(rig.get(key).await, None, "{key}");
    }
    assert_eq!(rig.blobs(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_deleted_at_once() {
    let rig = Rig::start().await;
    for n in 0..20 {
        rig.put(&format!("n/{n} &<é"), "x").await;
    }
    let named = |key: String| ObjectIdentifier::builder().key(key).build().unwrap();
    let delete =
        Delete::builder().set_objects(Some((0..25).map(|n| named(format!("n/{n} &<é"))).collect()));
    let done = rig
        .client
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete.build().unwrap())
        .send()
        .await
        .unwrap();
    // That a key was not there is no error.
    assert_eq!((done.deleted().len(), done.errors().len()), (25, 0));
    let rig = rig.restart().await;
    assert_eq!(
        rig.client.list_objects_v2().bucket(BUCKET).send().await.unwrap().key_count(),
        Some(0)
    );
    assert_eq!(rig.blobs(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_beyond_the_limit() {
    let rig = Rig::start().await;
    rig.put("a", vec![1; 600_000]).await;
    rig.store.set_max_bytes(Some(1_000_000));
    let put = |length| {
        rig.client.put_object().bucket(BUCKET).key("a").body(ByteStream::from(vec![2; length]))
    };
    let refused = put(500_000).send().await.unwrap_err();
    assert_eq!(code(&refused), (507, "InsufficientStorage".into()));
    assert_eq!(rig.get("a").await, Some(vec![1; 600_000]));
    put(300_000).send().await.unwrap();
    let rig = rig.restart().await;
    rig.store.set_max_bytes(Some(300_001));
    let refused = rig
        .client
        .put_object()
        .bucket(BUCKET)
        .key("b")
        .body(ByteStream::from_static(b"xy"))
        .send()
        .await;
    assert_eq!(code(&refused.unwrap_err()).0, 507);
    rig.store.set_max_bytes(None);
    rig.put("b", "xy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_and_what_is_not_there() {
    let rig = Rig::start().await;
    let again = rig.client.create_bucket().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(code(&again), (409, "BucketAlreadyOwnedByYou".into()));
    rig.client.create_bucket().bucket("second").send().await.unwrap();
    rig.client.head_bucket().bucket("second").send().await.unwrap();
    assert_eq!(code(&rig.client.head_bucket().bucket("third").send().await.unwrap_err()).0, 404);
    let put = rig
        .client
        .put_object()
        .bucket("third")
        .key("a")
        .body(ByteStream::from_static(b"x"))
        .send()
        .await;
    assert_eq!(code(&put.unwrap_err()), (404, "NoSuchBucket".into()));
    let copy =
        rig.client.copy_object().bucket(BUCKET).key("a").copy_source("second/a").send().await;
    assert_eq!(code(&copy.unwrap_err()), (501, "NotImplemented".into()));
    let rig = rig.restart().await;
    rig.client.head_bucket().bucket("second").send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_store_on_the_folder_is_refused() {
    let rig = Rig::start().await;
    let path = rig.folder.path().to_owned();
    let second = tokio::task::spawn_blocking(move || Store::open(&path)).await.unwrap();
    assert_eq!(second.err().unwrap().kind(), std::io::ErrorKind::ResourceBusy);
}
