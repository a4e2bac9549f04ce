//! The JSON that clients see. Sizes are bytes; times are RFC 3339 in UTC with milliseconds. What `oai` says of
//! an answer is what the spec shows, what `serde` says is what is written.

mod operators;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use upflow_core::checksum::Algorithm;
use upflow_core::lifecycle::Status;
use upflow_core::storage::Presigned;
use upflow_core::uploads;
use uuid::Uuid;

pub use operators::{Orphan, OrphanPage, Stats, StatusStats, UploadEvent, UploadEvents};
pub use requests::{ChunkRequest, ConfirmChunks, InitUpload, PresignChunks};

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "UploadStatus", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum UploadStatus {
    Initialized,
    Uploading,
    PendingAssembly,
    Completed,
    Failed,
    Aborted,
    Expired,
}

impl From<Status> for UploadStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Initialized => Self::Initialized,
            Status::Uploading => Self::Uploading,
            Status::PendingAssembly => Self::PendingAssembly,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Aborted => Self::Aborted,
            Status::Expired => Self::Expired,
        }
    }
}

impl From<UploadStatus> for Status {
    fn from(status: UploadStatus) -> Self {
        match status {
            UploadStatus::Initialized => Self::Initialized,
            UploadStatus::Uploading => Self::Uploading,
            UploadStatus::PendingAssembly => Self::PendingAssembly,
            UploadStatus::Completed => Self::Completed,
            UploadStatus::Failed => Self::Failed,
            UploadStatus::Aborted => Self::Aborted,
            UploadStatus::Expired => Self::Expired,
        }
    }
}

/// How the bytes of a file are checked on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ChecksumAlgorithm {
    /// CRC64NVME, S3's own default.
    Crc64nvme,
    /// CRC32C, which most processors compute by themselves.
    Crc32c,
}

impl From<Algorithm> for ChecksumAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc64Nvme => Self::Crc64nvme,
            Algorithm::Crc32c => Self::Crc32c,
        }
    }
}

impl From<ChecksumAlgorithm> for Algorithm {
    fn from(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Crc64nvme => Self::Crc64Nvme,
            ChecksumAlgorithm::Crc32c => Self::Crc32c,
        }
    }
}

/// A request that the client sends to S3 as it is.
#[derive(Debug, Clone, Object, Serialize)]
pub struct PresignedChunk {
    /// Which chunk this is, from 0.
    pub chunk_index: i32,
    /// `PUT`.
    pub method: String,
    /// Where to send the chunk.
    pub url: String,
    /// The headers to set; no others that begin with `x-amz-`.
    pub headers: BTreeMap<String, String>,
    /// The bytes to send, exactly.
    pub size_bytes: i64,
    /// When the URL ends.
    pub expires_at: Time,
    /// Seconds until then.
    pub expires_in: i64,
}

impl PresignedChunk {
    pub fn new(chunk_index: i32, size_bytes: i64, signed: Presigned) -> Self {
        Self {
            chunk_index,
            method: signed.method.to_owned(),
            url: signed.url,
            headers: signed.headers.into_iter().collect(),
            size_bytes,
            expires_at: time(signed.expires_at),
            expires_in: signed.expires_in.as_secs() as i64,
        }
    }
}

/// The presigned chunks, in the order asked for.
#[derive(Debug, Clone, Object, Serialize)]
pub struct PresignedChunks {
    /// In the order asked for.
    pub chunks: Vec<PresignedChunk>,
}

/// An upload as it stands.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct Upload {
    /// What the upload is called in every path.
    pub upload_id: Uuid,
    /// Whose upload it is; only operators see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The name the file gets.
    pub filename: String,
    /// The bytes of the file.
    pub file_size: i64,
    /// The bytes of each chunk but the last.
    pub chunk_size: i64,
    /// How many chunks there are: indexes from 0 to one less.
    pub total_chunks: i32,
    /// The media type of the file.
    pub content_type: String,
    /// What the caller gave at init.
    pub metadata: BTreeMap<String, String>,
    /// Where the upload stands.
    pub status: UploadStatus,
    /// The confirmed chunks, ascending. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploaded_chunks: Option<Vec<i32>>,
    /// How many chunks are confirmed.
    pub uploaded_chunks_count: i32,
    /// The bytes of the confirmed chunks.
    pub uploaded_bytes: i64,
    /// Chunks that are in the final object already, while it is being assembled.
    pub assembled_chunks: i32,
    /// How the bytes are checked on their way.
    pub checksum_algorithm: ChecksumAlgorithm,
    /// What the client gave at init.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// What was proven of the final object, once completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    /// The key of the final object in the bucket.
    pub final_s3_key: String,
    /// Why the upload did not complete; cleared by the next request to complete it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When init was called.
    pub created_at: Time,
    /// When the upload last changed.
    pub updated_at: Time,
    /// When the upload is given up unless its client is heard of before.
    pub expires_at: Time,
}

/// A new upload, with the URLs of the chunks asked for.
#[derive(Debug, Clone, Object, Serialize)]
pub struct NewUpload {
    #[oai(flatten)]
    #[serde(flatten)]
    pub upload: Upload,
    /// What opens this upload, and nothing else, to a client that has no API key: as a bearer, like one.
    pub upload_token: String,
    /// When the token ends. The same init with its `Idempotency-Key` gives another one.
    pub upload_token_expires_at: Time,
    /// URLs for the chunks that init named.
    pub presigned: Vec<PresignedChunk>,
}

/// What was proven of the final object.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct Integrity {
    /// `storage_verified`: S3 refused any other bytes, from the client's disk to the final object.
    /// `client_checksums`: the client's checksums, of the chunks or of the whole file, were compared, but S3 did
    /// not enforce them all.
    /// `size_only`: at least one chunk came without a checksum, and so did the file.
    pub level: String,
    /// The algorithm of `value`.
    pub algorithm: ChecksumAlgorithm,
    /// The checksum of the whole file, combined of its chunks'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Why an upload did not complete.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct Failure {
    /// Why, as a word for programs.
    pub code: String,
    /// Why, and what to do.
    pub detail: String,
    /// The chunks to send again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_indexes: Option<Vec<i32>>,
}

/// A page of uploads, newest first.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct UploadPage {
    /// Newest first.
    pub uploads: Vec<Upload>,
    /// What to send as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A chunk that is confirmed.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ConfirmedChunk {
    /// Which chunk, from 0.
    pub chunk_index: i32,
    /// The bytes of the chunk in storage.
    pub size_bytes: i64,
    /// What S3 keeps of it, in the upload's algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// When it was confirmed.
    pub confirmed_at: Time,
    /// Where the upload now stands.
    pub status: UploadStatus,
    /// How many chunks of the upload are confirmed now.
    pub uploaded_chunks_count: i32,
}

/// What became of each index.
#[derive(Debug, Clone, Object, Serialize)]
pub struct ConfirmedChunks {
    /// The indexes that are confirmed, ascending.
    pub confirmed: Vec<i32>,
    /// The indexes that are not, and why.
    pub rejected: Vec<RejectedChunk>,
    /// Where the upload now stands.
    pub status: UploadStatus,
    /// How many chunks of the upload are confirmed now.
    pub uploaded_chunks_count: i32,
}

/// A chunk that is not confirmed.
#[derive(Debug, Clone, Object, Serialize)]
pub struct RejectedChunk {
    /// Which chunk, from 0.
    pub chunk_index: i32,
    /// `chunk_missing`, `chunk_size_mismatch` or `chunk_checksum_mismatch`.
    pub code: String,
    /// Why, and what to do.
    pub detail: String,
}

/// Where to get the final object.
#[derive(Debug, Clone, Object, Serialize)]
pub struct Download {
    /// Where the file is, for a GET.
    pub url: String,
    /// `GET`.
    pub method: String,
    /// When the URL ends.
    pub expires_at: Time,
    /// Seconds until then.
    pub expires_in: i64,
}

/// RFC 3339 in UTC with milliseconds, as text: the framework would print nanoseconds.
pub type Time = String;

pub fn time(time: DateTime<Utc>) -> Time {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// How far the chunks of an upload are.
#[derive(Debug, Default)]
pub struct Progress {
    /// The confirmed chunks, where they are to be shown one by one.
    pub indexes: Option<Vec<i32>>,
    pub confirmed: i64,
    pub confirmed_bytes: i64,
    pub assembled: i64,
}

impl Upload {
    pub fn new(row: uploads::Upload, progress: Progress, now: DateTime<Utc>) -> Self {
        let status = row.status_at(now);
        let integrity = row.integrity_level.map(|level| Integrity {
            level,
            algorithm: row.checksum_algorithm.into(),
            value: row.integrity_value,
        });
        let failure = row.failure.map(|failure| Failure {
            code: failure.code,
            detail: failure.detail,
            chunk_indexes: Some(failure.chunk_indexes).filter(|indexes| !indexes.is_empty()),
        });
        Self {
            upload_id: row.upload_id,
            owner: None,
            filename: row.filename,
            file_size: row.file_size,
            chunk_size: row.chunk_size,
            total_chunks: row.total_chunks,
            content_type: row.content_type,
            metadata: serde_json::from_value(row.metadata).unwrap_or_default(),
            status: status.into(),
            uploaded_chunks: progress.indexes,
            uploaded_chunks_count: progress.confirmed as i32,
            uploaded_bytes: progress.confirmed_bytes,
            // Once completed the copies are no longer kept track of: all of them are in it.
            assembled_chunks: match status {
                Status::Completed => row.total_chunks,
                _ => progress.assembled as i32,
            },
            checksum_algorithm: row.checksum_algorithm.into(),
            checksum: row.checksum,
            integrity,
            final_s3_key: row.final_s3_key,
            failure,
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
            expires_at: time(row.expires_at),
        }
    }
}
