//! How what goes wrong is told to a client, where more than one operation says it.

use std::io;

use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use hyper::StatusCode;

/// A full disk, or the set limit, is 507 and the client's to know; everything else is an internal error
/// whose cause stands in the log only.
pub fn failed(error: io::Error) -> S3Error {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let code = S3ErrorCode::from_bytes(b"InsufficientStorage")
            .unwrap_or(S3ErrorCode::ServiceUnavailable);
        let mut full = S3Error::with_message(code, "There is no space left for this.");
        full.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
        return full;
    }
    tracing::error!(%error, "the store failed");
    s3_error!(error, InternalError, "We encountered an internal error. Please try again.")
}

pub fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

pub fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
         aborted or completed."
    )
}

pub fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

/// Runs what touches the disk away from the reactor. It runs to its end even if the client is gone.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> S3Result<T> + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| Err(S3Error::internal_error(stopped)))
}
