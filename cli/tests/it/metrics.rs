//! `/metrics`: what Prometheus is told, by real servers, before an upload and after it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::client::{MIB, crc64, noise};
use crate::harness::{Options, Stack, Suite, eventually};
use crate::openmetrics::Page;
use crate::processes::{Caller, environment, with};
use crate::programs::{Running, free_port, program, run, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "metrics":
    an_upload_moves_every_metric,
    what_clients_ask_for_makes_no_new_labels,
    the_listener_of_metrics_shows_nothing_else,
};

/// The real programs.
pub const PROGRAMS: Suite = suite! { "metrics":
    api_and_worker_show_their_own_part_on_listeners_of_their_own,
    metrics_of_a_database_and_a_queue_that_are_gone_are_absent_and_the_others_stay,
};

pub const BARE: Suite = suite! { "metrics":
    the_bare_command_shows_all_on_one_listener,
};

async fn scrape(stack: &Stack, address: SocketAddr) -> Page {
    let answer = stack.http().get(format!("http://{address}/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.text().await.unwrap();
    Page::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

/// The metrics of the API and the workers of `stack`, which are in one process.
fn listen(stack: &Stack) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = stack.serving().clone();
    tokio::spawn(upflow_core::metrics::serve(serving, listener, CancellationToken::new()));
    address
}

async fn an_upload_moves_every_metric(stack: Stack) {
    let address = listen(&stack);
    let before = scrape(&stack, address).await;
    assert_eq!(before.sum("upflow_confirmed_bytes_total", &[]), 0.0);
    assert_eq!(before.sum("upflow_uploads", &[]), 0.0);
    assert!(before.has("upflow_uploads", &[("status", "completed")]));

    let bytes = noise(11 * MIB);
    let upload = stack.plan("a", &bytes, 5 * MIB).await;
    upload.send_all(&bytes).await;
    // Bytes count once.
    upload.confirm(0).await.expect(200);
    upload.complete_and_wait().await;
    let page = eventually("the upload is cleaned up", || async {
        let page = scrape(&stack, address).await;
        let cleaned = page.sum("upflow_janitor_actions_total", &[("action", "cleaned_up")]);
        let counted = page.sum("upflow_uploads", &[("status", "completed")]) == 1.0;
        (cleaned >= 1.0 && counted).then_some(page)
    })
    .await;
    assert_eq!(page.sum("upflow_confirmed_bytes_total", &[]), (11 * MIB) as f64);
    assert_eq!(page.sum("upflow_uploads", &[]), 1.0);
    let requests =
        |labels: &[(&str, &str)]| page.sum("upflow_http_request_duration_seconds_count", labels);
    let complete = "/uploads/{upload_id}/complete";
    assert_eq!(requests(&[("method", "POST"), ("route", "/uploads/init"), ("status", "201")]), 1.0);
    assert_eq!(requests(&[("route", complete), ("status", "202")]), 1.0);
    // A long poll is not among the answers that come at once.
    assert!(requests(&[("route", "/uploads/{upload_id}?wait_for"), ("status", "200")]) >= 1.0);
    let calls = |labels: &[(&str, &str)]| page.sum("upflow_s3_call_duration_seconds_count", labels);
    for operation in ["HeadObject", "UploadPartCopy", "CompleteMultipartUpload", "DeleteObjects"] {
        assert!(calls(&[("operation", operation), ("outcome", "ok")]) >= 1.0, "{operation}");
    }
    assert_eq!(calls(&[("operation", "UploadPartCopy"), ("outcome", "ok")]), 3.0);
    assert!(page.sum("upflow_s3_call_duration_seconds_sum", &[]) > 0.0);
    let done = [("outcome", "completed")];
    assert_eq!(page.sum("upflow_assembly_duration_seconds_count", &done), 1.0);
    assert!(page.sum("upflow_assembly_duration_seconds_sum", &done) > 0.0);
    let open = page.sum("upflow_database_connections", &[]);
    assert!((1.0..=page.sum("upflow_database_connections_most", &[])).contains(&open), "{open}");
    for part in ["database", "queue"] {
        assert_eq!(page.sum("upflow_reachable", &[("part", part)]), 1.0);
    }

    // What nobody takes grows older.
    stack.stop_workers().await;
    let small = noise(5);
    let waiting = stack.plan("b", &small, 64 * 1024).await;
    waiting.send_all(&small).await;
    waiting.complete().await.expect(202);
    eventually("a job waits", || async {
        let page = scrape(&stack, address).await;
        let pending = page.sum("upflow_uploads", &[("status", "pending_assembly")]);
        (page.sum("upflow_queue_jobs", &[]) >= 1.0
            && page.sum("upflow_queue_oldest_job_age_seconds", &[]) > 0.0
            && pending == 1.0)
            .then_some(())
    })
    .await;
    stack.start_worker();
    waiting.wait_for("completed").await;
    eventually("the queue is empty", || async {
        let page = scrape(&stack, address).await;
        let empty = page.sum("upflow_queue_jobs", &[]) == 0.0;
        assert!(!empty || page.sum("upflow_queue_oldest_job_age_seconds", &[]) == 0.0);
        empty.then_some(())
    })
    .await;
}

async fn what_clients_ask_for_makes_no_new_labels(stack: Stack) {
    let address = listen(&stack);
    for i in 0..20 {
        stack.get(&format!("/uploads/{}", uuid::Uuid::new_v4())).await;
        stack.get(&format!("/nothing/{i}")).await;
        stack.call(format!("M{i}").parse().unwrap(), &format!("/uploads/{i}")).await;
    }
    let page = scrape(&stack, address).await;
    let mut routes = page.values("route");
    routes.sort_unstable();
    routes.dedup();
    assert_eq!(routes, ["/uploads/{upload_id}", "none"]);
    let missing = [("route", "/uploads/{upload_id}"), ("status", "404")];
    assert_eq!(page.sum("upflow_http_request_duration_seconds_count", &missing), 20.0);
    let mut methods = page.values("method");
    methods.sort_unstable();
    methods.dedup();
    assert_eq!(methods, ["GET", "other"]);
}

async fn the_listener_of_metrics_shows_nothing_else(stack: Stack) {
    let address = listen(&stack);
    for path in ["/", "/uploads", "/stats", "/health/live", "/metrics/"] {
        let answer = stack.http().get(format!("http://{address}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    let posted = stack.http().post(format!("http://{address}/metrics")).send().await.unwrap();
    assert_eq!(posted.status(), 404);
    // Nor is it where clients are.
    assert_eq!(stack.get("/metrics").await.status, 404);
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn api_and_worker_show_their_own_part_on_listeners_of_their_own(stack: Stack) {
    stack.stop_workers().await;
    let [port, of_api, of_worker] = [free_port(), free_port(), free_port()];
    let mut environment = environment(&stack);
    environment.insert("UPFLOW_METRICS_ADDR", format!("localhost:{of_api}"));
    let mut command = with("upflow-api", &stack, &environment);
    let mut api = Running::start(command.args(["--port", &port.to_string()]));
    environment.insert("UPFLOW_METRICS_ADDR", at(of_worker).to_string());
    let mut worker = Running::start(&mut with("upflow-worker", &stack, &environment));
    api.says("metrics are at /metrics").await;
    worker.says("the worker runs").await;
    serves(stack.http(), port).await;
    // An address that was asked for and is taken is an error.
    let ended = run(&mut with("upflow-worker", &stack, &environment)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("UPFLOW_METRICS_ADDR"), "{}", ended.err);

    let client = Caller(&stack, port);
    let bytes = noise(5);
    let wanted = json!({ "filename": "a", "file_size": 5,
        "chunks": [{ "chunk_index": 0, "checksum": crc64(&bytes) }] });
    let upload = client.call("POST", "/uploads/init", Some(wanted)).await;
    let path = format!("/uploads/{}", upload["upload_id"].as_str().unwrap());
    crate::client::sent(stack.http(), &upload["presigned"][0], bytes).await;
    client.call("POST", &format!("{path}/complete"), None).await;
    client.call("GET", &format!("{path}?wait_for=completed"), None).await;
    let page = scrape(&stack, at(of_api)).await;
    assert_eq!(page.sum("upflow_confirmed_bytes_total", &[]), 5.0);
    assert!(page.has("upflow_http_request_duration_seconds_count", &[("status", "202")]));
    assert!(!page.has("upflow_assembly_duration_seconds_count", &[]));
    let page = scrape(&stack, at(of_worker)).await;
    assert_eq!(page.sum("upflow_assembly_duration_seconds_count", &[]), 1.0);
    assert!(!page.has("upflow_http_request_duration_seconds_count", &[]));
    let put = [("operation", "UploadPart"), ("outcome", "ok")];
    assert!(page.sum("upflow_s3_call_duration_seconds_count", &put) >= 1.0);
}

async fn metrics_of_a_database_and_a_queue_that_are_gone_are_absent_and_the_others_stay(
    stack: Stack,
) {
    let stack = stack.sibling(Options { gated: true, ..Options::default() }).await;
    let gates = stack.production(|production| production.gates.clone()).unwrap();
    let address = listen(&stack);
    assert!(scrape(&stack, address).await.has("upflow_uploads", &[]));
    stack.get("/uploads").await.expect(200);
    gates.database.shut();
    gates.redis.shut();
    eventually("they are known to be gone", || async {
        let page = scrape(&stack, address).await;
        let gone = page.sum("upflow_reachable", &[]) == 0.0;
        assert!(!gone || !page.has("upflow_uploads", &[]));
        gone.then_some(())
    })
    .await;
    let page = scrape(&stack, address).await;
    assert!(page.has("upflow_http_request_duration_seconds_count", &[("route", "/uploads")]));
    gates.database.open();
    gates.redis.open();
    eventually("they are back", || async {
        let page = scrape(&stack, address).await;
        (page.sum("upflow_reachable", &[]) == 2.0).then_some(())
    })
    .await;
}

async fn the_bare_command_shows_all_on_one_listener(stack: Stack) {
    let [port, s3, metrics] = [free_port(), free_port(), free_port()];
    let mut command = program("upflow");
    command.current_dir(stack.dir()).env("UPFLOW_METRICS_ADDR", at(metrics).to_string());
    command.args(["--data-dir", "metrics", "--port", &port.to_string()]);
    let _bare = Running::start(command.args(["--s3-port", &s3.to_string()]));
    serves(stack.http(), port).await;
    let client = Caller(&stack, port);
    let empty = json!({ "filename": "a", "file_size": 0 });
    let upload = client.call("POST", "/uploads/init", Some(empty)).await;
    let path = format!("/uploads/{}", upload["upload_id"].as_str().unwrap());
    client.call("POST", &format!("{path}/complete"), None).await;
    client.call("GET", &format!("{path}?wait_for=completed"), None).await;
    let page = scrape(&stack, at(metrics)).await;
    assert_eq!(page.sum("upflow_assembly_duration_seconds_count", &[]), 1.0);
    assert!(page.has("upflow_http_request_duration_seconds_count", &[("status", "202")]));
    assert!(page.has("upflow_s3_call_duration_seconds_count", &[("operation", "PutObject")]));
}
