//! What a client does, call by call, so that a test can stop or go wrong anywhere.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use rand::{RngCore as _, SeedableRng as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use upflow_core::storage::{chunks, finals};
use uuid::Uuid;

use crate::harness::{Stack, eventually};

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

pub fn http() -> reqwest::Client {
    // An error means that another test was first. Connections are not kept: a server that restarts would
    // close them under the hands of the next request.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(90))
        .build()
        .unwrap()
}

/// Bytes that are the same at every run and different everywhere.
pub fn noise(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    rand::rngs::SmallRng::seed_from_u64(len as u64).fill_bytes(&mut bytes);
    bytes.into()
}

/// CRC64NVME as S3 writes it.
pub fn crc64(bytes: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes())
}

/// Sends bytes to a presigned chunk, whatever they are.
pub async fn sent(http: &reqwest::Client, presigned: &Value, bytes: Bytes) -> StatusCode {
    let mut request = http.put(presigned["url"].as_str().unwrap()).body(bytes);
    for (name, value) in presigned["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    request.send().await.unwrap().status()
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    /// That the answer is this problem.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.body["code"], code, "{:#}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        self.expect(status)
    }
}

impl Stack {
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http().request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.try_call(Method::GET, path, None).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.try_call(Method::POST, path, Some(body)).await.unwrap()
    }

    /// A call without a body.
    pub async fn call(&self, method: Method, path: &str) -> Answer {
        self.try_call(method, path, None).await.unwrap()
    }

    pub async fn init(&self, body: Value) -> Upload {
        let body = self.post("/uploads/init", body).await.expect(201);
        Upload {
            stack: self.clone(),
            id: body["upload_id"].as_str().unwrap().parse().unwrap(),
            body,
        }
    }

    /// An upload of these bytes, with nothing sent yet.
    pub async fn plan(&self, filename: &str, bytes: &Bytes, chunk_size: usize) -> Upload {
        let size = bytes.len();
        self.init(json!({ "filename": filename, "file_size": size, "chunk_size": chunk_size }))
            .await
    }
}

/// An upload as a client knows it.
#[derive(Clone)]
pub struct Upload {
    stack: Stack,
    pub id: Uuid,
    /// The answer of init.
    pub body: Value,
}

impl Upload {
    pub fn path(&self, rest: &str) -> String {
        format!("/uploads/{}{rest}", self.id)
    }

    pub async fn get(&self) -> Value {
        self.stack.get(&self.path("")).await.expect(200)
    }

    pub async fn status(&self) -> String {
        self.get().await["status"].as_str().unwrap().to_owned()
    }

    /// The bytes of a chunk, cut as the server planned it.
    pub fn cut(&self, bytes: &Bytes, index: usize) -> Bytes {
        let size = self.body["chunk_size"].as_u64().unwrap() as usize;
        bytes.slice(index * size..bytes.len().min((index + 1) * size))
    }

    pub fn total(&self) -> usize {
        self.body["total_chunks"].as_u64().unwrap() as usize
    }

    /// A presigned chunk; with a checksum where one is given.
    pub async fn presign(&self, index: usize, checksum: Option<String>) -> Value {
        let chunk = match checksum {
            Some(checksum) => json!({ "chunk_index": index, "checksum": checksum }),
            None => json!({ "chunk_index": index }),
        };
        let path = self.path("/chunks/presign");
        let answer = self.stack.post(&path, json!({ "chunks": [chunk] })).await.expect(200);
        answer["chunks"][0].clone()
    }

    /// Sends bytes to a presigned chunk, whatever they are.
    pub async fn put(&self, presigned: &Value, bytes: Bytes) -> StatusCode {
        sent(self.stack.http(), presigned, bytes).await
    }

    /// Sends a chunk of `bytes` with its checksum, unconfirmed.
    pub async fn send(&self, bytes: &Bytes, index: usize) {
        let chunk = self.cut(bytes, index);
        let presigned = self.presign(index, Some(crc64(&chunk))).await;
        assert_eq!(self.put(&presigned, chunk).await, 200);
    }

    pub async fn confirm(&self, index: usize) -> Answer {
        self.stack.call(Method::PUT, &self.path(&format!("/chunks/{index}"))).await
    }

    /// Sends and confirms these chunks.
    pub async fn send_and_confirm(&self, bytes: &Bytes, indexes: impl IntoIterator<Item = usize>) {
        for index in indexes {
            self.send(bytes, index).await;
            self.confirm(index).await.expect(200);
        }
    }

    /// Sends and confirms all chunks, several at once and in portions.
    pub async fn send_all(&self, bytes: &Bytes) {
        self.send_side_by_side(bytes, 0..self.total()).await;
    }

    /// The same with some of them.
    pub async fn send_side_by_side(&self, bytes: &Bytes, indexes: impl IntoIterator<Item = usize>) {
        use futures::stream::{self, StreamExt};
        let indexes: Vec<usize> = indexes.into_iter().collect();
        stream::iter(&indexes).for_each_concurrent(4, |index| self.send(bytes, *index)).await;
        for portion in indexes.chunks(1_000) {
            let path = self.path("/chunks/confirm");
            let answer = self.stack.post(&path, json!({ "chunks": portion })).await.expect(200);
            assert_eq!(answer["rejected"], json!([]));
        }
    }

    pub async fn complete(&self) -> Answer {
        self.stack.call(Method::POST, &self.path("/complete")).await
    }

    /// Waits, with the long poll, until the upload has this status.
    pub async fn wait_for(&self, status: &str) -> Value {
        let path = self.path(&format!("?wait_for={status}&timeout_seconds=60"));
        let upload = self.stack.get(&path).await.expect(200);
        assert_eq!(upload["status"], status, "{upload:#}");
        upload
    }

    pub async fn complete_and_wait(&self) -> Value {
        let status = self.complete().await.status.as_u16();
        assert!(matches!(status, 200 | 202), "{status}");
        self.wait_for("completed").await
    }

    /// The final object, through its download URL.
    pub async fn download(&self) -> (Bytes, reqwest::header::HeaderMap) {
        let download = self.stack.get(&self.path("/download")).await.expect(200);
        let url = download["url"].as_str().unwrap();
        let answer = self.stack.http().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let headers = answer.headers().clone();
        (answer.bytes().await.unwrap(), headers)
    }

    /// That the final object is these bytes, and that nothing else is left in the bucket.
    pub async fn assert_whole(&self, bytes: &Bytes) {
        let (found, _) = self.download().await;
        assert!(
            found == *bytes,
            "the final object differs: {} bytes of {}",
            found.len(),
            bytes.len()
        );
        self.assert_nothing_left().await;
        let page = self.stack.ctx().storage.list(&finals(self.id), None).await.unwrap();
        assert_eq!(page.objects.len(), 1);
    }

    /// That chunks and multipart uploads go, soon.
    pub async fn assert_nothing_left(&self) {
        let storage = &self.stack.ctx().storage;
        eventually("no chunk is left", || async {
            let page = storage.list(&chunks(self.id), None).await.unwrap();
            page.objects.is_empty().then_some(())
        })
        .await;
        // By the whole key: some servers take the prefix for nothing else.
        let filename = self.body["filename"].as_str().unwrap();
        let key = format!("{}{filename}", finals(self.id));
        let multiparts = storage.list_multiparts(&key, None).await.unwrap().uploads;
        assert!(multiparts.is_empty(), "{multiparts:?}");
    }

    /// The names of what happened, in order.
    pub async fn events(&self) -> Vec<String> {
        self.event_times().await.into_iter().map(|(name, _)| name).collect()
    }

    /// The names of what happened and when, in order.
    pub async fn event_times(&self) -> Vec<(String, DateTime<Utc>)> {
        let events = self.stack.get(&self.path("/events")).await.expect(200);
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        let events = events["events"].as_array().unwrap().iter();
        events.map(|event| (text(event, "event"), text(event, "at").parse().unwrap())).collect()
    }
}
