//! A client that does what clients do, and sometimes what they should not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use upflow_core::storage::ObjectKey;
use uuid::Uuid;

use crate::client::{KIB, MIB, crc64};
use crate::harness::Stack;

/// How long one thing is tried before the test has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// An upload, and what it must come to.
#[derive(Clone)]
pub struct Tracked {
    pub id: Uuid,
    pub bytes: Bytes,
    /// The client has left it unfinished on purpose; the chunks that were confirmed by then.
    pub left_open: Option<Vec<i64>>,
}

/// The uploads of all clients.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<Vec<Tracked>>>);

impl Known {
    pub fn all(&self) -> Vec<Tracked> {
        self.0.lock().unwrap().clone()
    }

    pub fn any(&self, random: &mut SmallRng) -> Option<Uuid> {
        let known = self.0.lock().unwrap();
        (!known.is_empty()).then(|| known[random.random_range(0..known.len())].id)
    }

    fn leave(&self, id: Uuid, confirmed: Vec<i64>) {
        let mut known = self.0.lock().unwrap();
        known.iter_mut().find(|one| one.id == id).unwrap().left_open = Some(confirmed);
    }
}

pub struct Client {
    stack: Stack,
    apis: Vec<String>,
    random: SmallRng,
    known: Known,
    calm: Arc<AtomicBool>,
}

/// One upload under way.
struct Upload {
    id: Uuid,
    bytes: Bytes,
    chunk_size: usize,
    total: usize,
}

impl Client {
    pub fn new(
        stack: &Stack,
        apis: &[String],
        seed: u64,
        known: Known,
        calm: Arc<AtomicBool>,
    ) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self { stack: stack.clone(), apis: apis.to_vec(), random, known, calm }
    }

    /// One upload after the other, until it is calm.
    pub async fn run(mut self) {
        while !self.calm.load(Ordering::Relaxed) {
            let upload = self.begin().await;
            self.work(&upload).await;
        }
    }

    /// A call that is made again, at any API, until it is answered by one that can.
    async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let key = Uuid::from_u128(self.random.random()).to_string();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let api = &self.apis[self.random.random_range(0..self.apis.len())];
            let mut request = self.stack.http().request(method.clone(), format!("{api}{path}"));
            if path == "/uploads/init" {
                request = request.header("idempotency-key", &key);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = match request.send().await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    answer.json::<Value>().await.ok().map(|body| (status, body))
                }
                Err(_) => None,
            };
            match answer {
                Some((500, body)) => panic!("{method} {path}: {body:#}"),
                Some((status, body)) if status < 500 => return (status, body),
                _ => {}
            }
            assert!(tokio::time::Instant::now() < deadline, "no answer to {method} {path}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn begin(&mut self) -> Upload {
        let (chunk_size, most) = match self.random.random_range(0..3) {
            0 => (5 * MIB, 16 * MIB),
            1 => (64 * KIB, 700 * KIB),
            _ => (64 * KIB, 64 * KIB),
        };
        let len = self.random.random_range(0..most);
        let mut bytes = vec![0; len];
        self.random.fill_bytes(&mut bytes);
        let bytes = Bytes::from(bytes);
        let body = json!({ "filename": "chaos.bin", "file_size": len, "chunk_size": chunk_size });
        let (status, upload) = self.call(Method::POST, "/uploads/init", Some(body)).await;
        assert_eq!(status, 201, "{upload:#}");
        let id = upload["upload_id"].as_str().unwrap().parse().unwrap();
        self.known.0.lock().unwrap().push(Tracked { id, bytes: bytes.clone(), left_open: None });
        Upload { id, bytes, chunk_size, total: len.div_ceil(chunk_size) }
    }

    /// Sends, forgets, comes back, and ends in one way or another.
    async fn work(&mut self, upload: &Upload) {
        let mut missing: Vec<usize> = (0..upload.total).collect();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            missing.shuffle(&mut self.random);
            for index in missing.clone() {
                self.send(upload, index).await;
                if !self.calm.load(Ordering::Relaxed) && self.random.random_ratio(1, 40) {
                    return self.part_with(upload).await;
                }
            }
            if self.random.random_ratio(1, 6) {
                self.harm(upload).await;
            }
            match self.completed(upload).await {
                None => return,
                Some(left) => missing = left,
            }
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "upload {} does not come to an end", upload.id);
        }
    }

    /// Sends a chunk; a client whose PUT fails sends it again, or finds out later that it is missing.
    async fn send(&mut self, upload: &Upload, index: usize) {
        let end = upload.bytes.len().min((index + 1) * upload.chunk_size);
        let chunk = upload.bytes.slice(index * upload.chunk_size..end);
        for _ in 0..3 {
            let Some(presigned) = self.presign(upload, index, &chunk).await else { return };
            let sent = put(self.stack.http(), &presigned, chunk.clone()).await;
            if sent {
                break;
            }
        }
        if self.random.random_ratio(2, 3) {
            let path = format!("/uploads/{}/chunks/{index}", upload.id);
            let (status, answer) = self.call(Method::PUT, &path, None).await;
            assert!(matches!(status, 200 | 409), "{answer:#}");
        }
    }

    async fn presign(&mut self, upload: &Upload, index: usize, bytes: &Bytes) -> Option<Value> {
        let path = format!("/uploads/{}/chunks/presign", upload.id);
        let body = json!({ "chunks": [{ "chunk_index": index, "checksum": crc64(bytes) }] });
        let (status, answer) = self.call(Method::POST, &path, Some(body)).await;
        assert!(matches!(status, 200 | 409), "{answer:#}");
        (status == 200).then(|| answer["chunks"][0].clone())
    }

    /// Takes the upload back, or just never comes again.
    async fn part_with(&mut self, upload: &Upload) {
        let path = format!("/uploads/{}", upload.id);
        if self.random.random_bool(0.5) {
            let (status, answer) = self.call(Method::DELETE, &path, None).await;
            assert_eq!(status, 200, "{answer:#}");
            return;
        }
        // What is confirmed now must be so at the end.
        let (_, answer) = self.call(Method::GET, &path, None).await;
        let confirmed = answer["uploaded_chunks"].as_array().unwrap().iter();
        self.known.leave(upload.id, confirmed.map(|index| index.as_i64().unwrap()).collect());
    }

    /// Somebody deletes a chunk in the bucket, or a URL that still lives overwrites one.
    async fn harm(&mut self, upload: &Upload) {
        if upload.total == 0 {
            return;
        }
        let index = self.random.random_range(0..upload.total);
        if self.random.random_bool(0.5) {
            let key = ObjectKey::Chunk { upload_id: upload.id, index: index as i32 }.to_string();
            let _ = self.stack.ctx().storage.delete_all(&key).await;
            return;
        }
        let end = upload.bytes.len().min((index + 1) * upload.chunk_size);
        let right = upload.bytes.slice(index * upload.chunk_size..end);
        let wrong = Bytes::from(vec![7; right.len()]);
        let alive = self.presign(upload, index, &wrong).await;
        self.send(upload, index).await;
        if let Some(alive) = alive {
            put(self.stack.http(), &alive, wrong).await;
            // Whatever becomes of that, the client means the right bytes.
            self.presign(upload, index, &right).await;
        }
    }

    /// Asks for the end. The chunks to send again, or `None` once the upload has ended.
    async fn completed(&mut self, upload: &Upload) -> Option<Vec<usize>> {
        if self.random.random_ratio(1, 5) {
            let path = format!("/uploads/{}/reconcile", upload.id);
            let (status, answer) = self.call(Method::POST, &path, None).await;
            assert!(matches!(status, 200 | 409), "{answer:#}");
        }
        let path = format!("/uploads/{}/complete", upload.id);
        let (status, answer) = self.call(Method::POST, &path, None).await;
        match (status, answer["code"].as_str()) {
            (200 | 202, _) => {}
            (409, Some("upload_incomplete")) => {
                let missing = answer["missing_chunks"].as_array().unwrap().iter();
                return Some(missing.map(|index| index.as_u64().unwrap() as usize).collect());
            }
            (409, Some("confirm_in_progress")) => return Some(Vec::new()),
            _ => panic!("{status}: {answer:#}"),
        }
        let path = format!("/uploads/{}?wait_for=completed&timeout_seconds=20", upload.id);
        let (_, answer) = self.call(Method::GET, &path, None).await;
        match answer["status"].as_str().unwrap() {
            "completed" => None,
            // Back for chunks that were lost, failed, or still pending: once more.
            "uploading" | "failed" | "pending_assembly" => Some(Vec::new()),
            other => panic!("{other}: {answer:#}"),
        }
    }
}

async fn put(http: &reqwest::Client, presigned: &Value, bytes: Bytes) -> bool {
    let mut request = http.put(presigned["url"].as_str().unwrap()).body(bytes);
    for (name, value) in presigned["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    request.send().await.is_ok_and(|answer| answer.status() == 200)
}
