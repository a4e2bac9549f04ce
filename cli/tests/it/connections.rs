//! The ways to the servers that production has besides the plain one: credentials from the default chain,
//! a Redis with password and TLS, an S3 that clients reach by another address, buckets as host names.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use upflow_core::db::now;
use upflow_core::metrics::Metrics;
use upflow_core::storage::{ObjectKey, Storage};
use uuid::Uuid;

use crate::client::{noise, sent};
use crate::harness::{Stack, Suite};
use crate::processes::{environment, with};
use crate::programs::{Running, free_port, run, serves};
use crate::proxy::{Operation, Proxy};
use crate::suite;

pub const SUITE: Suite = suite! { "connections":
    credentials_come_from_the_default_chain,
    a_redis_with_a_password_and_tls_is_reached,
    clients_may_reach_s3_by_another_address_than_the_programs,
    a_bucket_may_be_a_host_name,
};

/// An upload of one chunk through the API at `port`, as far as its confirmation.
async fn uploaded(stack: &Stack, port: u16) -> (String, String) {
    let api = format!("http://127.0.0.1:{port}");
    let post = |path: String, body: Value| {
        let request = stack.http().post(format!("{api}{path}")).json(&body);
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let body = json!({ "filename": "a", "file_size": 5, "chunks": [{ "chunk_index": 0 }] });
    let upload = post("/uploads/init".to_owned(), body).await;
    let presigned = &upload["presigned"][0];
    assert_eq!(sent(stack.http(), presigned, noise(5)).await, 200);
    let id = upload["upload_id"].as_str().unwrap().to_owned();
    let path = format!("/uploads/{id}/chunks/confirm");
    let confirmed = post(path, json!({ "chunks": [0] })).await;
    assert_eq!(confirmed["confirmed"], json!([0]), "{confirmed:#}");
    (id, presigned["url"].as_str().unwrap().to_owned())
}

async fn credentials_come_from_the_default_chain(stack: Stack) {
    let mut environment = environment(&stack);
    let (id, secret) = (
        environment.remove("AWS_ACCESS_KEY_ID").unwrap(),
        environment.remove("AWS_SECRET_ACCESS_KEY").unwrap(),
    );
    let file = stack.dir().join("credentials");
    let text = |secret: &str| {
        format!("[uploads]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
    };
    std::fs::write(&file, text(&secret)).unwrap();
    environment.insert("AWS_SHARED_CREDENTIALS_FILE", file.display().to_string());
    environment.insert("AWS_PROFILE", "uploads".to_owned());
    // No machine of a cloud is asked, which would take its time.
    environment.insert("AWS_EC2_METADATA_DISABLED", "true".to_owned());
    let port = free_port();
    let mut command = with("upflow-api", &stack, &environment);
    let _api = Running::start(command.args(["--port", &port.to_string()]));
    serves(stack.http(), port).await;
    let (_, url) = uploaded(&stack, port).await;
    assert!(url.contains(&format!("X-Amz-Credential={id}%2F")), "signed by the profile");
    // It is that file which counts.
    std::fs::write(&file, text("wrong")).unwrap();
    let ended = run(&mut with("upflow-worker", &stack, &environment)).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("AWS_S3_BUCKET"), "{}", ended.err);
}

async fn a_redis_with_a_password_and_tls_is_reached(stack: Stack) {
    let port = free_port();
    let name = vec!["127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(name).unwrap();
    let (certificate, key) = (stack.dir().join("redis.pem"), stack.dir().join("redis.key"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let mut command = tokio::process::Command::new("redis-server");
    command
        .kill_on_drop(true)
        .args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--requirepass", "se:cret", "--save", "", "--tls-auth-clients", "no"])
        .arg("--tls-cert-file")
        .arg(&certificate)
        .arg("--tls-key-file")
        .arg(&key)
        .arg("--tls-ca-cert-file")
        .arg(&certificate);
    let mut redis = Running::start(&mut command);
    redis.says("Ready to accept connections").await;

    let mut environment = environment(&stack);
    environment.insert("SSL_CERT_FILE", certificate.display().to_string());
    // The janitor does not come in time: what is assembled was announced.
    environment.insert("UPFLOW_LEASE", "10m".to_owned());
    let redis_url = |password: &str| format!("rediss://:{password}@127.0.0.1:{port}");
    for wrong in [redis_url("wrong"), format!("redis://:se%3Acret@127.0.0.1:{port}")] {
        environment.insert("REDIS_URL", wrong);
        let ended = run(&mut with("upflow-worker", &stack, &environment)).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("REDIS_URL") && !ended.err.contains("cret"), "{}", ended.err);
    }
    environment.insert("REDIS_URL", redis_url("se%3Acret"));
    let mut worker = Running::start(&mut with("upflow-worker", &stack, &environment));
    worker.says("the worker runs").await;
    let api_port = free_port();
    let mut command = with("upflow-api", &stack, &environment);
    let _api = Running::start(command.args(["--port", &api_port.to_string()]));
    serves(stack.http(), api_port).await;
    // The stack's own worker listens to another Redis.
    stack.stop_workers().await;
    let (id, _) = uploaded(&stack, api_port).await;
    let url = format!("http://127.0.0.1:{api_port}/uploads/{id}");
    let complete = stack.http().post(format!("{url}/complete")).send().await.unwrap();
    assert_eq!(complete.status(), 202);
    let done = stack.http().get(format!("{url}?wait_for=completed")).send().await.unwrap();
    assert_eq!(done.json::<Value>().await.unwrap()["status"], "completed");
}

async fn clients_may_reach_s3_by_another_address_than_the_programs(stack: Stack) {
    let endpoint = stack.production(|production| production.storage.endpoint.clone()).unwrap();
    let outside = Proxy::before(&endpoint).await;
    let public = format!("http://localhost:{}", outside.url().port().unwrap());
    let mut environment = environment(&stack);
    environment.insert("S3_PUBLIC_ENDPOINT_URL", public.clone());
    let port = free_port();
    let mut command = with("upflow-api", &stack, &environment);
    let _api = Running::start(command.args(["--port", &port.to_string()]));
    serves(stack.http(), port).await;
    let (_, url) = uploaded(&stack, port).await;
    assert!(url.starts_with(&public), "{url}");
    // What a client says of hosts changes nothing.
    let request = stack
        .http()
        .post(format!("http://127.0.0.1:{port}/uploads/init"))
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https")
        .json(&json!({ "filename": "a", "file_size": 5, "chunks": [{ "chunk_index": 0 }] }));
    let upload: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(upload["presigned"][0]["url"].as_str().unwrap().starts_with(&public));
    // The chunk came that way, and nothing else did.
    let calls = outside.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(outside.count(Operation::PutObject), 1);
}

async fn a_bucket_may_be_a_host_name(stack: Stack) {
    let mut settings = stack.production(|production| production.storage.clone());
    let mut endpoint = settings.endpoint.clone().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], endpoint.port().unwrap()));
    endpoint.set_host(Some("s3.test")).unwrap();
    settings.public_endpoint = Some(endpoint);
    settings.path_style = false;
    let storage = Storage::connect(&settings, &Metrics::default()).await;
    let key = ObjectKey::Chunk { upload_id: Uuid::new_v4(), index: 0 };
    let signer = storage.signer(now()).await.unwrap();
    let minute = Duration::from_secs(60);
    let end = chrono::DateTime::<chrono::Utc>::MAX_UTC;
    let put = signer.put_chunk(&key, 5, None, minute, end).unwrap();
    let host = format!("{}.s3.test", settings.bucket);
    assert!(put.url.starts_with(&format!("http://{host}:{}/", address.port())), "{}", put.url);
    let http = reqwest::Client::builder().no_proxy().resolve(&host, address).build().unwrap();
    let answer = http.put(put.url).body(noise(5)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(stack.ctx().storage.head(&key).await.unwrap().unwrap().size, 5);
}
