//! Uploads files through an UpFlow server: in parallel, resumable, and checked byte for byte.
//!
//! The server plans the chunks and signs a URL for each; the bytes go straight to S3. Every chunk
//! carries its checksum, so that S3 refuses other bytes than those on disk. An upload that was cut
//! short is remembered, and sending the same file again sends only what is missing.
//!
//! ```no_run
//! # async fn example() -> Result<(), upflow_client::Error> {
//! use upflow_client::{FileUpload, Listener, Options, Uploader};
//!
//! let uploader = Uploader::new(Options::new("http://127.0.0.1:8000")?)?;
//! let finished = uploader.upload(&FileUpload::new("film.mp4"), Listener::none()).await?;
//! println!("{}", finished.upload.final_s3_key);
//! # Ok(())
//! # }
//! ```
//!
//! Dropping the future of [`Uploader::upload`] stops everything it started.

mod api;
mod checksum;
mod confirm;
mod error;
mod file;
mod geometry;
mod http;
mod open;
mod operate;
mod options;
mod prepare;
mod problem;
mod progress;
mod put;
mod retry;
mod send;
pub mod state;
mod storage;
mod upload;
mod wire;

pub use api::Api;
pub use checksum::Algorithm;
pub use error::Error;
pub use geometry::Geometry;
pub use operate::{ListQuery, Orphan, OrphanPage, Stats, StatusStats, UploadEvent, UploadPage};
pub use options::{FileUpload, Options};
pub use problem::{ApiError, CallError, FieldError};
pub use progress::{ChunkState, Event, Listener, Phase};
pub use retry::Retry;
pub use storage::StorageError;
pub use upload::{Finished, Uploader};
pub use wire::{
    ChunkWant, Confirmed, Failure, InitRequest, Integrity, Presigned, Rejected, Status, Upload,
};
