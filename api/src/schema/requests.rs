//! What clients send.

use std::collections::BTreeMap;

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::ChecksumAlgorithm;

/// The file that is to be uploaded.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(skip_serializing_if_is_none)]
pub struct InitUpload {
    /// The name the file gets: a name, no path; at most 255 bytes in UTF-8.
    pub filename: String,
    /// The bytes of the file; 0 is fine.
    pub file_size: i64,
    /// The bytes of each chunk but the last, from 64 KiB to 5 GiB. Left out: 8 MiB, or more where 10,000
    /// chunks would not do.
    #[serde(default, deserialize_with = "crate::body::present")]
    pub chunk_size: Option<i64>,
    /// The media type that downloads of the file will carry. Left out: `application/octet-stream`.
    #[serde(default, deserialize_with = "crate::body::present")]
    pub content_type: Option<String>,
    /// Left out: `crc64nvme`.
    #[serde(default, deserialize_with = "crate::body::present")]
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    /// The checksum of the whole file, where it is known: base64 of the big-endian bytes. A file that
    /// turns out to have another one is never completed.
    #[serde(default, deserialize_with = "crate::body::present")]
    pub checksum: Option<String>,
    /// Whatever the caller wants to find again: at most 4 KiB in all.
    #[serde(default, deserialize_with = "crate::body::present")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Chunks to presign in the same call, at most 1,000.
    #[serde(default, deserialize_with = "crate::body::present")]
    pub chunks: Option<Vec<ChunkRequest>>,
}

/// A chunk to presign.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ChunkRequest {
    /// From 0.
    pub chunk_index: i32,
    /// The checksum of the chunk in the upload's algorithm: base64 of the big-endian bytes. It is signed
    /// into the URL, and S3 refuses other bytes.
    #[serde(default, deserialize_with = "crate::body::present")]
    pub checksum: Option<String>,
}

/// Chunks to presign, 1 to 1,000.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct PresignChunks {
    /// The chunks to presign, each once.
    pub chunks: Vec<ChunkRequest>,
}

/// Indexes of chunks that the client has sent, 1 to 1,000.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct ConfirmChunks {
    /// The indexes, each once.
    pub chunks: Vec<i32>,
}
