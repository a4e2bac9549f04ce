//! What S3's answers to a PUT mean. Judged by class, with the few codes that are known to be
//! ambiguous looked at by name: servers differ in both status and code.

use crate::problem::presentable;
use crate::retry::is_transient;

/// A chunk that S3, or what stands for it, did not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    #[error("the storage at {host} refuses chunk {chunk_index}: {status} {code} {message}{}", advice(*.status))]
    Refused { chunk_index: u32, host: String, status: u16, code: String, message: String },
    #[error(
        "chunk {chunk_index} could not be sent to {host}, {tries} times: {problem}; check the connection and send the file again, which resumes it"
    )]
    Unreachable { chunk_index: u32, host: String, tries: u32, problem: String },
    #[error(
        "the URLs for chunk {chunk_index} expired before it could be sent, {tries} times; do the clocks of the server and of {host} agree?"
    )]
    AlwaysExpired { chunk_index: u32, host: String, tries: u32 },
}

impl StorageError {
    pub(crate) fn code(&self) -> &str {
        match self {
            StorageError::Refused { code, .. } if !code.is_empty() => code,
            StorageError::Refused { .. } => "storage_refused",
            StorageError::Unreachable { .. } => "storage_unreachable",
            StorageError::AlwaysExpired { .. } => "urls_expired",
        }
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => "; the server's public S3 endpoint or region is not the bucket's",
        401 | 403 => {
            "; check the server's S3 credentials, their rights, and its public S3 endpoint"
        }
        404 => "; check the server's bucket and its public S3 endpoint",
        _ => "",
    }
}

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Taken,
    /// Not now: wait, and use the same URL.
    Again,
    /// The URL's time is over.
    Expired,
    /// No. Another URL may still help, if something was wrong with this one.
    Refused,
}

pub(crate) fn judge(status: u16, code: &str, message: &str) -> Verdict {
    let expired = || {
        matches!(code, "ExpiredToken" | "RequestExpired" | "ExpiredPresignedUrlRequest")
            || message.to_ascii_lowercase().contains("expired")
    };
    match status {
        200..=299 => Verdict::Taken,
        _ if is_transient(status) => Verdict::Again,
        // S3 answers 400 to a body that came too slowly or was cut, and 409 to one that met another.
        400 if matches!(code, "RequestTimeout" | "IncompleteBody") => Verdict::Again,
        409 => Verdict::Again,
        400 | 401 | 403 if expired() => Verdict::Expired,
        _ => Verdict::Refused,
    }
}

/// `<Code>` and `<Message>` of an S3 error; empty where there is none. Only these two are taken: the
/// rest of the document can hold what was signed.
pub(crate) fn read_error(body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    (presentable(element(&text, "Code")), presentable(element(&text, "Message")))
}

fn element<'a>(text: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let found = text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    found.map(|(inner, _)| inner).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn code_and_message_are_found_in_the_xml() {
        let xml =
            b"<?xml version=\"1.0\"?><Error><Code>BadDigest</Code><Message>no\x1b[0m</Message>\
            <StringToSign>secret</StringToSign></Error>";
        assert_eq!(read_error(xml), ("BadDigest".into(), "no [0m".into()));
        assert_eq!(read_error(b"<Code>cut off"), (String::new(), String::new()));
    }

    #[test]
    fn answers_are_judged_by_class() {
        assert_eq!(judge(200, "", ""), Verdict::Taken);
        assert_eq!(judge(503, "SlowDown", ""), Verdict::Again);
        assert_eq!(judge(400, "RequestTimeout", ""), Verdict::Again);
        assert_eq!(judge(403, "AccessDenied", "Request has expired"), Verdict::Expired);
        assert_eq!(judge(400, "ExpiredToken", ""), Verdict::Expired);
        assert_eq!(judge(403, "SignatureDoesNotMatch", ""), Verdict::Refused);
        assert_eq!(judge(400, "BadDigest", ""), Verdict::Refused);
        assert_eq!(judge(301, "PermanentRedirect", ""), Verdict::Refused);
    }

    proptest! {
        #[test]
        fn only_success_counts_as_taken(status in 100u16..1000, code: String, message: String) {
            let taken = judge(status, &code, &message) == Verdict::Taken;
            prop_assert_eq!(taken, (200..300).contains(&status));
        }
    }
}
