//! Every way an upload can end other than completed. Messages say what happened and what to do;
//! the sources behind them (`std::error::Error::source`) say what lay underneath.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::problem::CallError;
use crate::storage::StorageError;
use crate::wire::Status;

/// Why a file was not uploaded. Unless it says otherwise, sending the same file again resumes it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Settings(String),
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a regular file; only those can be sent, and sent again", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} changed while it was sent; that upload is given up: send the file again once nothing writes to it", path.display())]
    FileChanged { path: PathBuf },
    #[error("{} is being sent by another process already", path.display())]
    Busy { path: PathBuf },
    #[error("cannot keep the state of unfinished uploads in {}; set UPFLOW_STATE_DIR to a directory that can be written", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Call(#[from] CallError),
    /// S3, or what stands for it, did not take a chunk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The server looked at a chunk in S3 and does not accept it.
    #[error("the server does not accept chunk {chunk_index} ({code}): {detail}")]
    Rejected { chunk_index: u32, code: String, detail: String },
    #[error(
        "the server could not put the file together ({code}): {detail}; sending it again tries once more, with only what is missing"
    )]
    Failed { code: String, detail: String },
    #[error("the upload ended on the server ({status}); sending the file again starts a new one")]
    Ended { status: Status },
    #[error(
        "after {rounds} rounds the server still misses {missing} chunks; look at the server's log, then send the file again"
    )]
    StillMissing { rounds: u32, missing: usize },
    #[error("the server has not put the file together after {} s, but goes on trying; the same command again waits on", waited.as_secs())]
    TooSlow { waited: Duration },
    #[error("the server's answer cannot be used: {0}; do client and server have the same version?")]
    Unexpected(String),
    #[error("a part of this program ended unexpectedly")]
    Internal(#[source] tokio::task::JoinError),
}

impl Error {
    /// A stable word for scripts, in the server's spelling where the server said it.
    pub fn code(&self) -> &str {
        match self {
            Error::Settings(_) => "bad_settings",
            Error::File { .. } => "file_unreadable",
            Error::NotAFile { .. } => "not_a_file",
            Error::FileChanged { .. } => "file_changed",
            Error::Busy { .. } => "already_sending",
            Error::State { .. } => "state_unwritable",
            Error::Call(CallError::Api(error)) => &error.code,
            Error::Call(CallError::Transport { .. }) => "server_unreachable",
            Error::Call(_) => "server_unreadable",
            Error::Storage(error) => error.code(),
            Error::Rejected { code, .. } | Error::Failed { code, .. } => code,
            Error::Ended { .. } => "upload_ended",
            Error::StillMissing { .. } => "chunks_missing",
            Error::TooSlow { .. } => "assembly_timeout",
            Error::Unexpected(_) => "server_unexpected",
            Error::Internal(_) => "internal",
        }
    }

    /// Reading a range beyond the end means that the file became shorter.
    pub(crate) fn reading(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::FileChanged { path },
            _ => Error::File { path, source },
        }
    }

    /// Whether the server says that the upload is over, so that there is nothing to resume.
    pub(crate) fn says_ended(&self) -> bool {
        match self {
            Error::Ended { .. } => true,
            Error::Call(error) => {
                error.is("upload_aborted")
                    || error.is("upload_expired")
                    || error.api().is_some_and(|e| e.says_unknown_upload())
            }
            _ => false,
        }
    }
}
