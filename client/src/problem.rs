//! What a call of the API can end in, and how an error answer is read.
//! The server sends `application/problem+json`; what stands between (a proxy, another program on
//! that port) may send anything, and still has to become a sentence.

use std::time::Duration;

use serde::Deserialize;

/// The longest piece of foreign text that is shown to somebody.
const SHOWN: usize = 300;

/// The server's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server answered {status} {code}: {detail}{}", list(.errors))]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Stable code, such as `upload_incomplete`; `http_502` when the answer was no problem document.
    pub code: String,
    pub detail: String,
    pub retry_after: Option<Duration>,
    /// What is wrong with which field of the request.
    pub errors: Vec<FieldError>,
}

/// One field of a request that the server does not accept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// JSON pointer into the request.
    #[serde(default)]
    pub pointer: String,
    #[serde(default)]
    pub detail: String,
}

/// How a call of the API failed, after its retries.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("cannot {what}: no answer from {server}; check the address, and that the server runs")]
    Transport {
        what: &'static str,
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("cannot {what}: the answer of {server} makes no sense; is an UpFlow server there?")]
    Unreadable {
        what: &'static str,
        server: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot {what}: the answer of {server} is larger than {limit} bytes")]
    TooLarge { what: &'static str, server: String, limit: usize },
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

impl ApiError {
    /// Reads an answer whose status is no success.
    pub(crate) fn read(status: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let retry_after = retry_after.and_then(seconds);
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => {
                let detail = if problem.detail.is_empty() { problem.title } else { problem.detail };
                Self { status, code: problem.code, detail, retry_after, errors: problem.errors }
            }
            Err(_) => Self {
                status,
                code: format!("http_{status}"),
                detail: without_problem(status, body),
                retry_after,
                errors: Vec::new(),
            },
        }
    }

    /// Whether the server knows no such upload. Any other 404 comes from a wrong address, and says
    /// nothing about the upload.
    pub(crate) fn says_unknown_upload(&self) -> bool {
        self.code == "upload_not_found"
    }
}

impl CallError {
    /// The server's refusal, if that is what it was.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            CallError::Api(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.api().is_some_and(|error| error.code == code)
    }
}

fn without_problem(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if (300..400).contains(&status) {
        "a redirect; give the address it leads to instead".to_owned()
    } else if text.trim().is_empty() || text.contains('<') {
        "no explanation that this client can read".to_owned()
    } else {
        presentable(&text)
    }
}

/// Foreign text, made short and free of control characters, so that it can do nothing to a terminal.
pub(crate) fn presentable(text: &str) -> String {
    text.trim().chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `Retry-After` in seconds. Its other form, a date, would need a common clock; without it the
/// ordinary backoff applies.
pub(crate) fn seconds(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(|e| format!("; {} {}", e.pointer, e.detail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_problem_document_is_read_whole() {
        let body = br#"{"type":"about:blank","title":"Unprocessable","status":422,"code":"invalid",
            "detail":"the request is wrong","errors":[{"pointer":"/chunk_size","detail":"too small"}]}"#;
        let error = ApiError::read(422, Some("7"), body);
        assert_eq!(error.code, "invalid");
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(
            error.to_string(),
            "the server answered 422 invalid: the request is wrong; /chunk_size too small"
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_document_still_says_something() {
        assert_eq!(ApiError::read(502, None, b"<html>..").code, "http_502");
        assert_eq!(ApiError::read(500, None, b"out of\nmemory").detail, "out of memory");
        assert!(!ApiError::read(404, None, b"").says_unknown_upload());
        assert!(ApiError::read(404, None, br#"{"code":"upload_not_found"}"#).says_unknown_upload());
    }

    proptest! {
        #[test]
        fn any_answer_becomes_an_error(status in 300u16..600, body: Vec<u8>, after: Option<String>) {
            let error = ApiError::read(status, after.as_deref(), &body);
            prop_assert!(!error.code.is_empty());
            prop_assert!(!presentable(&error.detail).chars().any(char::is_control));
        }
    }
}
