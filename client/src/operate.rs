//! The calls for people who run a server. They take an API key with the `admin` flag, or an open server.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::api::{Api, Call, LONG};
use crate::problem::CallError;
use crate::wire::{Status, Upload};

/// Which uploads a list shows: of all owners and statuses where it does not say.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of uploads, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadPage {
    pub uploads: Vec<Upload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Something that happened to an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadEvent {
    /// RFC 3339, in UTC.
    pub at: String,
    pub event: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How many uploads there are, and what is under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stats {
    pub statuses: Vec<StatusStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_jobs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_oldest_job_seconds: Option<u64>,
}

/// The uploads of one status. Sizes are bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusStats {
    pub status: Status,
    pub uploads: u64,
    /// Of their files, sent or not.
    pub file_bytes: u64,
    /// In the bucket, and paid for until they end.
    #[serde(default)]
    pub held_bytes: u64,
}

/// A page of orphans; one may be on two pages, and what they say adds up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrphanPage {
    pub orphans: Vec<Orphan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What is in the bucket of an upload that the server's database does not know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orphan {
    pub upload_id: String,
    pub chunks: u64,
    pub bytes: u64,
    pub multiparts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched_at: Option<String>,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<UploadEvent>,
}

impl Api {
    pub async fn list(&self, query: &ListQuery) -> Result<UploadPage, CallError> {
        let call = look("list uploads", &["uploads"]);
        self.run(call, |r| r.query(query)).await
    }

    /// What happened to an upload, oldest first.
    pub async fn events(&self, upload_id: &str) -> Result<Vec<UploadEvent>, CallError> {
        let path = ["uploads", upload_id, "events"];
        let call = look("see what happened to the upload", &path);
        self.run(call, |r| r).await.map(|Events { events }| events)
    }

    /// Tells the workers of an upload again, and ends its pause.
    pub async fn requeue(&self, upload_id: &str) -> Result<Upload, CallError> {
        let path = ["uploads", upload_id, "requeue"];
        let what = "announce the upload again";
        self.run(Call { what, method: Method::POST, path: &path, limit: LONG }, |r| r).await
    }

    pub async fn stats(&self) -> Result<Stats, CallError> {
        self.run(look("get the statistics", &["stats"]), |r| r).await
    }

    /// A page of what the database does not know; each is a LIST over the bucket.
    pub async fn orphans(&self, cursor: Option<&str>) -> Result<OrphanPage, CallError> {
        let query: Vec<(&str, &str)> =
            cursor.map(|cursor| ("cursor", cursor)).into_iter().collect();
        self.run(look("look for orphans", &["orphans"]), |r| r.query(&query)).await
    }

    /// Removes an orphan of which nothing was written for so many seconds.
    pub async fn delete_orphan(&self, upload_id: &str, age: u64) -> Result<Orphan, CallError> {
        let path = ["orphans", upload_id];
        let call =
            Call { what: "remove the orphan", method: Method::DELETE, path: &path, limit: LONG };
        self.run(call, |r| r.query(&[("older_than_seconds", age)])).await
    }
}

fn look<'a>(what: &'static str, path: &'a [&'a str]) -> Call<'a> {
    Call { what, method: Method::GET, path, limit: LONG }
}
