//! A client of the API, call by call, so that each step can be measured by itself.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Body;

/// What one call may name.
const BATCH: usize = 1_000;
const PUTS: usize = 8;
/// The pause between two looks at what the worker has copied ahead.
const LOOK: Duration = Duration::from_millis(50);

pub struct Api {
    http: reqwest::Client,
    url: String,
}

/// An upload of equal chunks.
pub struct Upload {
    pub id: String,
    pub chunks: usize,
}

/// How long an assembly took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From `pending_assembly` in the database to `completed` in it, to the millisecond.
    pub worker: Duration,
    /// From the client's `complete` to the answer that told it.
    pub client: Duration,
}

impl Upload {
    pub fn chunk_keys(&self) -> Vec<String> {
        (0..self.chunks).map(|index| format!("{}{index}", self.prefix())).collect()
    }

    /// Of its chunks.
    pub fn prefix(&self) -> String {
        format!("uploads/{}/chunks/", self.id)
    }
}

impl Api {
    pub fn new(url: String) -> Api {
        Api { http: reqwest::Client::new(), url }
    }

    /// An upload whose chunks are all in the bucket and confirmed.
    pub async fn send(&self, chunks: usize, body: &Body) -> anyhow::Result<Upload> {
        let upload = self.send_unconfirmed(chunks, body).await?;
        self.confirm_all(&upload).await?;
        Ok(upload)
    }

    /// Begins an upload of equal chunks.
    pub async fn init(&self, chunks: usize, length: usize) -> anyhow::Result<Upload> {
        let init = json!({
            "filename": "bench.bin", "file_size": chunks * length, "chunk_size": length,
        });
        let init = self.call(Method::POST, "/uploads/init", Some(init)).await?;
        Ok(Upload { id: text(&init, "upload_id")?.to_owned(), chunks })
    }

    /// Begins an upload of one chunk, whose URL comes along, by a request like that of our clients.
    pub async fn init_one(&self, body: &Body) -> anyhow::Result<(Upload, Value)> {
        let init = json!({
            "filename": "bench.bin", "file_size": body.bytes.len(),
            "chunks": [{ "chunk_index": 0, "checksum": body.checksum }],
        });
        let request = self.http.post(format!("{}/uploads/init", self.url)).json(&init);
        let key = uuid::Uuid::new_v4().to_string();
        let mut init = answered(request.header("Idempotency-Key", key)).await?;
        let upload = Upload { id: text(&init, "upload_id")?.to_owned(), chunks: 1 };
        Ok((upload, init["presigned"][0].take()))
    }

    /// URLs for chunks, each with this checksum.
    pub async fn presign(
        &self,
        upload: &Upload,
        indexes: &[usize],
        checksum: &str,
    ) -> anyhow::Result<Vec<Value>> {
        let wanted = indexes.iter().map(|i| json!({ "chunk_index": i, "checksum": checksum }));
        let wanted = json!({ "chunks": wanted.collect::<Vec<_>>() });
        let path = format!("/uploads/{}/chunks/presign", upload.id);
        let mut presigned = self.call(Method::POST, &path, Some(wanted)).await?;
        match presigned["chunks"].take() {
            Value::Array(chunks) => Ok(chunks),
            _ => anyhow::bail!("no presigned chunks"),
        }
    }

    /// An upload whose chunks are all in the bucket.
    pub async fn send_unconfirmed(&self, chunks: usize, body: &Body) -> anyhow::Result<Upload> {
        let upload = self.init(chunks, body.bytes.len()).await?;
        let indexes: Vec<usize> = (0..chunks).collect();
        for batch in indexes.chunks(BATCH) {
            let presigned = self.presign(&upload, batch, &body.checksum).await?;
            stream::iter(&presigned)
                .map(|chunk| self.put(chunk, body))
                .buffer_unordered(PUTS)
                .try_collect::<Vec<()>>()
                .await?;
        }
        Ok(upload)
    }

    /// Confirms all chunks, a thousand a call.
    pub async fn confirm_all(&self, upload: &Upload) -> anyhow::Result<()> {
        let indexes: Vec<usize> = (0..upload.chunks).collect();
        for batch in indexes.chunks(BATCH) {
            self.confirm(upload, batch).await?;
        }
        Ok(())
    }

    /// Confirms chunks in one call.
    pub async fn confirm(&self, upload: &Upload, indexes: &[usize]) -> anyhow::Result<()> {
        let path = format!("/uploads/{}/chunks/confirm", upload.id);
        let answer = self.call(Method::POST, &path, Some(json!({ "chunks": indexes }))).await?;
        ensure!(answer["rejected"] == json!([]), "not confirmed: {answer}");
        Ok(())
    }

    /// Confirms one chunk.
    pub async fn confirm_one(&self, upload: &Upload, index: usize) -> anyhow::Result<()> {
        let path = format!("/uploads/{}/chunks/{index}", upload.id);
        self.call(Method::PUT, &path, None).await.map(drop)
    }

    pub async fn get(&self, upload: &Upload) -> anyhow::Result<Value> {
        self.call(Method::GET, &format!("/uploads/{}", upload.id), None).await
    }

    /// The upload begun last.
    pub async fn latest(&self) -> anyhow::Result<Upload> {
        let page = self.call(Method::GET, "/uploads?limit=1", None).await?;
        let latest = &page["uploads"][0];
        let chunks = latest["total_chunks"].as_u64().context("no total_chunks")?;
        Ok(Upload { id: text(latest, "upload_id")?.to_owned(), chunks: chunks as usize })
    }

    /// When its assembly was asked for, and when it was done.
    pub async fn assembled_at(
        &self,
        upload: &Upload,
    ) -> anyhow::Result<(DateTime<Utc>, DateTime<Utc>)> {
        let path = format!("/uploads/{}/events", upload.id);
        let events = self.call(Method::GET, &path, None).await?;
        Ok((at(&events, "assembly_requested")?, at(&events, "assembly_finished")?))
    }

    pub async fn put(&self, presigned: &Value, body: &Body) -> anyhow::Result<()> {
        let mut request = self.http.put(text(presigned, "url")?).body(body.bytes.clone());
        for (name, value) in presigned["headers"].as_object().context("no headers")? {
            request = request.header(name, value.as_str().context("a header is no text")?);
        }
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// Asks for the final object, and waits until it is there.
    pub async fn complete(&self, upload: &Upload) -> anyhow::Result<Took> {
        let path = format!("/uploads/{}", upload.id);
        let began = Instant::now();
        self.call(Method::POST, &format!("{path}/complete"), None).await?;
        let answer = self.wait(upload).await?;
        let client = began.elapsed();
        ensure!(answer["integrity"]["level"] == "storage_verified", "not verified: {answer}");
        let (requested, finished) = self.assembled_at(upload).await?;
        Ok(Took { worker: (finished - requested).to_std()?, client })
    }

    /// Waits, with the long poll, until it is completed.
    pub async fn completed(&self, upload: &Upload) -> anyhow::Result<()> {
        self.wait(upload).await.map(drop)
    }

    async fn wait(&self, upload: &Upload) -> anyhow::Result<Value> {
        let wait = format!("/uploads/{}?wait_for=completed&timeout_seconds=30", upload.id);
        let mut answer = self.call(Method::GET, &wait, None).await?;
        while answer["status"] == "pending_assembly" {
            answer = self.call(Method::GET, &wait, None).await?;
        }
        ensure!(answer["status"] == "completed", "not completed: {answer}");
        Ok(answer)
    }

    pub async fn abort(&self, upload: &Upload) -> anyhow::Result<()> {
        self.call(Method::DELETE, &format!("/uploads/{}", upload.id), None).await.map(drop)
    }

    /// Waits until all chunks are in parts.
    pub async fn copied_ahead(&self, upload: &Upload) -> anyhow::Result<()> {
        let path = format!("/uploads/{}", upload.id);
        while self.call(Method::GET, &path, None).await?["assembled_chunks"] != upload.chunks {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        answered(request).await.with_context(|| path.to_owned())
    }
}

/// What it is answered with, which is no problem.
async fn answered(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let status = answer.status();
    let body: Value = answer.json().await.with_context(|| status.to_string())?;
    ensure!(status.is_success(), "{body}");
    Ok(body)
}

fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name} in {value}"))
}

/// When the only event of this kind was.
fn at(events: &Value, event: &str) -> anyhow::Result<DateTime<Utc>> {
    let events = events["events"].as_array().context("no events")?;
    let mut found = events.iter().filter(|found| found["event"] == event);
    let at = text(found.next().with_context(|| format!("no {event}"))?, "at")?.parse()?;
    ensure!(found.next().is_none(), "{event} more than once");
    Ok(at)
}
