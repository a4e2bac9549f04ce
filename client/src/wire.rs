//! What goes over the wire to and from the server, as its OpenAPI document has it.
//! Fields that this client does not know are ignored, so a newer server is no trouble.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where an upload is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Initialized,
    Uploading,
    PendingAssembly,
    Completed,
    Failed,
    Aborted,
    Expired,
    /// One that a newer server knows and this client does not.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Initialized => "initialized",
            Status::Uploading => "uploading",
            Status::PendingAssembly => "pending_assembly",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Aborted => "aborted",
            Status::Expired => "expired",
            Status::Unknown => "unknown",
        })
    }
}

/// An upload as the server describes it. Sizes are bytes, times RFC 3339 in UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upload {
    pub upload_id: String,
    /// Whose it is; only operators are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub filename: String,
    pub file_size: u64,
    pub chunk_size: u64,
    pub total_chunks: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    pub status: Status,
    /// Indexes of the confirmed chunks, ascending.
    #[serde(default)]
    pub uploaded_chunks: Vec<u32>,
    #[serde(default)]
    pub uploaded_chunks_count: u32,
    #[serde(default)]
    pub uploaded_bytes: u64,
    /// Chunks that are already part of the final object.
    #[serde(default)]
    pub assembled_chunks: u32,
    #[serde(default)]
    pub checksum_algorithm: String,
    /// Of the whole file, when a client declared it at init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// What was proven about the final object; absent until it is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    #[serde(default)]
    pub final_s3_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(default)]
    pub created_at: String,
    #[serde(default)]
    pub updated_at: String,
    #[serde(default)]
    pub expires_at: String,
}

/// How sure the server is of the final object's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integrity {
    /// `storage_verified`, `client_checksums` or `size_only`.
    pub level: String,
    #[serde(default)]
    pub algorithm: String,
    /// The whole file's checksum: base64 of the big-endian bytes.
    #[serde(default)]
    pub value: String,
}

/// Why an upload failed, or went back to `uploading`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_indexes: Option<Vec<u32>>,
}

/// What `POST /uploads/init` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitRequest {
    pub filename: String,
    pub file_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    pub checksum_algorithm: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Chunks to sign URLs for in the same answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<ChunkWant>,
}

/// A chunk that a URL is asked for, bound to its checksum when that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChunkWant {
    pub chunk_index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// Holds a secret: not `Debug`.
#[derive(Deserialize)]
pub(crate) struct InitAnswer {
    #[serde(flatten)]
    pub upload: Upload,
    /// Opens this upload to who has no API key.
    pub upload_token: Option<String>,
    #[serde(default)]
    pub presigned: Vec<Presigned>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PresignAnswer {
    pub chunks: Vec<Presigned>,
}

/// A signed request for one chunk. Whoever has the URL can send that chunk until it expires, so
/// `Debug` shows no query.
#[derive(Clone, Deserialize)]
pub struct Presigned {
    pub chunk_index: u32,
    pub method: String,
    pub url: String,
    /// Headers that are signed and must be sent as they are.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub size_bytes: u64,
    /// Seconds from the server's answer on. Preferred over `expires_at`, as it needs no common clock.
    pub expires_in: u64,
}

impl fmt::Debug for Presigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presigned")
            .field("chunk_index", &self.chunk_index)
            .field("method", &self.method)
            .field("url", &self.url.split('?').next().unwrap_or_default())
            .field("size_bytes", &self.size_bytes)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// The answer to a batch of confirmations.
#[derive(Debug, Clone, Deserialize)]
pub struct Confirmed {
    #[serde(default)]
    pub confirmed: Vec<u32>,
    #[serde(default)]
    pub rejected: Vec<Rejected>,
}

/// A chunk the server did not confirm, and why.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rejected {
    pub chunk_index: u32,
    pub code: String,
    #[serde(default)]
    pub detail: String,
}

impl Rejected {
    /// Whether sending the chunk once more can help.
    pub(crate) fn can_be_sent_again(&self) -> bool {
        matches!(
            self.code.as_str(),
            "chunk_missing" | "chunk_size_mismatch" | "chunk_checksum_mismatch"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_read_with_fields_and_a_status_from_the_future() {
        let text = r#"{"upload_id":"u","filename":"f","file_size":5,"chunk_size":5,"total_chunks":1,
            "metadata":{},"status":"frozen","uploaded_chunks":[],"upload_token":"t","presigned":
            [{"chunk_index":0,"method":"PUT","url":"http://s3/k?X-Amz-Signature=abc","headers":{},
              "size_bytes":5,"expires_at":"2026-01-01T00:00:00.000Z","expires_in":900}]}"#;
        let answer: InitAnswer = serde_json::from_str(text).unwrap();
        assert_eq!(answer.upload.status, Status::Unknown);
        assert_eq!(answer.presigned.len(), 1);
        assert_eq!(answer.upload_token.as_deref(), Some("t"));
        assert!(!format!("{:?}", answer.presigned).contains("Signature"));
    }

    #[test]
    fn init_leaves_out_what_is_not_asked_for() {
        let request = InitRequest {
            filename: "a".into(),
            file_size: 0,
            chunk_size: None,
            content_type: None,
            checksum_algorithm: "crc64nvme",
            metadata: BTreeMap::new(),
            chunks: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"filename":"a","file_size":0,"checksum_algorithm":"crc64nvme"}"#
        );
    }
}
