//! `upflow-migration`, `upflow-api` and `upflow-worker` as processes of their own.

use std::collections::BTreeMap;

use futures::future::join_all;
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::{MIB, crc64, noise, sent};
use crate::harness::{Stack, Suite, eventually};
use crate::programs::{Running, free_port, program, run, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "processes":
    the_programs_name_every_fault_of_their_settings_at_once,
    a_dotenv_file_is_read_and_the_environment_wins,
    an_address_that_others_reach_is_refused_unless_told,
    all_that_cannot_be_reached_is_told_at_once_and_each_cause_once,
    a_database_without_tables_is_told_how_to_get_them,
    many_migrations_at_once_on_an_empty_database_all_succeed,
    a_table_of_the_older_system_is_refused_and_left_as_it_is,
    killed_in_every_status_the_programs_lose_nothing,
    told_to_stop_the_programs_end_with_0,
};

/// The environment of the programs, as the original system has it.
pub fn environment(stack: &Stack) -> BTreeMap<&'static str, String> {
    stack.production(|production| {
        let (database, storage) = (&production.database, &production.storage);
        let redis = url::Url::parse(&production.queue.url).unwrap();
        let keys = storage.credentials.clone().unwrap();
        BTreeMap::from([
            ("APP_ENV", "production".to_owned()),
            ("APP_NAME", "upflow-test".to_owned()),
            ("DATABASE_URL", database.url.replacen("postgres://", "postgresql+psycopg2://", 1)),
            ("REDIS_HOST", redis.host_str().unwrap().to_owned()),
            ("REDIS_PORT", redis.port().unwrap_or(6379).to_string()),
            ("REDIS_STREAM", production.queue.stream.clone()),
            ("AWS_REGION", storage.region.clone()),
            ("AWS_S3_BUCKET", storage.bucket.clone()),
            ("AWS_ACCESS_KEY_ID", keys.access_key),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_key),
            ("S3_ENDPOINT_URL", storage.endpoint.as_ref().unwrap().to_string()),
            ("S3_KEY_PREFIX", storage.key_prefix.clone()),
            // None that another program on this machine may have.
            ("UPFLOW_PORT", "0".to_owned()),
            ("UPFLOW_METRICS_ADDR", "off".to_owned()),
            ("UPFLOW_LEASE", "3s".to_owned()),
            ("UPFLOW_JANITOR_INTERVAL", "500ms".to_owned()),
        ])
    })
}

pub fn with(name: &str, stack: &Stack, environment: &BTreeMap<&'static str, String>) -> Command {
    let mut command = program(name);
    command.envs(environment).current_dir(stack.dir());
    command
}

async fn the_programs_name_every_fault_of_their_settings_at_once(stack: Stack) {
    for name in ["upflow-api", "upflow-worker"] {
        let mut command = program(name);
        let ended = run(command
            .current_dir(stack.dir())
            .env("DATABASE_URL", "mysql://user:secret@host/db")
            .env("REDIS_URL", "http://host")
            .env("S3_ENDPOINT_URL", "host:9000")
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("UPFLOW_URL_LIFE", "8d"))
        .await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for variable in [
            "DATABASE_URL",
            "REDIS_URL",
            "S3_ENDPOINT_URL",
            "AWS_REGION",
            "AWS_S3_BUCKET",
            "AWS_SECRET_ACCESS_KEY",
            "UPFLOW_URL_LIFE",
        ] {
            assert!(ended.err.contains(&format!("\n  {variable} ")), "{variable}: {}", ended.err);
        }
        assert!(!ended.err.contains("secret@"), "{}", ended.err);
    }
}

async fn a_dotenv_file_is_read_and_the_environment_wins(stack: Stack) {
    let text: Vec<String> =
        environment(&stack).iter().map(|(name, value)| format!("{name}='{value}'")).collect();
    std::fs::write(stack.dir().join(".env"), text.join("\n")).unwrap();
    let ended = run(program("upflow-migration").current_dir(stack.dir()).arg("status")).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("Applied"), "{}", ended.out);
    let mut command = program("upflow-migration");
    let ended = run(command.current_dir(stack.dir()).arg("status").env("DATABASE_URL", "x")).await;
    assert!(ended.err.contains("DATABASE_URL must start with"), "{}", ended.err);
    std::fs::write(stack.dir().join(".env"), "A LINE = secret\n").unwrap();
    let ended = run(program("upflow-api").current_dir(stack.dir())).await;
    assert!(
        ended.err.contains(".env has a line") && !ended.err.contains("secret"),
        "{}",
        ended.err
    );
}

async fn an_address_that_others_reach_is_refused_unless_told(stack: Stack) {
    let environment = environment(&stack);
    let mut command = with("upflow-api", &stack, &environment);
    let ended = run(command.args(["--host", "0.0.0.0", "--port", "0"])).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("UPFLOW_HOST") && ended.err.contains("--open"), "{}", ended.err);
    let mut command = with("upflow-api", &stack, &environment);
    let port = free_port().to_string();
    let mut open = Running::start(command.args(["--host", "0.0.0.0", "--port", &port, "--open"]));
    open.says("the API serves").await;
    // The port is taken now.
    let mut command = with("upflow-api", &stack, &environment);
    let ended = run(command.args(["--port", &port])).await;
    assert!(ended.err.contains("is taken") && ended.err.contains("--port"), "{}", ended.err);
}

/// A database with nothing in it, and its URL.
pub async fn empty_database(stack: &Stack, name: &str) -> (String, sea_orm::DatabaseConnection) {
    let (url, own) = stack.production(|production| {
        let own = format!("{}_{name}", production.queue.stream);
        (production.database.url.clone(), own)
    });
    let admin = Database::connect(&url).await.unwrap();
    admin.execute_unprepared(&format!("CREATE DATABASE {own}")).await.unwrap();
    let mut url = url::Url::parse(&url).unwrap();
    url.set_path(&own);
    (url.to_string(), admin)
}

pub async fn drop_database(url: &str, admin: sea_orm::DatabaseConnection) {
    let name = url::Url::parse(url).unwrap().path()[1..].to_owned();
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}

async fn all_that_cannot_be_reached_is_told_at_once_and_each_cause_once(stack: Stack) {
    let mut environment = environment(&stack);
    let nowhere = free_port();
    let database = format!("postgres://user:secret@127.0.0.1:{nowhere}/db");
    environment.insert("DATABASE_URL", database);
    environment.insert("DATABASE_TIMEOUT", "1s".to_owned());
    environment.insert("REDIS_PORT", nowhere.to_string());
    environment.insert("AWS_S3_BUCKET", "there-is-no-such-bucket".to_owned());
    for name in ["upflow-api", "upflow-worker"] {
        let ended = run(with(name, &stack, &environment).args(["--s3-timeout", "2s"])).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for variable in ["DATABASE_URL", "REDIS_HOST", "AWS_S3_BUCKET"] {
            assert_eq!(ended.err.matches(variable).count(), 1, "{variable}: {}", ended.err);
        }
        assert_eq!(ended.err.lines().count(), 4, "{}", ended.err);
        assert!(!ended.err.contains("secret"), "{}", ended.err);
    }
}

async fn a_database_without_tables_is_told_how_to_get_them(stack: Stack) {
    let (url, admin) = empty_database(&stack, "bare").await;
    let mut environment = environment(&stack);
    environment.insert("DATABASE_URL", url.clone());
    for name in ["upflow-api", "upflow-worker"] {
        let ended = run(&mut with(name, &stack, &environment)).await;
        assert_eq!(ended.code, Some(1));
        assert!(ended.err.contains("upflow-migration up"), "{}", ended.err);
    }
    drop_database(&url, admin).await;
}

async fn many_migrations_at_once_on_an_empty_database_all_succeed(stack: Stack) {
    let (url, admin) = empty_database(&stack, "many").await;
    let runs = (0..6).map(|_| async {
        let mut command = program("upflow-migration");
        run(command.current_dir(stack.dir()).arg("up").env("DATABASE_URL", &url)).await
    });
    for ended in join_all(runs).await {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    drop_database(&url, admin).await;
}

async fn a_table_of_the_older_system_is_refused_and_left_as_it_is(stack: Stack) {
    let (url, admin) = empty_database(&stack, "old").await;
    let old = Database::connect(&url).await.unwrap();
    old.execute_unprepared("CREATE TABLE upload_sessions (id serial, upload_id text)")
        .await
        .unwrap();
    old.execute_unprepared("INSERT INTO upload_sessions (upload_id) VALUES ('kept')")
        .await
        .unwrap();
    let mut command = program("upflow-migration");
    let ended = run(command.current_dir(stack.dir()).arg("up").env("DATABASE_URL", &url)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("Nothing was changed"), "{}", ended.err);
    old.execute_unprepared("SELECT id FROM upload_sessions").await.unwrap();
    // Not even a table of ours beside it.
    assert!(old.execute_unprepared("SELECT 1 FROM upload_chunks").await.is_err());
    old.close().await.unwrap();
    drop_database(&url, admin).await;
}

/// A client of an API on a port.
pub struct Caller<'a>(pub &'a Stack, pub u16);

impl Caller<'_> {
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.1);
        let mut request = self.0.http().request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {body:#}");
        body
    }
}

async fn killed_in_every_status_the_programs_lose_nothing(stack: Stack) {
    // Only the real programs work here.
    stack.stop_workers().await;
    stack.stop_api().await;
    let environment = environment(&stack);
    let port = free_port();
    let start_api = || async {
        let mut command = with("upflow-api", &stack, &environment);
        let api = Running::start(command.args(["--port", &port.to_string()]));
        serves(stack.http(), port).await;
        api
    };
    let worker = || Running::start(&mut with("upflow-worker", &stack, &environment));
    let client = Caller(&stack, port);

    let bytes = noise(32 * MIB);
    let api = start_api().await;
    let init = json!({ "filename": "kill.bin", "file_size": bytes.len(), "chunk_size": 5 * MIB });
    let upload = client.call("POST", "/uploads/init", Some(init)).await;
    let id = upload["upload_id"].as_str().unwrap();
    api.kill().await;

    let mut api = start_api().await;
    for index in 0..7 {
        let chunk = bytes.slice(index * 5 * MIB..bytes.len().min((index + 1) * 5 * MIB));
        let wanted = json!({ "chunks": [{ "chunk_index": index, "checksum": crc64(&chunk) }] });
        let path = format!("/uploads/{id}/chunks/presign");
        let presigned = client.call("POST", &path, Some(wanted)).await;
        let presigned = &presigned["chunks"][0];
        assert_eq!(sent(stack.http(), presigned, chunk).await, 200);
        client.call("PUT", &format!("/uploads/{id}/chunks/{index}"), None).await;
        if index == 3 {
            api.kill().await;
            api = start_api().await;
        }
    }
    client.call("POST", &format!("/uploads/{id}/complete"), None).await;
    api.kill().await;
    // Workers are killed at several moments of the assembly, each once it holds the lease.
    let (mut before, mut kills) = (None, 0);
    for delay in [0, 50, 150] {
        let killed = worker();
        let row = eventually("a worker holds the lease, or is done", || async {
            let id = id.parse().unwrap();
            let row = upflow_core::uploads::find(&stack.ctx().db, id).await.unwrap();
            let ended = row.status != upflow_core::lifecycle::Status::PendingAssembly;
            (ended || (row.lease_id.is_some() && row.lease_id != before)).then_some(row)
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        killed.kill().await;
        if row.status == upflow_core::lifecycle::Status::PendingAssembly {
            kills += 1;
        }
        before = row.lease_id;
    }
    assert!(kills > 0, "no worker was killed while it worked");
    let api = start_api().await;
    let last = worker();
    let done = eventually("the upload completes", || async {
        let upload = client.call("GET", &format!("/uploads/{id}"), None).await;
        (upload["status"] == "completed").then_some(upload)
    })
    .await;
    assert_eq!(done["integrity"]["value"], crc64(&bytes));
    let download = client.call("GET", &format!("/uploads/{id}/download"), None).await;
    let found = stack.http().get(download["url"].as_str().unwrap()).send().await.unwrap();
    assert!(found.bytes().await.unwrap() == bytes);
    let prefix = upflow_core::storage::chunks(id.parse().unwrap());
    eventually("no chunk is left", || async {
        stack.ctx().storage.list(&prefix, None).await.unwrap().objects.is_empty().then_some(())
    })
    .await;
    drop((api, last));
}

async fn told_to_stop_the_programs_end_with_0(stack: Stack) {
    let environment = environment(&stack);
    let mut command = with("upflow-api", &stack, &environment);
    let mut api = Running::start(command.args(["--port", "0"]));
    let mut worker = Running::start(&mut with("upflow-worker", &stack, &environment));
    api.says("the API serves").await;
    worker.says("the worker runs").await;
    for (program, signal) in [(api, "TERM"), (worker, "INT")] {
        program.signal(signal).await;
        let (code, said) = program.ended().await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("has stopped"), "{said}");
        // Production logs are JSON, a line each.
        for line in said.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        }
    }
}
