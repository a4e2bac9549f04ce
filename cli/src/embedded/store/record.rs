//! What is written down about an object, a multipart upload and its parts: JSON, one record each.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3s::dto::Timestamp;
use serde::{Deserialize, Serialize};

use super::blobs::Piece;
use super::digest::{Algorithm, Checksum, Kind};

/// An object: what it is called, what is known about its bytes, and where they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectRecord {
    pub key: String,
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// The checksum that S3 shows.
    pub checksum: Checksum,
    /// Known of every object, so that a copy needs no look at the bytes.
    pub crc64nvme: String,
    pub modified: Seconds,
    #[serde(default)]
    pub headers: Headers,
    /// The multipart upload that made it, so that Complete asked again can be answered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<String>,
    pub pieces: Vec<Piece>,
}

/// What a multipart upload was begun with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadRecord {
    pub upload_id: String,
    pub key: String,
    pub initiated: Seconds,
    #[serde(default)]
    pub headers: Headers,
    /// The checksum that was declared, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<(Algorithm, Kind)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartRecord {
    pub number: u16,
    pub size: u64,
    /// The MD5 of its bytes, in hex.
    pub etag: String,
    pub crc64nvme: String,
    /// The checksum that the client named or the upload declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<(Algorithm, String)>,
    pub modified: Seconds,
    pub pieces: Vec<Piece>,
}

impl PartRecord {
    pub fn checksum(&self, algorithm: Algorithm) -> Option<&str> {
        match &self.checksum {
            Some((named, value)) if *named == algorithm => Some(value),
            _ if algorithm == Algorithm::Crc64Nvme => Some(&self.crc64nvme),
            _ => None,
        }
    }
}

/// The headers that are kept with an object and given back with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Headers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tagging: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Whole seconds since 1970: HTTP dates have no finer time, and a client that sends back the time it was
/// given must not find the object modified since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(u64);

impl Seconds {
    pub fn now() -> Seconds {
        Seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl From<Seconds> for Timestamp {
    fn from(seconds: Seconds) -> Timestamp {
        Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds.0))
    }
}
