//! Keys are data: any text of up to 1,024 bytes.

use std::sync::Arc;

use super::difference::Difference;
use super::server::{Kind, Server, outcome, refused};
use super::{Tests, tests};

pub const TESTS: Tests = tests![
    any_text_is_a_key,
    a_key_may_be_the_beginning_of_another,
    a_key_that_looks_like_a_path_reaches_nothing_else,
    a_key_has_1024_bytes_at_most,
];

/// A bucket, and what keys begin with there.
struct Place {
    bucket: String,
    prefix: String,
}

impl Place {
    /// In the local store a bucket of its own, where keys begin as they are written. SeaweedFS might find its
    /// way out of one.
    async fn of(s3: &Server) -> Place {
        match s3.kind {
            Kind::Local => Place { bucket: s3.own_bucket().await, prefix: String::new() },
            Kind::SeaweedFs => Place { bucket: s3.bucket.clone(), prefix: s3.prefix.clone() },
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Puts, reads, lists and deletes an object under each, and answers the names that did not work.
async fn unusable(s3: &Server, names: &[&str]) -> Vec<String> {
    let place = Place::of(s3).await;
    let mut unusable = std::collections::BTreeSet::new();
    for name in names {
        let put = s3.client.put_object().bucket(&place.bucket).key(place.key(name));
        if put.body(name.as_bytes().to_vec().into()).send().await.is_err() {
            unusable.insert((*name).to_owned());
        }
    }
    for name in names {
        let key = place.key(name);
        let got = s3.client.get_object().bucket(&place.bucket).key(&key).send().await;
        let body = match got {
            Ok(got) => got.body.collect().await.ok().map(|body| body.into_bytes()),
            Err(_) => None,
        };
        let list = s3.client.list_objects_v2().bucket(&place.bucket).prefix(&key).send().await;
        let objects = list.iter().flat_map(|page| page.contents());
        let listed = objects.filter(|object| object.key() == Some(&key)).count() == 1;
        if body.as_deref() != Some(name.as_bytes()) || !listed {
            unusable.insert((*name).to_owned());
        }
    }
    for name in names {
        let key = place.key(name);
        let delete = s3.client.delete_object().bucket(&place.bucket).key(&key).send().await;
        let get = s3.client.get_object().bucket(&place.bucket).key(&key).send().await;
        if delete.is_err() || outcome(&get).0 != 404 {
            unusable.insert((*name).to_owned());
        }
    }
    unusable.into_iter().collect()
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
    let left = 1024 - Place::of(&s3).await.prefix.len();
    let (long, umlauts) = ("k".repeat(left), "ü".repeat(left / 2));
    let found = unusable(&s3, &[&long, &umlauts]).await;
    s3.differs(Difference::SegmentsAreShort, found, vec![], vec![long, umlauts]);
    let divided = "k/".repeat(left / 2 - 1) + "kk";
    s3.is("unusable", unusable(&s3, &[&divided]).await, vec![]);
    let longer = s3.client.put_object().bucket(&s3.bucket).key("k".repeat(1025)).send().await;
    s3.is("1,025 bytes", outcome(&longer), refused(400, "KeyTooLongError"));
}
