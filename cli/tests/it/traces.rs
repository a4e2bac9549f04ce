//! Traces and log lines of the real programs: one trace for each upload, and each event once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::{MIB, crc64, noise, sent};
use crate::collector::{Collector, Span};
use crate::harness::{Stack, Suite, eventually};
use crate::processes::{Caller, environment, with};
use crate::programs::{Running, free_port, serves};
use crate::suite;

pub const SUITE: Suite = suite! { "traces":
    an_upload_is_one_trace_from_init_to_completed_across_api_queue_and_worker,
    the_trace_of_an_upload_is_that_of_the_client_that_begins_it,
    a_collector_that_refuses_is_told_once_and_holds_up_nothing,
    each_event_is_one_log_line_with_the_upload_and_the_request,
};

struct Programs {
    port: u16,
    api: Running,
    worker: Running,
}

async fn start(stack: &Stack, more: &[(&'static str, String)]) -> Programs {
    stack.stop_workers().await;
    let port = free_port();
    let mut environment: BTreeMap<_, _> = environment(stack);
    environment.insert("UPFLOW_METRICS_ADDR", "off".to_owned());
    environment.extend(more.iter().cloned());
    let mut command = with("upflow-api", stack, &environment);
    let api = Running::start(command.args(["--port", &port.to_string()]));
    let mut worker = Running::start(&mut with("upflow-worker", stack, &environment));
    worker.says("the worker runs").await;
    serves(stack.http(), port).await;
    Programs { port, api, worker }
}

/// Uploads six MiB in two chunks, with `traceparent` for each call where it is given.
async fn upload(stack: &Stack, port: u16, traceparent: impl Fn(usize) -> Option<String>) -> String {
    let api = format!("http://127.0.0.1:{port}");
    let mut calls = 0;
    let mut call = |method: &str, path: String, body: Option<Value>| {
        calls += 1;
        let mut request = stack.http().request(method.parse().unwrap(), format!("{api}{path}"));
        if let Some(traceparent) = traceparent(calls) {
            request = request.header("traceparent", traceparent);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        async move {
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
            answer.json::<Value>().await.unwrap()
        }
    };
    let bytes = noise(6 * MIB);
    let cut = [bytes.slice(..5 * MIB), bytes.slice(5 * MIB..)];
    let chunks: Vec<Value> = (0..2)
        .map(|index| json!({ "chunk_index": index, "checksum": crc64(&cut[index]) }))
        .collect();
    let init = json!({ "filename": "a", "file_size": 6 * MIB, "chunk_size": 5 * MIB,
        "chunks": chunks });
    let begun = call("POST", "/uploads/init".to_owned(), Some(init)).await;
    let id = begun["upload_id"].as_str().unwrap().to_owned();
    for index in [0, 1] {
        let presigned = &begun["presigned"][index];
        assert_eq!(sent(stack.http(), presigned, cut[index].clone()).await, 200);
    }
    let confirm = format!("/uploads/{id}/chunks/confirm");
    call("POST", confirm, Some(json!({ "chunks": [0, 1] }))).await;
    call("POST", format!("/uploads/{id}/complete"), None).await;
    let done = call("GET", format!("/uploads/{id}?wait_for=completed"), None).await;
    assert_eq!(done["status"], "completed");
    id
}

/// The spans of the upload once the worker has told how it assembled it, and the API how it was asked to.
async fn spans_of(collector: &Collector, id: &str) -> Vec<Span> {
    eventually("both programs have sent their spans", || async {
        let spans = collector.spans();
        let has = |program: &str, name: &str| {
            let of_this = |span: &&Span| span.program == program && span.name == name;
            spans.iter().filter(of_this).any(|span| span.attribute("upload.id") == Some(id))
        };
        let all = has("upflow-worker", "assemble")
            && has("upflow-worker", "clean up")
            && has("upflow-api", "GET /uploads/{upload_id}");
        let wait_for_it = all || has("upflow-worker", "copy ahead");
        (wait_for_it && has("upflow-api", "GET /uploads/{upload_id}")).then_some(spans)
    })
    .await
}

fn find<'a>(spans: &'a [Span], program: &str, name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.program == program && span.name == name);
    found.next().unwrap_or_else(|| panic!("no span {name} of {program}: {spans:#?}"))
}

async fn an_upload_is_one_trace_from_init_to_completed_across_api_queue_and_worker(stack: Stack) {
    let collector = Collector::start().await;
    let more = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
        ("UPFLOW_ASSEMBLY", "on_complete".to_owned()),
    ];
    let programs = start(&stack, &more).await;
    let id = upload(&stack, programs.port, |_| None).await;
    let second = upload(&stack, programs.port, |_| None).await;
    // What is not sent yet is sent at the end.
    for program in [programs.api, programs.worker] {
        program.signal("TERM").await;
        assert_eq!(program.ended().await.0, Some(0));
    }
    let spans = collector.spans();
    let of = |id: &str| {
        let ours = |span: &&Span| span.attribute("upload.id") == Some(id);
        spans.iter().filter(ours).cloned().collect::<Vec<Span>>()
    };
    let (first, other) = (of(&id), of(&second));
    let init = find(&first, "upflow-api", "POST /uploads/init");
    assert_eq!(init.parent_id, "", "it is where the trace begins");
    assert!(init.attribute("request.id").is_some());
    assert_ne!(init.trace_id, other[0].trace_id);
    for (program, name) in [
        ("upflow-api", "POST /uploads/{upload_id}/chunks/confirm"),
        ("upflow-api", "POST /uploads/{upload_id}/complete"),
        ("upflow-api", "GET /uploads/{upload_id}"),
        ("upflow-worker", "assemble"),
    ] {
        let span = find(&first, program, name);
        assert_eq!(span.trace_id, init.trace_id, "{name}");
        assert_eq!(span.parent_id, init.span_id, "{name}");
    }
    let assemble = find(&first, "upflow-worker", "assemble");
    let queued = assemble.attribute("queued_ms").expect("how long it was queued");
    assert!(queued.parse::<u64>().is_ok(), "{queued}");
    // The calls to S3 are seen within it, each as long as it took.
    let copies: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_id == assemble.span_id && span.name == "S3 UploadPartCopy")
        .collect();
    assert_eq!(copies.len(), 2, "{spans:#?}");
    for copy in copies {
        assert_eq!(copy.trace_id, init.trace_id);
        assert_eq!(copy.attribute("outcome"), Some("ok"));
        assert!((1..=assemble.nanos).contains(&copy.nanos), "{} ns", copy.nanos);
    }
    let heads = spans.iter().filter(|span| span.name == "S3 HeadObject");
    assert!(heads.filter(|span| span.program == "upflow-api").count() >= 2);
    // Nothing is a trace that is no upload's, and nothing secret is in one.
    for span in &spans {
        let traces = [&init.trace_id, &other[0].trace_id];
        assert!(traces.contains(&&span.trace_id), "{span:#?}");
        let told = span.all_attributes();
        assert!(!told.contains("X-Amz") && !told.contains("Bearer"), "{told}");
    }
}

async fn the_trace_of_an_upload_is_that_of_the_client_that_begins_it(stack: Stack) {
    let collector = Collector::start().await;
    let more = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone())];
    let programs = start(&stack, &more).await;
    // A trace of its own for init, the same for confirm, and another for the rest.
    let (trace, other) = ("4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c");
    let traceparent = |call| match call {
        1 => Some(format!("00-{trace}-00f067aa0ba902b7-01")),
        2 => Some(format!("00-{trace}-b7ad6b7169203331-01")),
        3 => Some(format!("00-{other}-b9c7c989f97918e1-01")),
        _ => Some("no traceparent".to_owned()),
    };
    let id = upload(&stack, programs.port, traceparent).await;
    let spans = spans_of(&collector, &id).await;
    let init = find(&spans, "upflow-api", "POST /uploads/init");
    assert_eq!((init.trace_id.as_str(), init.parent_id.as_str()), (trace, "00f067aa0ba902b7"));
    let confirm = find(&spans, "upflow-api", "POST /uploads/{upload_id}/chunks/confirm");
    assert_eq!(confirm.trace_id, trace);
    assert_eq!(confirm.parent_id, "b7ad6b7169203331");
    let complete = find(&spans, "upflow-api", "POST /uploads/{upload_id}/complete");
    assert_eq!(complete.trace_id, trace);
    assert_eq!((&complete.parent_id, &complete.links), (&init.span_id, &vec![other.to_owned()]));
    let last = find(&spans, "upflow-api", "GET /uploads/{upload_id}");
    assert_eq!((last.trace_id.as_str(), last.links.len()), (trace, 0));
}

async fn a_collector_that_refuses_is_told_once_and_holds_up_nothing(stack: Stack) {
    let collector = Collector::start().await;
    collector.refuse();
    let more = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
        // So that it is tried again and again.
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ];
    let mut programs = start(&stack, &more).await;
    for _ in 0..3 {
        upload(&stack, programs.port, |_| None).await;
    }
    programs.api.says("the collector takes no traces").await;
    programs.api.signal("TERM").await;
    let (code, said) = programs.api.ended().await;
    assert_eq!(code, Some(0));
    assert_eq!(said.matches("the collector takes no traces").count(), 1, "{said}");
    assert_eq!(collector.spans().len(), 0);
}

async fn each_event_is_one_log_line_with_the_upload_and_the_request(stack: Stack) {
    let programs = start(&stack, &[]).await;
    let id = upload(&stack, programs.port, |_| None).await;
    let client = Caller(&stack, programs.port);
    let other = json!({ "filename": "b", "file_size": 1 });
    let other = client.call("POST", "/uploads/init", Some(other)).await;
    let other = other["upload_id"].as_str().unwrap().to_owned();
    client.call("DELETE", &format!("/uploads/{other}"), None).await;
    let mut said = Vec::new();
    for program in [programs.api, programs.worker] {
        program.signal("TERM").await;
        said.push(program.ended().await.1);
    }
    let lines: Vec<Value> = said
        .iter()
        .flat_map(|said| said.lines())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let of = |id: &str, message: &str| {
        let fits = |line: &&Value| line["message"] == message && line["upload.id"] == id;
        lines.iter().filter(fits).cloned().collect::<Vec<Value>>()
    };
    for (id, message, by_request) in [
        (&id, "begun", true),
        (&id, "to be assembled", true),
        (&id, "completed", false),
        (&other, "begun", true),
        (&other, "aborted", true),
    ] {
        let found = of(id, message);
        assert_eq!(found.len(), 1, "{message}: {lines:#?}");
        let request = found[0]["span"]["request.id"].as_str();
        assert_eq!(request.is_some(), by_request, "{message}: {:#}", found[0]);
    }
}
