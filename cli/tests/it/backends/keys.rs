//! Keys are data: any text of up to 1,024 bytes.

use std::sync::Arc;

use super::difference::Difference;
use super::server::{Server, outcome, refused};
use super::{Tests, tests};

pub const TESTS: Tests = tests![
    any_text_is_a_key,
    a_key_may_be_the_beginning_of_another,
    a_key_that_looks_like_a_path_reaches_nothing_else,
    a_key_has_1024_bytes_at_most,
];

/// Puts, reads, lists and deletes an object under each, and answers the keys that did not work.
async fn unusable(s3: &Server, names: &[&str]) -> Vec<String> {
    let mut unusable = Vec::new();
    for name in names {
        let key = s3.key(name);
        let put = s3.client.put_object().bucket(&s3.bucket).key(&key);
        let put = put.body(name.as_bytes().to_vec().into()).send().await;
        if put.is_err() {
            unusable.push((*name).to_owned());
        }
    }
    for name in names {
        let got = s3.client.get_object().bucket(&s3.bucket).key(s3.key(name)).send().await;
        let body = match got {
            Ok(got) => got.body.collect().await.ok().map(|body| body.into_bytes()),
            Err(_) => None,
        };
        let list = s3.client.list_objects_v2().bucket(&s3.bucket).prefix(s3.key(name));
        let listed = list.send().await.ok();
        let listed = listed.iter().flat_map(|page| page.contents());
        let listed = listed.filter(|object| object.key() == Some(&s3.key(name))).count() == 1;
        if body.as_deref() != Some(name.as_bytes()) || !listed {
            unusable.push((*name).to_owned());
        }
    }
    for name in names {
        let delete = s3.client.delete_object().bucket(&s3.bucket).key(s3.key(name)).send().await;
        let get = s3.client.get_object().bucket(&s3.bucket).key(s3.key(name)).send().await;
        if delete.is_err() || outcome(&get).0 != 404 {
            unusable.push((*name).to_owned());
        }
    }
    unusable.sort();
    unusable.dedup();
    unusable
}

async fn any_text_is_a_key(s3: Arc<Server>) {
    let names = [
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
        "\"q\"",
        "<&>'",
        "con",
        "a:b",
        "a\tb",
        "*",
        "~",
        "a=b;c,d!$()@[]{}|^`",
        ".hidden",
        "a.",
        "-",
    ];
    s3.is("unusable", unusable(&s3, &names).await, vec![]);
    let found = unusable(&s3, &["a\\b"]).await;
    s3.differs(Difference::BackslashIsASlash, found, vec![], vec!["a\\b".to_owned()]);
}

async fn a_key_may_be_the_beginning_of_another(s3: Arc<Server>) {
    let found = unusable(&s3, &["a", "a/b", "a/b/c", "a/", "a/b/"]).await;
    let there = ["a", "a/", "a/b", "a/b/"].map(str::to_owned).to_vec();
    s3.differs(Difference::KeysArePaths, found, vec![], there);
}

async fn a_key_that_looks_like_a_path_reaches_nothing_else(s3: Arc<Server>) {
    let dots = [".", "..", "../../../../etc/passwd", "../x", "a/../b", "a/./b"];
    let there = dots.map(str::to_owned).to_vec();
    s3.differs(Difference::DotsAreFolders, unusable(&s3, &dots).await, vec![], there);
    s3.is("unusable", unusable(&s3, &["a//b", "/a"]).await, vec![]);
}

async fn a_key_has_1024_bytes_at_most(s3: Arc<Server>) {
    let left = 1024 - s3.prefix.len();
    let (long, umlauts) = ("k".repeat(left), "ü".repeat(left / 2));
    let found = unusable(&s3, &[&long, &umlauts]).await;
    s3.differs(Difference::SegmentsAreShort, found, vec![], vec![long, umlauts]);
    let divided = "k/".repeat(left / 2 - 1) + "kk";
    s3.is("unusable", unusable(&s3, &[&divided]).await, vec![]);
    let put = s3.client.put_object().bucket(&s3.bucket).key(s3.key(&"k".repeat(left + 1)));
    s3.is("1,025 bytes", outcome(&put.send().await), refused(400, "KeyTooLongError"));
}
