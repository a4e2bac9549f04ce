//! `upflow doctor`: what is well is told so, and each thing that is broken is found by its name, with what to do.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CorsConfiguration, CorsRule};
use sea_orm::{ConnectionTrait, Database};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upflow_core::config::StaticCredentials;
use uuid::Uuid;

use crate::backends::client;
use crate::harness::{Stack, Suite};
use crate::processes::{environment, with};
use crate::programs::{Running, free_port, program, run};
use crate::suite;

pub const SUITE: Suite = suite! { "doctor":
    a_deployment_that_is_well_is_told_so_line_by_line_and_nothing_is_left,
    the_local_s3_store_passes_every_check,
    wrong_keys_a_missing_bucket_and_a_wrong_region_are_told_apart,
    a_storage_that_clients_do_not_reach_is_found,
    a_clock_that_is_off_is_found_by_the_storages_answers,
    a_database_that_is_gone_or_not_migrated_is_found,
    a_redis_that_forgets_or_evicts_is_found,
    a_lease_shorter_than_the_timeouts_allow_is_found,
    pages_that_may_not_send_are_found_and_fix_adds_a_rule_and_keeps_the_others,
    fix_adds_the_lifecycle_rules_and_the_next_look_finds_them,
};

pub type Environment = BTreeMap<&'static str, String>;

/// What it says of each thing, and its exit code.
async fn doctor(stack: &Stack, environment: &Environment, more: &[&str]) -> (Value, Option<i32>) {
    let mut command = with("upflow", stack, environment);
    let ended = run(command.arg("doctor").args(more).arg("--json")).await;
    let report = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("no JSON: {ended:?}"));
    (report, ended.code)
}

fn find<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

#[track_caller]
fn is(report: &Value, name: &str, verdict: &str, remedy: &str) {
    let check = find(report, name);
    assert_eq!(check["verdict"], verdict, "{check:#}");
    let told = check["remedy"].as_str().unwrap_or_default();
    assert!(told.contains(remedy), "{check:#}");
}

fn verdicts<'a>(report: &'a Value, verdict: &str) -> Vec<&'a str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|c| c["verdict"] == verdict).map(|c| c["name"].as_str().unwrap()).collect()
}

/// With times that fit one another.
fn well(stack: &Stack) -> Environment {
    let mut environment = environment(stack);
    environment.insert("UPFLOW_LEASE", "60s".to_owned());
    environment
}

const BUCKET: [&str; 18] = [
    "endpoint",
    "clock",
    "credentials",
    "region",
    "bucket",
    "put",
    "head",
    "get",
    "if-match",
    "multipart copy",
    "copy if-match",
    "full object",
    "list",
    "delete",
    "crc64nvme",
    "crc32c",
    "presigned put",
    "content length",
];

async fn a_deployment_that_is_well_is_told_so_line_by_line_and_nothing_is_left(stack: Stack) {
    let environment = well(&stack);
    let (report, code) = doctor(&stack, &environment, &["--origin", "https://app.example"]).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["healthy"], true);
    for name in BUCKET.into_iter().chain([
        "public endpoint",
        "cors",
        "database",
        "migrations",
        "redis",
        "redis eviction",
        "lease",
    ]) {
        is(&report, name, "ok", "");
    }
    let storage = &stack.ctx().storage;
    assert!(storage.list("", None).await.unwrap().objects.is_empty());
    assert!(storage.list_multiparts("", None).await.unwrap().uploads.is_empty());
    // For people: a line for each, and a remedy in it where there is one.
    let mut command = with("upflow", &stack, &environment);
    let ended = run(command.arg("doctor")).await;
    let lines: Vec<&str> = ended.out.lines().collect();
    let all = report["checks"].as_array().unwrap().len();
    assert_eq!(lines.len(), all + 2, "{}", ended.out);
    assert!(lines[0].starts_with("ok       endpoint "), "{}", ended.out);
    for line in
        lines.iter().filter(|line| line.starts_with("warning") || line.starts_with("FAILED"))
    {
        assert!(line.contains(" -> "), "{line}");
    }
    let secret = &environment["AWS_SECRET_ACCESS_KEY"];
    assert!(!ended.out.contains(secret) && !ended.out.contains("X-Amz-"), "{}", ended.out);
}

/// `upflow s3` with keys of its own, and the environment that leads to it.
pub async fn local_s3(stack: &Stack) -> (Running, Environment) {
    let (key, secret) = ("doctor", "a-secret-of-the-doctor");
    let port = free_port();
    let mut command = program("upflow");
    command
        .current_dir(stack.dir())
        .env("UPFLOW_S3_ACCESS_KEY", key)
        .env("UPFLOW_S3_SECRET_KEY", secret)
        .args(["s3", "--data-dir", "doctor", "--s3-port", &port.to_string()]);
    let mut s3 = Running::start(&mut command);
    s3.says("Ctrl-C").await;
    let mut environment = well(stack);
    environment.extend([
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_S3_BUCKET", "upflow".to_owned()),
        ("AWS_ACCESS_KEY_ID", key.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("S3_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
    ]);
    (s3, environment)
}

async fn the_local_s3_store_passes_every_check(stack: Stack) {
    let (_s3, environment) = local_s3(&stack).await;
    let (report, code) = doctor(&stack, &environment, &["--origin", "http://localhost:3000"]).await;
    assert_eq!(code, Some(0), "{report:#}");
    for name in BUCKET.into_iter().chain(["public endpoint", "cors"]) {
        is(&report, name, "ok", "");
    }
    assert_eq!(verdicts(&report, "skipped"), ["lifecycle"]);
}

async fn wrong_keys_a_missing_bucket_and_a_wrong_region_are_told_apart(stack: Stack) {
    let (_s3, local) = local_s3(&stack).await;
    for well in [well(&stack), local.clone()] {
        let broken = |name: &'static str, value: &str| {
            let mut environment = well.clone();
            environment.insert(name, value.to_owned());
            environment
        };
        for (variable, check, remedy) in [
            ("AWS_SECRET_ACCESS_KEY", "credentials", "AWS_SECRET_ACCESS_KEY"),
            ("AWS_ACCESS_KEY_ID", "credentials", "AWS_ACCESS_KEY_ID"),
            ("AWS_S3_BUCKET", "bucket", "create it"),
        ] {
            let (report, code) = doctor(&stack, &broken(variable, "wrong-one"), &[]).await;
            assert_eq!(code, Some(1));
            is(&report, check, "failed", remedy);
            // One thing is broken, and one thing is said to be; the rest is as it was.
            assert_eq!(verdicts(&report, "failed"), [check], "{report:#}");
            assert_eq!(verdicts(&report, "skipped"), ["objects and rules"]);
        }
    }
    // SeaweedFS takes any region.
    let mut environment = local;
    environment.insert("AWS_REGION", "eu-central-1".to_owned());
    let (report, _) = doctor(&stack, &environment, &[]).await;
    is(&report, "region", "failed", "AWS_REGION");
    assert!(find(&report, "region")["found"].as_str().unwrap().contains("us-east-1"));
}

async fn a_storage_that_clients_do_not_reach_is_found(stack: Stack) {
    let mut environment = well(&stack);
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    environment.insert("S3_PUBLIC_ENDPOINT_URL", nowhere.clone());
    let (report, code) = doctor(&stack, &environment, &[]).await;
    assert_eq!(code, Some(1));
    is(&report, "public endpoint", "failed", "S3_PUBLIC_ENDPOINT_URL");
    assert_eq!(verdicts(&report, "failed"), ["public endpoint"]);
    environment.remove("S3_PUBLIC_ENDPOINT_URL");
    environment.insert("S3_ENDPOINT_URL", nowhere);
    let (report, _) = doctor(&stack, &environment, &["--s3-timeout", "1s"]).await;
    is(&report, "endpoint", "failed", "S3_ENDPOINT_URL");
}

/// A storage whose clock is an hour ahead, and which therefore takes no signature.
async fn an_hour_ahead() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 16 * 1024];
                while let Ok(1..) = stream.read(&mut request).await {
                    let date = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc2822();
                    let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference \
                                between the request time and the server's time is too large.\
                                </Message></Error>";
                    let answer = format!(
                        "HTTP/1.1 403 Forbidden\r\ndate: {}\r\ncontent-type: application/xml\r\n\
                         content-length: {}\r\n\r\n{body}",
                        date.replace("+0000", "GMT"),
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

async fn a_clock_that_is_off_is_found_by_the_storages_answers(stack: Stack) {
    let mut environment = well(&stack);
    environment.insert("S3_ENDPOINT_URL", format!("http://127.0.0.1:{}", an_hour_ahead().await));
    let (report, code) = doctor(&stack, &environment, &["--s3-timeout", "2s"]).await;
    assert_eq!(code, Some(1));
    is(&report, "clock", "failed", "NTP");
    let found = find(&report, "clock")["found"].as_str().unwrap();
    assert!(found.contains("behind the storage's") && found.starts_with("3"), "{found}");
    is(&report, "signatures", "failed", "NTP");
    assert_eq!(verdicts(&report, "failed"), ["clock", "signatures"]);
}

async fn a_database_that_is_gone_or_not_migrated_is_found(stack: Stack) {
    let mut environment = well(&stack);
    let url = stack.production(|production| production.database.url.clone());
    let admin = Database::connect(&url).await.unwrap();
    let name = format!("bare_{}", Uuid::new_v4().simple());
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut bare = url::Url::parse(&url).unwrap();
    bare.set_path(&name);
    environment.insert("DATABASE_URL", bare.to_string());
    let (report, code) = doctor(&stack, &environment, &[]).await;
    assert_eq!(code, Some(1));
    is(&report, "migrations", "failed", "upflow-migration up");
    assert_eq!(verdicts(&report, "failed"), ["migrations"]);
    // It has only looked.
    let looked = Database::connect(bare.as_str()).await.unwrap();
    assert!(looked.execute_unprepared("SELECT 1 FROM upflow_migrations").await.is_err());
    looked.close().await.unwrap();
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    let nowhere = format!("postgres://u:secret@127.0.0.1:{}/db", free_port());
    environment.insert("DATABASE_URL", nowhere);
    environment.insert("DATABASE_TIMEOUT", "1s".to_owned());
    let (report, _) = doctor(&stack, &environment, &[]).await;
    is(&report, "database", "failed", "DATABASE_URL");
    assert!(!report.to_string().contains("secret@"));
    assert_eq!(verdicts(&report, "failed"), ["database"]);
}

pub async fn redis(stack: &Stack, more: &[&str]) -> (Running, u16) {
    let port = free_port();
    let mut command = tokio::process::Command::new("redis-server");
    command
        .kill_on_drop(true)
        .current_dir(stack.dir())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(more);
    let mut redis = Running::start(&mut command);
    redis.says("Ready to accept connections").await;
    (redis, port)
}

async fn a_redis_that_forgets_or_evicts_is_found(stack: Stack) {
    let mut environment = well(&stack);
    let (_good, port) = redis(&stack, &["--appendonly", "yes", "--dir", "."]).await;
    environment.insert("REDIS_PORT", port.to_string());
    let (report, code) = doctor(&stack, &environment, &[]).await;
    assert_eq!(code, Some(0));
    is(&report, "redis persistence", "ok", "");
    is(&report, "redis eviction", "ok", "");
    let evicting = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let (_bad, port) = redis(&stack, &evicting).await;
    environment.insert("REDIS_PORT", port.to_string());
    let (report, code) = doctor(&stack, &environment, &[]).await;
    assert_eq!(code, Some(1));
    is(&report, "redis persistence", "warning", "appendonly yes");
    is(&report, "redis eviction", "failed", "noeviction");
    assert_eq!(verdicts(&report, "failed"), ["redis eviction"]);
    environment.insert("REDIS_PORT", free_port().to_string());
    let (report, _) = doctor(&stack, &environment, &[]).await;
    is(&report, "redis", "failed", "REDIS_PORT");
}

async fn a_lease_shorter_than_the_timeouts_allow_is_found(stack: Stack) {
    let mut environment = well(&stack);
    environment.insert("UPFLOW_LEASE", "20s".to_owned());
    let (report, code) = doctor(&stack, &environment, &[]).await;
    assert_eq!(code, Some(0), "it works, and could be better");
    is(&report, "lease", "warning", "UPFLOW_LEASE to 40s");
}

/// A bucket of the test's own on the server of `environment`, which then leads to it.
async fn own_bucket(environment: &mut Environment) -> Client {
    let keys = StaticCredentials {
        access_key: environment["AWS_ACCESS_KEY_ID"].clone(),
        secret_key: environment["AWS_SECRET_ACCESS_KEY"].clone(),
    };
    let endpoint = url::Url::parse(&environment["S3_ENDPOINT_URL"]).unwrap();
    let address = format!("127.0.0.1:{}", endpoint.port().unwrap()).parse().unwrap();
    let client = client(address, &keys, &environment["AWS_REGION"]);
    let bucket = format!("doctor-{}", Uuid::new_v4().simple());
    client.create_bucket().bucket(&bucket).send().await.unwrap();
    environment.insert("AWS_S3_BUCKET", bucket);
    client
}

async fn pages_that_may_not_send_are_found_and_fix_adds_a_rule_and_keeps_the_others(stack: Stack) {
    let (_s3, local) = local_s3(&stack).await;
    for mut environment in [local, well(&stack)] {
        let client = own_bucket(&mut environment).await;
        let bucket = environment["AWS_S3_BUCKET"].clone();
        let rule = CorsRule::builder().allowed_origins("https://other.example");
        let rule = rule.allowed_methods("PUT").allowed_headers("*").build().unwrap();
        let cors = CorsConfiguration::builder().cors_rules(rule).build().unwrap();
        let put = client.put_bucket_cors().bucket(&bucket).cors_configuration(cors);
        put.send().await.unwrap();
        let page = ["--origin", "https://app.example"];
        let (report, code) = doctor(&stack, &environment, &page).await;
        assert_eq!(code, Some(1), "{report:#}");
        is(&report, "cors", "failed", "--fix");
        assert_eq!(verdicts(&report, "failed"), ["cors"]);
        let mut command = with("upflow", &stack, &environment);
        let ended = run(command.arg("doctor").args(page).arg("--fix")).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // Shown before it is done.
        let shown = ended.out.find("CORS rule that will be added").expect("it is shown");
        assert!(shown < ended.out.find("ok       cors").unwrap(), "{}", ended.out);
        for page in ["https://app.example", "https://other.example"] {
            let (report, _) = doctor(&stack, &environment, &["--origin", page]).await;
            is(&report, "cors", "ok", "");
        }
        // The local store knows no such call, and goes with its folder.
        let _ = client.delete_bucket().bucket(&bucket).send().await;
    }
}

async fn fix_adds_the_lifecycle_rules_and_the_next_look_finds_them(stack: Stack) {
    let mut environment = well(&stack);
    environment.insert("S3_CHUNK_TAG", "upflow=chunk".to_owned());
    let client = own_bucket(&mut environment).await;
    let (report, code) = doctor(&stack, &environment, &[]).await;
    assert_eq!(code, Some(0));
    is(&report, "lifecycle", "warning", "--fix");
    let mut command = with("upflow", &stack, &environment);
    let ended = run(command.args(["doctor", "--fix"])).await;
    assert!(ended.out.contains("  abort multipart uploads under "), "{}", ended.out);
    assert!(ended.out.contains("  delete objects tagged upflow=chunk"), "{}", ended.out);
    let (report, _) = doctor(&stack, &environment, &[]).await;
    is(&report, "lifecycle", "ok", "");
    let found = find(&report, "lifecycle")["found"].as_str().unwrap();
    // Two weeks: longer than an upload lives.
    assert!(found.contains("after 14 days, chunks deleted after 14"), "{found}");
    let bucket = &environment["AWS_S3_BUCKET"];
    client.delete_bucket().bucket(bucket).send().await.unwrap();
}
