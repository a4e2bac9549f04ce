//! If-Match, If-None-Match and their sisters, on reads and writes.

use std::sync::Arc;

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};

use super::difference::Difference;
use super::server::{Server, outcome, refused, success};
use super::{Tests, tests};

pub const TESTS: Tests = tests![
    a_write_is_refused_where_its_condition_does_not_hold,
    one_of_many_writers_of_a_new_key_wins,
    a_read_is_answered_as_its_conditions_say,
    a_delete_is_refused_where_its_condition_does_not_hold,
];

const OTHER: &str = "\"00000000000000000000000000000000\"";

fn put(s3: &Server, name: &str) -> PutObjectFluentBuilder {
    let put = s3.client.put_object().bucket(&s3.bucket).key(s3.key(name));
    put.body(ByteStream::from_static(b"two"))
}

async fn a_write_is_refused_where_its_condition_does_not_hold(s3: Arc<Server>) {
    let etag = s3.put(&s3.key("a"), "one").await;
    let there = put(&s3, "a").if_none_match("*").send().await;
    s3.is("it is there", outcome(&there), refused(412, "PreconditionFailed"));
    let another = put(&s3, "a").if_match(OTHER).send().await;
    s3.is("it is another", outcome(&another), refused(412, "PreconditionFailed"));
    let absent = put(&s3, "b").if_match(&etag).send().await;
    let (aws, there) = (refused(404, "NoSuchKey"), refused(412, "PreconditionFailed"));
    s3.differs(Difference::IfMatchOnNothingIs412, outcome(&absent), aws, there);
    s3.is("unchanged", s3.get(&s3.key("a")).await, Some("one".into()));
    let new = put(&s3, "b").if_none_match("*").send().await;
    s3.is("a new one", outcome(&new), success());
    let same = put(&s3, "a").if_match(&etag).send().await;
    s3.is("the one it is", outcome(&same), success());
    s3.is("changed", s3.get(&s3.key("a")).await, Some("two".into()));
}

async fn one_of_many_writers_of_a_new_key_wins(s3: Arc<Server>) {
    let key = s3.key("a");
    let puts = (0..16_u8).map(|n| {
        let put = s3.client.put_object().bucket(&s3.bucket).key(&key).if_none_match("*");
        async move { (n, put.body(ByteStream::from(vec![n; 1000])).send().await) }
    });
    let ended = futures::future::join_all(puts).await;
    let winners: Vec<u8> = ended.iter().filter(|one| one.1.is_ok()).map(|one| one.0).collect();
    s3.is("winners", winners.len(), 1);
    // AWS may also answer 409 to those that come in the same moment.
    let losers = ended.iter().filter(|one| one.1.is_err()).map(|one| outcome(&one.1));
    let told = losers.filter(|(status, _)| ![409, 412].contains(status)).count();
    s3.is("told otherwise", told, 0);
    s3.is("object", s3.get(&key).await, winners.last().map(|n| vec![*n; 1000].into()));
}

async fn a_read_is_answered_as_its_conditions_say(s3: Arc<Server>) {
    let key = s3.key("a");
    let etag = s3.put(&key, "one").await;
    let get = || s3.client.get_object().bucket(&s3.bucket).key(&key);
    let head = || s3.client.head_object().bucket(&s3.bucket).key(&key);
    let modified = head().send().await.unwrap().last_modified.unwrap();
    let before = DateTime::from_secs(modified.secs() - 60);
    let (etag, failed) = (etag.as_str(), refused(412, "PreconditionFailed"));

    s3.is("the same", outcome(&get().if_match(etag).send().await), success());
    s3.is("another", outcome(&get().if_match(OTHER).send().await), failed.clone());
    s3.is("known", outcome(&get().if_none_match(etag).send().await).0, 304);
    s3.is("not known", outcome(&get().if_none_match(OTHER).send().await), success());
    s3.is("since then", outcome(&get().if_modified_since(modified).send().await).0, 304);
    s3.is("since before", outcome(&get().if_modified_since(before).send().await), success());
    s3.is("until then", outcome(&get().if_unmodified_since(modified).send().await), success());
    s3.is("until before", outcome(&get().if_unmodified_since(before).send().await), failed);
    // <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>: the ETag overrules the time.
    let both = get().if_match(etag).if_unmodified_since(before).send().await;
    s3.is("matches, though modified", outcome(&both), success());
    let both = get().if_none_match(etag).if_modified_since(before).send().await;
    s3.is("known, though modified", outcome(&both).0, 304);
    s3.is("HEAD, known", outcome(&head().if_none_match(etag).send().await).0, 304);
    s3.is("HEAD, another", outcome(&head().if_match(OTHER).send().await).0, 412);
}

async fn a_delete_is_refused_where_its_condition_does_not_hold(s3: Arc<Server>) {
    let key = s3.key("a");
    let etag = s3.put(&key, "one").await;
    let delete =
        |etag: &str| s3.client.delete_object().bucket(&s3.bucket).key(&key).if_match(etag).send();
    s3.is("another", outcome(&delete(OTHER).await), refused(412, "PreconditionFailed"));
    s3.is("still there", s3.get(&key).await, Some("one".into()));
    s3.is("the same", outcome(&delete(&etag).await).0, 200);
    s3.is("gone", s3.get(&key).await, None);
}
