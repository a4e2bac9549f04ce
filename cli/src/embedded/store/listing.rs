//! Pages of a listing: keys in order, and what a delimiter rolls up.

use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub struct Query<'a> {
    pub prefix: &'a str,
    /// Keys that have it after the prefix are shown as one common prefix.
    pub delimiter: Option<&'a str>,
    pub after: After,
    pub limit: usize,
}

/// Where a page begins: behind what the one before ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    Nothing,
    Key(String),
    /// Behind all keys that begin with it.
    Prefix(String),
}

pub struct Page<T> {
    pub items: Vec<(String, T)>,
    pub prefixes: Vec<String>,
    /// Where the next page begins, if there is one.
    pub next: Option<After>,
}

pub fn page<T: Clone>(keys: &BTreeMap<String, T>, query: &Query<'_>) -> Page<T> {
    let mut page = Page { items: Vec::new(), prefixes: Vec::new(), next: None };
    let mut last = query.after.clone();
    let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty());
    if query.limit == 0 {
        // It has no last key to go on from, so AWS calls it the whole listing.
        return page;
    }
    while let Some(lower) = last.lower_bound(query.prefix) {
        let mut rest = keys.range::<str, _>((lower.as_ref().map(String::as_str), Bound::Unbounded));
        let Some((key, item)) = rest.next().filter(|(key, _)| key.starts_with(query.prefix)) else {
            break;
        };
        if page.items.len() + page.prefixes.len() == query.limit {
            page.next = Some(last);
            break;
        }
        let behind = &key[query.prefix.len()..];
        let common =
            delimiter.and_then(|delimiter| Some(behind.find(delimiter)? + delimiter.len()));
        last = match common {
            Some(length) => {
                let common = key[..query.prefix.len() + length].to_owned();
                page.prefixes.push(common.clone());
                After::Prefix(common)
            }
            None => {
                page.items.push((key.clone(), item.clone()));
                After::Key(key.clone())
            }
        };
    }
    page
}

impl After {
    fn lower_bound(&self, prefix: &str) -> Option<Bound<String>> {
        match self {
            After::Key(key) if key.as_str() >= prefix => Some(Bound::Excluded(key.clone())),
            After::Prefix(skipped) if skipped.as_str() >= prefix => {
                successor(skipped).map(Bound::Included)
            }
            _ => Some(Bound::Included(prefix.to_owned())),
        }
    }

    /// As a continuation token.
    pub fn to_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            After::Nothing => String::new(),
            After::Key(key) => format!("k{key}"),
            After::Prefix(prefix) => format!("p{prefix}"),
        })
    }

    pub fn from_token(token: &str) -> Option<After> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        match text.split_at_checked(1)? {
            ("k", key) => Some(After::Key(key.to_owned())),
            ("p", prefix) => Some(After::Prefix(prefix.to_owned())),
            _ => None,
        }
    }
}

/// The first text behind all that begin with this one.
fn successor(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    while let Some(last) = text.pop() {
        let next = match last {
            // The numbers between stand for no character.
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// A key as `encoding-type=url` asks for it.
pub fn url_encoded(key: &str) -> String {
    const KEPT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');
    utf8_percent_encode(key, KEPT).to_string()
}
