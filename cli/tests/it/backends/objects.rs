//! PutObject, GetObject, HeadObject, DeleteObject and DeleteObjects; buckets.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use reqwest::Method;

use super::difference::Difference;
use super::server::{Server, outcome, refused, success};
use super::signing::{Request, answer};
use super::{Tests, tests};
use crate::client::{MIB, noise};

pub const TESTS: Tests = tests![
    an_object_comes_back_with_all_that_was_said_of_it,
    an_empty_object_is_an_object,
    ranges_are_what_was_asked_for,
    a_signed_request_may_override_headers_of_the_answer,
    what_is_overwritten_is_gone_as_a_whole,
    deleting_what_is_not_there_is_no_error,
    a_thousand_keys_are_deleted_at_once_and_no_more,
    what_is_not_there_is_told_by_its_code,
];

async fn an_object_comes_back_with_all_that_was_said_of_it(s3: Arc<Server>) {
    let (key, body) = (s3.key("dir/a.bin"), noise(3 * MIB + 17));
    let put = s3.client.put_object().bucket(&s3.bucket).key(&key).body(body.clone().into());
    let put = put
        .content_type("video/mp4")
        .content_disposition("attachment; filename=\"a.bin\"")
        .content_language("de")
        .cache_control("no-store")
        .metadata("assembly-id", "42")
        .send()
        .await
        .unwrap();
    let head = s3.client.head_object().bucket(&s3.bucket).key(&key).send().await.unwrap();
    s3.is("length", head.content_length(), Some(body.len() as i64));
    s3.is("ETag", head.e_tag(), put.e_tag());
    s3.is("type", head.content_type(), Some("video/mp4"));
    s3.is("disposition", head.content_disposition(), Some("attachment; filename=\"a.bin\""));
    s3.is("language", head.content_language(), Some("de"));
    s3.is("caching", head.cache_control(), Some("no-store"));
    let metadata = head.metadata().and_then(|all| all.get("assembly-id")).map(String::as_str);
    s3.is("metadata", metadata, Some("42"));
    s3.is("ranges", head.accept_ranges(), Some("bytes"));
    let got = s3.client.get_object().bucket(&s3.bucket).key(&key).send().await.unwrap();
    s3.is("ETag", got.e_tag(), put.e_tag());
    s3.is("type", got.content_type(), Some("video/mp4"));
    assert!(got.body.collect().await.unwrap().into_bytes() == body);

    // An SDK would name a type of its own.
    let plain = s3.key("plain");
    let sent = Request::new(Method::PUT, &plain).build(&s3).body("x").send().await.unwrap();
    s3.is("status", sent.status().as_u16(), 200);
    let head = s3.client.head_object().bucket(&s3.bucket).key(&plain).send().await.unwrap();
    let (aws, there) = (Some("binary/octet-stream"), Some("text/plain; charset=utf-8"));
    s3.differs(Difference::TypeIsGuessed, head.content_type(), aws, there);
}

async fn an_empty_object_is_an_object(s3: Arc<Server>) {
    let key = s3.key("empty");
    s3.is(
        "MD5 of nothing",
        s3.put(&key, "").await.as_str(),
        "\"d41d8cd98f00b204e9800998ecf8427e\"",
    );
    s3.is("body", s3.get(&key).await, Some(bytes::Bytes::new()));
    let range = s3.client.get_object().bucket(&s3.bucket).key(&key).range("bytes=0-0").send().await;
    s3.is("a range of it", outcome(&range), refused(416, "InvalidRange"));
}

async fn ranges_are_what_was_asked_for(s3: Arc<Server>) {
    let (key, body) = (s3.key("a"), noise(2 * MIB));
    s3.put(&key, body.clone()).await;
    let last = body.len() - 1;
    let get =
        |range: String| s3.client.get_object().bucket(&s3.bucket).key(&key).range(range).send();
    for (asked, expected) in [
        ("bytes=0-0".to_owned(), 0..1),
        (format!("bytes=100-{}", MIB + 5), 100..MIB + 6),
        (format!("bytes={last}-"), last..last + 1),
        ("bytes=-1000".to_owned(), body.len() - 1000..body.len()),
        (format!("bytes=5-{}", last + 100), 5..body.len()),
        (format!("bytes=-{}", body.len() + 100), 0..body.len()),
    ] {
        let got = get(asked.clone()).await.unwrap();
        let header = format!("bytes {}-{}/{}", expected.start, expected.end - 1, body.len());
        s3.is(&asked, got.content_range(), Some(header.as_str()));
        s3.is(&asked, got.content_length(), Some(expected.len() as i64));
        assert!(got.body.collect().await.unwrap().into_bytes() == body[expected], "{asked}");
    }
    let beyond = get(format!("bytes={}-", body.len())).await;
    s3.is("beyond the end", outcome(&beyond), refused(416, "InvalidRange"));
    let signed = Request::new(Method::GET, &key).build(&s3).header("range", "bytes=1-2");
    s3.is("status", signed.send().await.unwrap().status().as_u16(), 206);
}

async fn a_signed_request_may_override_headers_of_the_answer(s3: Arc<Server>) {
    let key = s3.key("a");
    s3.put(&key, "hello").await;
    let query = [
        ("response-content-type", "text/x-other"),
        ("response-content-disposition", "attachment; filename=\"b c.txt\""),
        ("response-content-language", "fr"),
        ("response-cache-control", "max-age=7"),
        ("response-content-encoding", "x-other"),
        ("response-expires", "Thu, 01 Dec 2044 16:00:00 GMT"),
    ];
    for (method, range) in
        [(Method::GET, None), (Method::GET, Some("bytes=1-2")), (Method::HEAD, None)]
    {
        let mut request =
            Request { query: &query, ..Request::new(method.clone(), &key) }.build(&s3);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let got = request.send().await.unwrap();
        for (name, value) in query {
            let header = name.strip_prefix("response-").unwrap();
            let found = got.headers().get(header).map(|value| value.to_str().unwrap());
            s3.is(&format!("{method} {range:?} {header}"), found, Some(value));
        }
    }
}

async fn what_is_overwritten_is_gone_as_a_whole(s3: Arc<Server>) {
    let key = s3.key("a");
    let put = s3.client.put_object().bucket(&s3.bucket).key(&key).content_type("text/x-old");
    put.metadata("old", "yes").body(noise(MIB).into()).send().await.unwrap();
    let sent = Request::new(Method::PUT, &key).build(&s3).body("new").send().await.unwrap();
    s3.is("status", sent.status().as_u16(), 200);
    s3.is("body", s3.get(&key).await, Some("new".into()));
    let head = s3.client.head_object().bucket(&s3.bucket).key(&key).send().await.unwrap();
    s3.is("type", head.content_type() == Some("text/x-old"), false);
    s3.is("metadata", head.metadata().is_none_or(|all| all.is_empty()), true);
}

async fn deleting_what_is_not_there_is_no_error(s3: Arc<Server>) {
    let key = s3.key("a");
    s3.put(&key, "x").await;
    for _ in 0..2 {
        let url = Request::new(Method::DELETE, &key).build(&s3);
        s3.is("status", url.send().await.unwrap().status().as_u16(), 204);
        s3.is("object", s3.get(&key).await, None);
    }
}

fn named(keys: impl IntoIterator<Item = String>, quiet: bool) -> Delete {
    let keys = keys.into_iter().map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    Delete::builder().set_objects(Some(keys.collect())).quiet(quiet).build().unwrap()
}

async fn a_thousand_keys_are_deleted_at_once_and_no_more(s3: Arc<Server>) {
    let key = |n: usize| s3.key(&format!("n/{n} &<é"));
    for n in 0..5 {
        s3.put(&key(n), "x").await;
    }
    let delete = |keys, quiet| {
        s3.client.delete_objects().bucket(&s3.bucket).delete(named(keys, quiet)).send()
    };
    let done = delete((0..3).chain([7]).map(key).collect::<Vec<_>>(), false).await.unwrap();
    let deleted: Vec<_> = done.deleted().iter().map(|one| one.key().unwrap().to_owned()).collect();
    s3.is("that one was not there is no error", deleted, [0, 1, 2, 7].map(key).to_vec());
    s3.is("errors", done.errors().len(), 0);
    let quiet = delete(vec![key(3)], true).await.unwrap();
    s3.is("quiet", quiet.deleted().len(), 0);
    let list = s3.client.list_objects_v2().bucket(&s3.bucket).prefix(s3.key("n/"));
    s3.is("left", list.send().await.unwrap().key_count(), Some(1));
    let thousand = delete((0..1_000).map(key).collect(), true).await;
    s3.is("1,000 keys", outcome(&thousand), success());
    let more = delete((0..1_001).map(key).collect(), true).await;
    let (aws, there) = (refused(400, "MalformedXML"), refused(400, "InvalidArgument"));
    s3.differs(Difference::TooManyKeysHaveAnotherCode, outcome(&more), aws, there);
}

async fn what_is_not_there_is_told_by_its_code(s3: Arc<Server>) {
    let missing = s3.key("missing");
    let get = s3.client.get_object().bucket(&s3.bucket).key(&missing).send().await;
    s3.is("GET", outcome(&get), refused(404, "NoSuchKey"));
    let head = s3.client.head_object().bucket(&s3.bucket).key(&missing).send().await;
    s3.is("HEAD", outcome(&head).0, 404);
    s3.client.head_bucket().bucket(&s3.bucket).send().await.unwrap();
    let head = s3.client.head_bucket().bucket(s3.bucket_name()).send().await;
    s3.is("HEAD of a bucket", outcome(&head).0, 404);
    let list = s3.client.list_objects_v2().bucket(s3.bucket_name()).send().await;
    s3.is("LIST", outcome(&list), refused(404, "NoSuchBucket"));
    let none = refused(404, "NoSuchBucket");
    let put = s3.client.put_object().bucket(s3.bucket_name()).key("a");
    let put = put.body(ByteStream::from_static(b"x")).send().await;
    s3.differs(Difference::MissingBucketIsMade, outcome(&put), none.clone(), success());
    let begin = s3.client.create_multipart_upload().bucket(s3.bucket_name()).key("a").send().await;
    s3.differs(Difference::MissingBucketIsMade, outcome(&begin), none, success());
    let again = s3.client.create_bucket().bucket(&s3.bucket).send().await;
    // In us-east-1 AWS answers 200, so that old clients go on working; everywhere else 409.
    s3.is("again", [200, 409].contains(&outcome(&again).0), true);
    let misnamed = s3.client.create_bucket().bucket("No_Bucket").send().await;
    s3.is("a bad name", outcome(&misnamed), refused(400, "InvalidBucketName"));
    let url = Request::new(Method::GET, &missing).build(&s3);
    s3.is("presigned GET", answer(url).await, refused(404, "NoSuchKey"));
}
