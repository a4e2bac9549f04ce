//! What people who run the service see.

use poem_openapi::Object;
use serde::Serialize;
use uuid::Uuid;

use super::{Time, UploadStatus};

/// What happened to an upload, oldest first, at most 1,000.
#[derive(Debug, Clone, Object, Serialize)]
pub struct UploadEvents {
    /// Oldest first.
    pub events: Vec<UploadEvent>,
}

/// Something that happened to an upload.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct UploadEvent {
    /// When it happened.
    pub at: Time,
    /// What happened, as a word.
    pub event: String,
    /// The status before, where it moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_status: Option<String>,
    /// The status after, where it moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_status: Option<String>,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How many uploads there are, and what is under way.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct Stats {
    /// One for each status that uploads have.
    pub statuses: Vec<StatusStats>,
    /// Jobs of the queue, waiting or under way; absent where the queue does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_jobs: Option<i64>,
    /// Seconds since the oldest of them was announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_oldest_job_seconds: Option<i64>,
}

/// The uploads of one status.
#[derive(Debug, Clone, Object, Serialize)]
pub struct StatusStats {
    /// The status that these uploads have.
    pub status: UploadStatus,
    /// How many uploads have it.
    pub uploads: i64,
    /// The bytes of their files, sent or not.
    pub file_bytes: i64,
    /// The bytes in the bucket that are paid for until these uploads end: of confirmed chunks, and of parts
    /// that they are copied to already. 0 of uploads that have ended; their files are not counted.
    pub held_bytes: i64,
}

/// A page of what is in the bucket of uploads that this server's database does not know.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct OrphanPage {
    /// May be none, and there may still be another page. One that has chunks and multipart uploads is on two
    /// pages: what they say adds up.
    pub orphans: Vec<Orphan>,
    /// What to send as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What is in the bucket of an upload that has no row: of another deployment, or of a database that was
/// restored or lost.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct Orphan {
    /// The upload that it was.
    pub upload_id: Uuid,
    /// How many chunks there are.
    pub chunks: i64,
    /// The bytes of the chunks.
    pub bytes: i64,
    /// How many multipart uploads are under way.
    pub multiparts: i64,
    /// When something of it was last written, as far as the storage says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub touched_at: Option<Time>,
}
