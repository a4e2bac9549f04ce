//! Headers that keep answers from being taken for something else: of everything that is no page of the
//! demo, which has its own.

use poem::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Answers are data: nothing in them may run, be framed, guessed at or kept.
const DATA: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // They hold tokens and presigned URLs.
    (header::CACHE_CONTROL, "no-store"),
];

/// Adds what the route itself has not set.
pub fn secure(headers: &mut HeaderMap, path: &str) {
    let page = path.starts_with("/static/");
    for (name, value) in DATA {
        if !page || name == header::X_CONTENT_TYPE_OPTIONS {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
    }
}
