//! Errors of S3 by what can be done about them. Servers differ in status and code, so the kind is
//! found from both.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// A server is not believed that wants to be left alone for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What can be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such object or bucket.
    NotFound,
    /// No such multipart upload: it was completed or aborted, or a rule of the bucket removed it.
    NoSuchUpload,
    /// The object is not, or no longer, the one that was meant.
    Precondition,
    /// Credentials, policy or clock.
    Denied,
    /// S3 asks to be called less often.
    Throttled,
    /// No answer, a cut connection, or an error inside S3: the call may have taken effect.
    Unavailable,
    /// The server does not know the call.
    NotImplemented,
    /// The parts cannot make an object.
    BadPart,
    /// Bytes and checksum do not agree.
    BadChecksum,
    /// Anything else: the same call will fail again.
    Refused,
}

#[derive(Debug)]
pub struct StorageError {
    pub kind: ErrorKind,
    pub retry_after: Option<Duration>,
    operation: &'static str,
    /// S3's code and text, where it gave them.
    code: Option<String>,
    message: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StorageError {
    pub(super) fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        Self {
            kind,
            retry_after: None,
            operation,
            code: None,
            message: None,
            source: Some(detail.into()),
        }
    }

    /// S3's code, where it gave one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// S3, or the way to it, is to blame: the same call may succeed later, however late.
    pub fn is_outage(&self) -> bool {
        matches!(self.kind, ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Denied)
    }

    pub(super) fn from_sdk<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let response = error.raw_response();
        let status = response.map(|response| response.status().as_u16());
        let retry_after = response
            .and_then(|response| response.headers().get("retry-after"))
            .and_then(|seconds| seconds.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        let code = error.code().map(str::to_owned);
        let message = error.message().map(str::to_owned);
        let kind = match &error {
            SdkError::ConstructionFailure(_) => ErrorKind::Denied,
            _ => kind(status, code.as_deref()),
        };
        Self { kind, retry_after, operation, code, message, source: Some(Box::new(error)) }
    }
}

pub(super) fn kind(status: Option<u16>, code: Option<&str>) -> ErrorKind {
    match code {
        Some("NoSuchUpload") => return ErrorKind::NoSuchUpload,
        Some("NoSuchKey" | "NotFound" | "NoSuchBucket") => return ErrorKind::NotFound,
        Some("PreconditionFailed" | "ConditionalRequestConflict") => {
            return ErrorKind::Precondition;
        }
        Some("SlowDown" | "TooManyRequests" | "ThrottlingException" | "RequestLimitExceeded") => {
            return ErrorKind::Throttled;
        }
        Some("NotImplemented" | "MethodNotAllowed") => return ErrorKind::NotImplemented,
        Some("BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch") => {
            return ErrorKind::BadChecksum;
        }
        Some("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") => return ErrorKind::BadPart,
        // Some of these come as a 400.
        Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "RequestTimeTooSkewed") => {
            return ErrorKind::Denied;
        }
        Some("OperationAborted") => return ErrorKind::Unavailable,
        Some("InternalError" | "ServiceUnavailable" | "RequestTimeout") => {
            return ErrorKind::Unavailable;
        }
        _ => {}
    }
    match status {
        None | Some(408) => ErrorKind::Unavailable,
        Some(404) => ErrorKind::NotFound,
        Some(412) => ErrorKind::Precondition,
        Some(401 | 403) => ErrorKind::Denied,
        Some(405 | 501) => ErrorKind::NotImplemented,
        Some(429 | 503) => ErrorKind::Throttled,
        Some(500..) => ErrorKind::Unavailable,
        // A 200 with an error inside that we know no code for, or a body that cannot be read.
        Some(200..300) => ErrorKind::Unavailable,
        Some(_) => ErrorKind::Refused,
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3 {}: {:?}", self.operation, self.kind)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if let Some(message) = &self.message {
            return write!(f, ": {message}");
        }
        if self.code.is_some() {
            return Ok(());
        }
        // The SDK's outer texts say only "service error": the innermost says what happened.
        let mut cause: Option<&(dyn StdError + 'static)> =
            self.source.as_ref().map(|source| source.as_ref() as _);
        let mut last = None;
        while let Some(error) = cause {
            last = Some(error);
            cause = error.source();
        }
        match last {
            Some(last) => write!(f, ": {last}"),
            None => Ok(()),
        }
    }
}

impl StdError for StorageError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_count_before_statuses_and_both_before_nothing() {
        assert_eq!(kind(Some(404), Some("NoSuchUpload")), ErrorKind::NoSuchUpload);
        assert_eq!(kind(Some(404), None), ErrorKind::NotFound);
        assert_eq!(kind(Some(503), Some("SlowDown")), ErrorKind::Throttled);
        assert_eq!(kind(Some(400), Some("BadDigest")), ErrorKind::BadChecksum);
        assert_eq!(kind(Some(200), Some("InternalError")), ErrorKind::Unavailable);
        assert_eq!(kind(None, None), ErrorKind::Unavailable);
        assert_eq!(kind(Some(400), Some("EntityTooSmall")), ErrorKind::BadPart);
        assert_eq!(kind(Some(400), Some("ExpiredToken")), ErrorKind::Denied);
        assert_eq!(kind(Some(400), Some("InvalidRequest")), ErrorKind::Refused);
    }
}
