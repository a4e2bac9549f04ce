//! Bodies are what the client says they are: checksums, Content-MD5, lengths, and bodies cut off.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType};
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::difference::Difference;
use super::server::{Kind, Server, outcome, refused, success};
use super::signing::{Request, answer};
use super::{Tests, tests};
use crate::client::{MIB, crc64, noise};

pub const TESTS: Tests = tests![
    a_body_that_fails_its_check_leaves_the_old_object,
    a_checksum_is_kept_and_shown_when_asked_for,
    a_checksum_may_come_behind_the_body,
    an_object_without_a_checksum_gets_crc64nvme,
    only_one_checksum_may_be_given,
    a_presigned_put_takes_the_length_and_checksum_that_were_signed,
    a_body_that_is_cut_off_leaves_the_old_object,
    a_length_must_be_given,
    a_body_that_would_be_too_large_is_refused_at_once,
];

fn put(s3: &Server, body: &'static [u8]) -> PutObjectFluentBuilder {
    let put = s3.client.put_object().bucket(&s3.bucket).key(s3.key("a"));
    put.body(ByteStream::from_static(body))
}

async fn head(s3: &Server) -> HeadObjectOutput {
    let head = s3.client.head_object().bucket(&s3.bucket).key(s3.key("a"));
    head.checksum_mode(ChecksumMode::Enabled).send().await.unwrap()
}

/// The checksums that an object shows.
fn shown(head: &HeadObjectOutput) -> Vec<(&'static str, String)> {
    let all = [
        ("CRC32", head.checksum_crc32()),
        ("CRC32C", head.checksum_crc32_c()),
        ("CRC64NVME", head.checksum_crc64_nvme()),
        ("SHA1", head.checksum_sha1()),
        ("SHA256", head.checksum_sha256()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect()
}

async fn a_body_that_fails_its_check_leaves_the_old_object(s3: Arc<Server>) {
    s3.put(&s3.key("a"), "old").await;
    let new = || put(&s3, b"new");
    // Each is right for another body.
    for (what, wrong) in [
        ("CRC32", new().checksum_crc32("2Vg1IA==")),
        ("CRC32C", new().checksum_crc32_c("uTja5A==")),
        ("CRC64NVME", new().checksum_crc64_nvme(crc64(b"other"))),
        ("SHA1", new().checksum_sha1("2jmj7l5rSw0yVb/vlWAYkK/YBwk=")),
        ("SHA256", new().checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")),
        ("Content-MD5", new().content_md5("1B2M2Y8AsgTpgAmY7PhCfg==")),
    ] {
        s3.is(what, outcome(&wrong.send().await), refused(400, "BadDigest"));
        s3.is(what, s3.get(&s3.key("a")).await, Some("old".into()));
    }
    let none = new().content_md5("nonsense").send().await;
    let bad = refused(400, "BadDigest");
    let difference = Difference::NoDigestIsABadDigest;
    s3.differs(difference, outcome(&none), refused(400, "InvalidDigest"), bad.clone());
    let none = new().checksum_crc64_nvme("AAAA").send().await;
    s3.differs(difference, outcome(&none), refused(400, "InvalidRequest"), bad);
    s3.is("still there", s3.get(&s3.key("a")).await, Some("old".into()));
}

async fn a_checksum_is_kept_and_shown_when_asked_for(s3: Arc<Server>) {
    let hello = || put(&s3, b"hello");
    for (name, value, put) in [
        ("CRC32", "NhCmhg==", hello().checksum_crc32("NhCmhg==")),
        ("CRC32C", "mnG7TA==", hello().checksum_crc32_c("mnG7TA==")),
        ("CRC64NVME", "M3eFcAZSQlc=", hello().checksum_crc64_nvme("M3eFcAZSQlc=")),
        (
            "SHA1",
            "qvTGHdzF6KLavt4PO0gs2a6pQ00=",
            hello().checksum_sha1("qvTGHdzF6KLavt4PO0gs2a6pQ00="),
        ),
        (
            "SHA256",
            "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
            hello().checksum_sha256("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="),
        ),
    ] {
        put.send().await.unwrap();
        let head = head(&s3).await;
        s3.is(name, shown(&head), vec![(name, value.to_owned())]);
        let full = Some(&ChecksumType::FullObject);
        s3.differs(Difference::NoChecksumType, head.checksum_type(), full, None);
    }
    let head = s3.client.head_object().bucket(&s3.bucket).key(s3.key("a")).send().await.unwrap();
    s3.is("not asked for", shown(&head), vec![]);
}

async fn a_checksum_may_come_behind_the_body(s3: Arc<Server>) {
    let config = s3.client.config().to_builder();
    let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
    let eager = Client::from_conf(config.build());
    let body = noise(300_000);
    for name in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] {
        let put = eager.put_object().bucket(&s3.bucket).key(s3.key("a"));
        let put = put.checksum_algorithm(ChecksumAlgorithm::from(name)).body(body.clone().into());
        put.send().await.unwrap();
        let head = head(&s3).await;
        s3.is("shown", shown(&head).iter().map(|one| one.0).collect(), vec![name]);
        s3.is("encoding", head.content_encoding(), None);
        assert!(s3.get(&s3.key("a")).await.unwrap() == body);
    }
}

async fn an_object_without_a_checksum_gets_crc64nvme(s3: Arc<Server>) {
    s3.put(&s3.key("a"), "hello").await;
    let expected = vec![("CRC64NVME", crc64(b"hello"))];
    s3.differs(Difference::NoChecksumOfItsOwn, shown(&head(&s3).await), expected, vec![]);
}

async fn only_one_checksum_may_be_given(s3: Arc<Server>) {
    let two = put(&s3, b"hello").checksum_crc32("NhCmhg==").checksum_crc32_c("mnG7TA==");
    let two = outcome(&two.send().await);
    s3.differs(Difference::TwoChecksumsPass, two, refused(400, "InvalidRequest"), success());
    let object = s3.get(&s3.key("a")).await;
    s3.differs(Difference::TwoChecksumsPass, object, None, Some("hello".into()));
}

async fn a_presigned_put_takes_the_length_and_checksum_that_were_signed(s3: Arc<Server>) {
    let (key, body) = (s3.key("a"), noise(100_000));
    let (length, checksum) = (body.len().to_string(), crc64(&body));
    let headers = [("content-length", length.as_str()), ("x-amz-checksum-crc64nvme", &checksum)];
    let put = Request { headers: &headers, ..Request::new(Method::PUT, &key) };
    let other: Vec<u8> = body.iter().map(|byte| !byte).collect();
    let sent = answer(put.build(&s3).body(other)).await;
    s3.is("other bytes", sent, refused(400, "BadDigest"));
    let sent = answer(put.build(&s3).body(body.slice(1..))).await;
    s3.is("a byte less", sent, refused(403, "SignatureDoesNotMatch"));
    s3.is("object", s3.get(&key).await, None);
    let sent = answer(put.build(&s3).body(body.clone())).await;
    s3.is("what was signed", sent.0, 200);
    assert!(s3.get(&key).await.unwrap() == body);
}

/// Sends the head of a presigned PUT by hand, with this length.
async fn begin(s3: &Server, length: Option<u64>) -> TcpStream {
    let key = s3.key("a");
    let url = Request::new(Method::PUT, &key).url(s3);
    let path = url.split_once(&s3.address.to_string()).unwrap().1;
    let mut head = format!("PUT {path} HTTP/1.1\r\nhost: {}\r\n", s3.address);
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    let mut stream = TcpStream::connect(s3.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.ok()?;
    std::str::from_utf8(&start[9..]).ok()?.parse().ok()
}

async fn a_body_that_is_cut_off_leaves_the_old_object(s3: Arc<Server>) {
    s3.put(&s3.key("a"), "old").await;
    let body = noise(2 * MIB);
    // One who goes away, and one who says that this was all.
    let mut gone = begin(&s3, Some(3 * MIB as u64)).await;
    gone.write_all(&body).await.unwrap();
    drop(gone);
    let mut ended = begin(&s3, Some(3 * MIB as u64)).await;
    ended.write_all(&body).await.unwrap();
    ended.shutdown().await.unwrap();
    let told = status(&mut ended).await;
    s3.is("not taken", told.is_none_or(|status| status >= 400), true);
    s3.is("object", s3.get(&s3.key("a")).await, Some("old".into()));
}

async fn a_length_must_be_given(s3: Arc<Server>) {
    let mut chunked = begin(&s3, None).await;
    chunked.write_all(b"5\r\nhello\r\n0\r\n\r\n").await.unwrap();
    let told = status(&mut chunked).await;
    s3.differs(Difference::LengthIsNotNeeded, told, Some(411), Some(200));
    let object = s3.get(&s3.key("a")).await;
    s3.differs(Difference::LengthIsNotNeeded, object, None, Some("hello".into()));
}

async fn a_body_that_would_be_too_large_is_refused_at_once(s3: Arc<Server>) {
    let mut large = begin(&s3, Some(5 * 1024 * MIB as u64 + 1)).await;
    large.write_all(b"hello").await.unwrap();
    // Who reads on says nothing, however long one waits.
    let patience = if s3.kind == Kind::Local { 30 } else { 2 };
    let told = tokio::time::timeout(Duration::from_secs(patience), status(&mut large)).await;
    let told = told.ok().flatten();
    s3.differs(Difference::TooLargeIsNotRefusedAtOnce, told, Some(400), None);
    drop(large);
    s3.is("object", s3.get(&s3.key("a")).await, None);
}
