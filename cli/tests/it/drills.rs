//! What may happen to a running service, with the real programs: each time it recovers without a hand, no upload
//! is lost, and the log says what happened once, not a thousand times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use reqwest::StatusCode;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::uploads;
use uuid::Uuid;

use crate::client::{KIB, MIB, noise, sent};
use crate::doctor::{local_s3, redis};
use crate::gate::Gate;
use crate::harness::{Backend, Stack, Suite, eventually};
use crate::processes::{environment, with};
use crate::programs::{Running, free_port, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "drills":
    postgresql_restarted_is_told_once_and_waited_for,
    redis_killed_and_emptied_is_told_once_and_done_without,
    an_s3_that_is_gone_for_a_while_is_told_once_and_waited_for,
    workers_whose_clocks_differ_make_one_file,
    credentials_that_end_are_renewed_and_their_source_may_be_away,
};

/// On any storage.
pub const CLOCKS: Suite = suite! { "drills":
    a_skewed_signer_signs_nothing_that_works,
};

/// API and worker with some of their environment changed, and a client of theirs.
struct Programs<'a> {
    stack: &'a Stack,
    port: u16,
    api: Running,
    worker: Running,
}

impl<'a> Programs<'a> {
    async fn start(stack: &'a Stack, changed: &[(&'static str, String)]) -> Self {
        stack.stop_workers().await;
        let port = free_port();
        let mut environment: BTreeMap<_, _> = environment(stack);
        environment.insert("UPFLOW_METRICS_ADDR", "off".to_owned());
        environment.extend(changed.iter().cloned());
        let mut command = with("upflow-api", stack, &environment);
        let api = Running::start(command.args(["--port", &port.to_string()]));
        let mut worker = Running::start(&mut with("upflow-worker", stack, &environment));
        worker.says("the worker runs").await;
        serves(stack.http(), port).await;
        Self { stack, port, api, worker }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut request = self.stack.http().request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// An upload of two chunks that are sent, and not confirmed.
    async fn sent(&self) -> String {
        let bytes = noise(2 * 64 * KIB);
        let init = json!({ "filename": "a", "file_size": bytes.len(), "chunk_size": 64 * KIB,
            "chunks": [{ "chunk_index": 0 }, { "chunk_index": 1 }] });
        let (status, upload) = self.call("POST", "/uploads/init", Some(init)).await;
        assert_eq!(status, 201, "{upload:#}");
        for (i, presigned) in upload["presigned"].as_array().unwrap().iter().enumerate() {
            let cut = bytes.slice(i * 64 * KIB..(i + 1) * 64 * KIB);
            assert_eq!(sent(self.stack.http(), presigned, cut).await, 200);
        }
        format!("/uploads/{}", upload["upload_id"].as_str().unwrap())
    }

    async fn completes(&self, path: &str) {
        eventually("complete is accepted", || async {
            let (status, _) = self.call("POST", &format!("{path}/complete"), None).await;
            status.is_success().then_some(())
        })
        .await;
        self.is_completed(path).await;
    }

    async fn is_completed(&self, path: &str) {
        eventually("the upload completes", || async {
            let (_, upload) = self.call("GET", path, None).await;
            (upload["status"] == "completed").then_some(())
        })
        .await;
    }

    /// Ends both, and answers what each has logged that is no mere information.
    async fn troubles(self) -> [Vec<Value>; 2] {
        let mut troubles = [Vec::new(), Vec::new()];
        for (program, told) in [self.api, self.worker].into_iter().zip(&mut troubles) {
            program.signal("TERM").await;
            let (code, said) = program.ended().await;
            assert_eq!(code, Some(0), "{said}");
            let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            // Each of them says once that it is open.
            let open = |line: &Value| line["message"].as_str().is_some_and(|m| m.contains("OPEN"));
            told.extend(lines.filter(|line| line["level"] != "INFO" && !open(line)));
        }
        troubles
    }
}

#[track_caller]
fn told_once(lines: &[Value], message: &str) {
    let found = lines.iter().filter(|line| line["message"] == message).count();
    assert_eq!(found, 1, "{message}: {lines:#?}");
}

/// However long it lasts: a line for each thing that noticed, not for each time it did.
#[track_caller]
fn few(lines: &[Value]) {
    assert!(lines.len() <= 8, "{} lines: {lines:#?}", lines.len());
}

async fn postgresql_restarted_is_told_once_and_waited_for(stack: Stack) {
    let url = stack.production(|production| production.database.url.clone());
    let url = url::Url::parse(&url).unwrap();
    let gate = Gate::before(&url).await;
    let changed =
        [("DATABASE_URL", gate.url(&url).to_string()), ("DATABASE_TIMEOUT", "3s".to_owned())];
    let programs = Programs::start(&stack, &changed).await;
    let uploads = [programs.sent().await, programs.sent().await];
    // A restart ends every session, takes no new one for a while, and comes back.
    gate.shut();
    let admin = Database::connect(url.as_str()).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    admin.execute_unprepared(end).await.unwrap();
    let path = format!("{}/chunks/0", uploads[0]);
    let refused = join_all((0..10).map(|_| programs.call("PUT", &path, None))).await;
    for (status, problem) in refused {
        assert_eq!(status, 503, "{problem:#}");
        assert_eq!(problem["code"], "database_unavailable");
    }
    gate.open();
    for path in &uploads {
        programs.completes(path).await;
    }
    let [api, worker] = programs.troubles().await;
    told_once(&api, "the database does not answer");
    few(&api);
    few(&worker);
    admin.close().await.unwrap();
}

async fn redis_killed_and_emptied_is_told_once_and_done_without(stack: Stack) {
    let (server, port) = redis(&stack, &[]).await;
    let programs = Programs::start(&stack, &[("REDIS_PORT", port.to_string())]).await;
    let before = programs.sent().await;
    programs.completes(&before).await;
    server.kill().await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let path = programs.sent().await;
        let (status, upload) = programs.call("POST", &format!("{path}/complete"), None).await;
        assert_eq!(status, 202, "{upload:#}");
        waiting.push(path);
    }
    // It comes back with nothing in it, on the port that it had.
    let port = port.to_string();
    let mut command = tokio::process::Command::new("redis-server");
    command.kill_on_drop(true).args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
    let mut back = Running::start(&mut command);
    back.says("Ready to accept connections").await;
    for path in &waiting {
        programs.is_completed(path).await;
    }
    let after = programs.sent().await;
    programs.completes(&after).await;
    let [api, worker] = programs.troubles().await;
    told_once(&api, "a job was not announced; the janitor will");
    told_once(&worker, "the queue does not answer; the janitor goes on meanwhile");
    few(&api);
    few(&worker);
}

async fn an_s3_that_is_gone_for_a_while_is_told_once_and_waited_for(stack: Stack) {
    let endpoint = stack.production(|production| production.storage.endpoint.clone()).unwrap();
    let gate = Gate::before(&endpoint).await;
    let changed = [
        ("S3_ENDPOINT_URL", gate.url(&endpoint).to_string()),
        ("S3_PUBLIC_ENDPOINT_URL", endpoint.to_string()),
        ("S3_TIMEOUT", "1s".to_owned()),
    ];
    let programs = Programs::start(&stack, &changed).await;
    let (ready, open) = (programs.sent().await, programs.sent().await);
    let confirm = json!({ "chunks": [0, 1] });
    let (status, _) =
        programs.call("POST", &format!("{ready}/chunks/confirm"), Some(confirm)).await;
    assert_eq!(status, 200);
    gate.shut();
    let (status, _) = programs.call("POST", &format!("{ready}/complete"), None).await;
    assert_eq!(status, 202, "what is confirmed needs no storage now");
    for _ in 0..5 {
        let (status, problem) = programs.call("PUT", &format!("{open}/chunks/0"), None).await;
        assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("storage_unavailable")));
    }
    let id: Uuid = ready.rsplit('/').next().unwrap().parse().unwrap();
    eventually("several attempts failed", || async {
        let row = uploads::find(&stack.ctx().db, id).await.unwrap();
        (row.attempts >= 3).then_some(())
    })
    .await;
    gate.open();
    programs.is_completed(&ready).await;
    programs.completes(&open).await;
    let [api, worker] = programs.troubles().await;
    told_once(&api, "the storage does not answer");
    told_once(&worker, "will try again");
    few(&api);
    few(&worker);
}

async fn a_skewed_signer_signs_nothing_that_works(stack: Stack) {
    let storage = &stack.ctx().storage;
    for (skew, works) in [
        (TimeDelta::zero(), true),
        (TimeDelta::minutes(-1), false),
        (TimeDelta::hours(-1), false),
        // SeaweedFS takes what will be signed in an hour; AWS and the local store do not.
        (TimeDelta::hours(1), stack.backend() == Backend::Production),
    ] {
        let trial = storage.trial();
        // Good for a minute from then on.
        let presigned = trial.presigned(now() + skew).await.unwrap();
        let mut request = stack.http().put(&presigned.url).body(trial.bytes());
        for (name, value) in &presigned.headers {
            request = request.header(name, value);
        }
        let status = request.send().await.unwrap().status();
        assert_eq!(status.is_success(), works, "{skew}: {status}");
        assert_eq!(trial.head().await.unwrap().is_some(), works, "{skew}");
        trial.delete().await.unwrap();
    }
}

async fn workers_whose_clocks_differ_make_one_file(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(11 * MIB);
    let upload = stack.plan("a", &bytes, 5 * MIB).await;
    upload.send_all(&bytes).await;
    upload.complete().await.expect(202);
    let (db, id, life) = (&stack.ctx().db, upload.id, Duration::from_secs(60));
    // One whose clock is an hour behind takes the lease; to the others it has run out long ago.
    let (behind, lease) = (now() - TimeDelta::hours(1), Uuid::new_v4());
    uploads::claim(db, id, lease, life, behind).await.unwrap().expect("it gets it");
    stack.start_worker();
    upload.wait_for("completed").await;
    // It has lost it, and can change nothing any more.
    assert!(!uploads::renew(db, id, lease, life, behind).await.unwrap());
    let integrity = uploads::Integrity { level: "size_only", value: None };
    let late = uploads::finish(db, id, lease, integrity, behind).await;
    assert!(matches!(late, Err(uploads::Error::LeaseLost)), "{late:?}");
    upload.assert_whole(&bytes).await;
    // Nor does one that is an hour ahead end what others have in hand.
    let ahead = now() + TimeDelta::hours(1);
    assert!(uploads::claim(db, id, Uuid::new_v4(), life, ahead).await.unwrap().is_none());
    assert_eq!(uploads::find(db, id).await.unwrap().status, Status::Completed);
}

/// Where programs in a container get their credentials from. They end after `SECONDS`.
struct Source {
    url: String,
    asked: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
}

const SECONDS: i64 = 3;

impl Source {
    async fn start(key: String, secret: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/credentials", listener.local_addr().unwrap());
        let (asked, away) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, gone) = (asked.clone(), away.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                count.fetch_add(1, Ordering::Relaxed);
                let end = Utc::now() + TimeDelta::seconds(SECONDS);
                let body =
                    json!({ "AccessKeyId": key, "SecretAccessKey": secret, "Token": "a-session",
                    "Expiration": end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true) })
                    .to_string();
                let (status, body) = if gone.load(Ordering::Relaxed) {
                    ("503 Service Unavailable", String::new())
                } else {
                    ("200 OK", body)
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, asked, away }
    }
}

async fn credentials_that_end_are_renewed_and_their_source_may_be_away(stack: Stack) {
    let (_s3, local) = local_s3(&stack).await;
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| local[name].clone());
    let [key, secret] = keys;
    let source = Source::start(key, secret).await;
    let changed: Vec<(&'static str, String)> = ["AWS_REGION", "AWS_S3_BUCKET", "S3_ENDPOINT_URL"]
        .map(|name| (name, local[name].clone()))
        .into_iter()
        .chain([
            ("AWS_ACCESS_KEY_ID", String::new()),
            ("AWS_SECRET_ACCESS_KEY", String::new()),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", source.url.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ])
        .collect();
    let programs = Programs::start(&stack, &changed).await;
    // Longer than any of them lives, and across the end of several.
    let first = source.asked.load(Ordering::Relaxed);
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(2 * SECONDS as u64 + 1) {
        let path = programs.sent().await;
        programs.completes(&path).await;
    }
    assert!(source.asked.load(Ordering::Relaxed) > first + 1);
    // A URL says when it really ends.
    let init = json!({ "filename": "a", "file_size": 1, "chunks": [{ "chunk_index": 0 }] });
    let (_, upload) = programs.call("POST", "/uploads/init", Some(init.clone())).await;
    let seconds = upload["presigned"][0]["expires_in"].as_i64().unwrap();
    assert!((0..=SECONDS).contains(&seconds), "{seconds}");
    // Away for longer than the last ones live: a 503, and then all is well again.
    let path = programs.sent().await;
    source.away.store(true, Ordering::Relaxed);
    eventually("nothing can be signed any more", || async {
        let (status, problem) = programs.call("POST", "/uploads/init", Some(init.clone())).await;
        assert!(status == 201 || problem["code"] == "storage_unavailable", "{problem:#}");
        (status == 503).then_some(())
    })
    .await;
    source.away.store(false, Ordering::Relaxed);
    programs.completes(&path).await;
    let [api, worker] = programs.troubles().await;
    told_once(&api, "the storage does not answer");
    few(&api);
    few(&worker);
}
