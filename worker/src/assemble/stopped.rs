//! Why an attempt did not end with a final object.

use std::time::Duration;

use upflow_core::storage::{ErrorKind, StorageError};
use upflow_core::uploads::{self, Failure};

#[derive(Debug)]
pub(super) enum Stopped {
    /// It may go better later.
    Transient(Setback),
    /// The multipart upload is gone, or can no longer be used: its parts count for nothing.
    MultipartGone(String),
    /// These confirmed chunks, with the ETags they had, are gone or changed.
    ChunksLost(Vec<(i32, String)>),
    /// It will not go better until the client does something.
    Refused(Failure),
    /// The worker is to stop, or to do something more urgent.
    Halted,
    /// The upload has passed to somebody else, or has ended.
    LeaseLost,
    Uploads(uploads::Error),
}

/// What held an attempt up.
#[derive(Debug)]
pub(super) struct Setback {
    pub why: String,
    pub retry_after: Option<Duration>,
    /// S3, or the way to it, is to blame: that can last, and says nothing of the upload.
    pub outage: bool,
}

impl Stopped {
    pub fn transient(why: impl Into<String>) -> Self {
        Stopped::Transient(Setback { why: why.into(), retry_after: None, outage: false })
    }

    /// A storage error of a copy of the chunk `index`, by what it means for the assembly.
    pub fn by_copy(error: StorageError, index: i32, etag: &str) -> Self {
        match error.kind {
            ErrorKind::Precondition | ErrorKind::NotFound => {
                Stopped::ChunksLost(vec![(index, etag.to_owned())])
            }
            ErrorKind::NoSuchUpload => Stopped::MultipartGone(error.to_string()),
            _ => error.into(),
        }
    }

    /// A storage error of a part that was sent. Its source is our memory: only the multipart upload can be
    /// gone.
    pub fn by_put(error: StorageError) -> Self {
        match error.kind {
            ErrorKind::NoSuchUpload | ErrorKind::NotFound => {
                Stopped::MultipartGone(error.to_string())
            }
            _ => error.into(),
        }
    }
}

impl From<uploads::Error> for Stopped {
    fn from(error: uploads::Error) -> Self {
        match error {
            uploads::Error::LeaseLost | uploads::Error::NotFound => Stopped::LeaseLost,
            error => Stopped::Uploads(error),
        }
    }
}

impl From<StorageError> for Stopped {
    fn from(error: StorageError) -> Self {
        Stopped::Transient(Setback {
            why: error.to_string(),
            retry_after: error.retry_after,
            outage: error.is_outage(),
        })
    }
}
