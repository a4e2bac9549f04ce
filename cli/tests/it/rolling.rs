//! Programs that are told to stop, and others that take their place: nothing is lost, and no client notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use upflow_core::uploads;
use uuid::Uuid;

use crate::balancer::Balancer;
use crate::client::{KIB, MIB, crc64, noise, sent};
use crate::harness::{Stack, Suite, eventually};
use crate::processes::{Caller, environment, with};
use crate::programs::{Running, free_port, program, run, serves};
use crate::proxy::{Fault, Operation, Proxy};
use crate::suite;

pub const SUITE: Suite = suite! { "rolling":
    a_rolling_restart_under_load_loses_no_upload_and_answers_no_5xx,
    a_worker_told_to_stop_hands_back_what_it_has_in_hand_and_ends_with_0,
    an_api_told_to_stop_answers_what_waits_and_ends_with_0,
    programs_older_than_a_migration_go_on_while_several_migrate,
};

const CLIENTS: usize = 4;

/// Sends small files, one after the other, until told to stop; a connection for each call, as balancers have it.
struct Load {
    http: reqwest::Client,
    port: u16,
    stop: AtomicBool,
    completed: AtomicUsize,
}

impl Load {
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let bytes = noise(3 * 64 * KIB);
            let cut: Vec<_> =
                (0..3).map(|i| bytes.slice(i * 64 * KIB..(i + 1) * 64 * KIB)).collect();
            let chunks: Vec<Value> =
                (0..3).map(|i| json!({ "chunk_index": i, "checksum": crc64(&cut[i]) })).collect();
            let init = json!({ "filename": "a", "file_size": bytes.len(), "chunk_size": 64 * KIB,
                "chunks": chunks });
            let upload = self.call("POST", "/uploads/init", Some(init)).await;
            let path = format!("/uploads/{}", upload["upload_id"].as_str().unwrap());
            for (i, cut) in cut.into_iter().enumerate() {
                assert_eq!(sent(&self.http, &upload["presigned"][i], cut).await, 200);
                self.call("PUT", &format!("{path}/chunks/{i}"), None).await;
            }
            self.call("POST", &format!("{path}/complete"), None).await;
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let upload = self.call("GET", &format!("{path}?wait_for=completed"), None).await;
                if upload["status"] == "completed" {
                    assert_eq!(upload["integrity"]["value"], crc64(&bytes));
                    break;
                }
                assert_eq!(upload["status"], "pending_assembly");
                assert!(Instant::now() < deadline, "the upload is lost: {upload:#}");
            }
            self.completed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn a_rolling_restart_under_load_loses_no_upload_and_answers_no_5xx(stack: Stack) {
    stack.stop_workers().await;
    let mut environment = environment(&stack);
    // Nothing is saved by a lease that runs out, nor by a janitor.
    environment.insert("UPFLOW_LEASE", "10m".to_owned());
    environment.insert("UPFLOW_METRICS_ADDR", "off".to_owned());
    let start_api = || async {
        let port = free_port();
        let mut command = with("upflow-api", &stack, &environment);
        let api = Running::start(command.args(["--port", &port.to_string()]));
        serves(stack.http(), port).await;
        (api, port)
    };
    let start_worker = || async {
        let mut worker = Running::start(&mut with("upflow-worker", &stack, &environment));
        worker.says("the worker runs").await;
        worker
    };
    let (mut first, mut second) = (start_api().await, start_api().await);
    let mut worker = start_worker().await;
    let balancer = Balancer::before(&[first.1, second.1]).await;
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let load = Arc::new(Load {
        http,
        port: balancer.port,
        stop: AtomicBool::new(false),
        completed: AtomicUsize::new(0),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let load = load.clone();
            tokio::spawn(async move { load.run().await })
        })
        .collect();
    let more = |than: usize| {
        let load = &load;
        async move {
            eventually("the load goes on", || async {
                (load.completed.load(Ordering::Relaxed) > than).then_some(())
            })
            .await;
        }
    };
    more(CLIENTS).await;
    for _ in 0..2 {
        // As a deployment does: the new one is ready, the old one out of the balancer, and then told to stop.
        let next = start_api().await;
        balancer.use_only(&[second.1, next.1]);
        let old = std::mem::replace(&mut first, std::mem::replace(&mut second, next)).0;
        let another = start_worker().await;
        let old_worker = std::mem::replace(&mut worker, another);
        for program in [old, old_worker] {
            program.signal("TERM").await;
            let (code, said) = program.ended().await;
            assert_eq!(code, Some(0), "{said}");
            assert!(!said.contains("\"ERROR\""), "{said}");
        }
        more(load.completed.load(Ordering::Relaxed) + CLIENTS).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    for client in join_all(clients).await {
        client.unwrap();
    }
    let uploads = uploads::count_by_status(&stack.ctx().db).await.unwrap();
    let completed = load.completed.load(Ordering::Relaxed) as i64;
    assert_eq!(uploads, [(upflow_core::lifecycle::Status::Completed, completed)]);
}

async fn a_worker_told_to_stop_hands_back_what_it_has_in_hand_and_ends_with_0(stack: Stack) {
    stack.stop_workers().await;
    let bytes = noise(11 * MIB);
    let upload = stack.plan("a", &bytes, 5 * MIB).await;
    upload.send_all(&bytes).await;
    upload.complete().await.expect(202);
    let endpoint = stack.production(|production| production.storage.endpoint.clone()).unwrap();
    let proxy = Proxy::before(&endpoint).await;
    // Copies that never end.
    proxy.rule(|call| (call.operation == Operation::UploadPartCopy).then_some(Fault::HoldRequest));
    let mut environment = environment(&stack);
    environment.insert("S3_ENDPOINT_URL", proxy.url().to_string());
    environment.insert("UPFLOW_METRICS_ADDR", "off".to_owned());
    // Whoever went on without being told would come too late.
    environment.insert("UPFLOW_LEASE", "10m".to_owned());
    let worker = || Running::start(&mut with("upflow-worker", &stack, &environment));
    let first = worker();
    proxy.held().wait_for(|held| *held > 0).await.unwrap();
    let told = Instant::now();
    first.signal("TERM").await;
    let (code, said) = first.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(told.elapsed() < Duration::from_secs(20), "it took {:?}", told.elapsed());
    let row = uploads::find(&stack.ctx().db, upload.id).await.unwrap();
    assert_eq!(row.lease_id, None, "it was handed back");
    proxy.pass_all();
    let second = worker();
    upload.wait_for("completed").await;
    upload.assert_whole(&bytes).await;
    drop(second);
}

async fn an_api_told_to_stop_answers_what_waits_and_ends_with_0(stack: Stack) {
    let port = free_port();
    let mut environment = environment(&stack);
    environment.insert("UPFLOW_METRICS_ADDR", "off".to_owned());
    let mut command = with("upflow-api", &stack, &environment);
    let api = Running::start(command.args(["--port", &port.to_string()]));
    serves(stack.http(), port).await;
    let client = Caller(&stack, port);
    let init = json!({ "filename": "a", "file_size": 1 });
    let upload = client.call("POST", "/uploads/init", Some(init)).await;
    let id = upload["upload_id"].as_str().unwrap();
    let path = format!("/uploads/{id}?wait_for=completed&timeout_seconds=60");
    let waits = client.call("GET", &path, None);
    let told = async {
        // Until it waits.
        tokio::time::sleep(Duration::from_millis(500)).await;
        api.signal("TERM").await;
        api.ended().await
    };
    let began = Instant::now();
    let (answer, (code, said)) = tokio::join!(waits, told);
    assert_eq!(answer["status"], "initialized");
    assert_eq!(code, Some(0), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}

/// The columns of an upload before the last migration.
const OLD_COLUMNS: &str = "upload_id, filename, file_size, chunk_size, total_chunks, content_type, metadata, \
    status, checksum_algorithm, final_s3_key, attempts, owner, expires_at, urls_expire_at, created_at, updated_at";

async fn programs_older_than_a_migration_go_on_while_several_migrate(stack: Stack) {
    let url = stack.production(|production| production.database.url.clone());
    let admin = Database::connect(&url).await.unwrap();
    let name = format!("older_{}", Uuid::new_v4().simple());
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut url = url::Url::parse(&url).unwrap();
    url.set_path(&name);
    let migrate = || async {
        let mut command = program("upflow-migration");
        let command = command.current_dir(stack.dir()).arg("up").env("DATABASE_URL", url.as_str());
        run(command).await
    };
    assert_eq!(migrate().await.code, Some(0));
    // As it was before the last migration.
    let db = Database::connect(url.as_str()).await.unwrap();
    for undo in [
        "ALTER TABLE upload_sessions DROP COLUMN traceparent",
        "DELETE FROM upflow_migrations WHERE version = 'm20261125_000002_traceparent'",
    ] {
        db.execute_unprepared(undo).await.unwrap();
    }
    // What an older program does to rows, again and again; it stops at the first error.
    let (stop, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let older = {
        let (db, stop, rows) = (db.clone(), stop.clone(), rows.clone());
        tokio::spawn(async move {
            let mut last = Uuid::nil();
            while !stop.load(Ordering::Relaxed) {
                last = Uuid::new_v4();
                let insert = format!(
                    "INSERT INTO upload_sessions ({OLD_COLUMNS}) VALUES ('{last}', 'a', 1, 65536, 1, \
                     'text/plain', '{{}}', 'initialized', 'crc64nvme', 'uploads/{last}/final/a', 0, 'open', \
                     now() + interval '1 day', now(), now(), now())"
                );
                db.execute_unprepared(&insert).await.unwrap();
                let select =
                    format!("SELECT {OLD_COLUMNS} FROM upload_sessions WHERE upload_id = '{last}'");
                db.execute_unprepared(&select).await.unwrap();
                let update = format!(
                    "UPDATE upload_sessions SET updated_at = now() WHERE upload_id = '{last}'"
                );
                assert_eq!(db.execute_unprepared(&update).await.unwrap().rows_affected(), 1);
                rows.fetch_add(1, Ordering::Relaxed);
            }
            last
        })
    };
    let many = |than: usize| {
        let rows = &rows;
        async move {
            eventually("the older program works", || async {
                (rows.load(Ordering::Relaxed) > than).then_some(())
            })
            .await;
        }
    };
    many(20).await;
    for ended in join_all((0..4).map(|_| migrate())).await {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    many(rows.load(Ordering::Relaxed) + 20).await;
    stop.store(true, Ordering::Relaxed);
    let last = older.await.unwrap();
    // A newer program takes its rows as they are.
    let mut environment: BTreeMap<_, _> = environment(&stack);
    environment.insert("DATABASE_URL", url.to_string());
    environment.insert("UPFLOW_METRICS_ADDR", "off".to_owned());
    let port = free_port();
    let mut command = with("upflow-api", &stack, &environment);
    let api = Running::start(command.args(["--port", &port.to_string()]));
    serves(stack.http(), port).await;
    let client = Caller(&stack, port);
    assert_eq!(
        client.call("GET", &format!("/uploads/{last}"), None).await["status"],
        "initialized"
    );
    assert_eq!(client.call("DELETE", &format!("/uploads/{last}"), None).await["status"], "aborted");
    api.kill().await;
    db.close().await.unwrap();
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
