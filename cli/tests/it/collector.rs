//! A collector of traces: takes OTLP over HTTP as a real one does, decodes it and keeps the spans.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;
use tokio::net::TcpListener;

/// A span as it arrived.
#[derive(Debug, Clone)]
pub struct Span {
    /// `service.name` of the program that sent it.
    pub program: String,
    pub name: String,
    /// In hexadecimal, as W3C has it.
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: String,
    pub links: Vec<String>,
    attributes: Vec<(String, String)>,
    pub nanos: u64,
}

impl Span {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn all_attributes(&self) -> String {
        format!("{:?}", self.attributes)
    }
}

#[derive(Clone, Default)]
struct Inbox {
    spans: Arc<Mutex<Vec<Span>>>,
    refuses: Arc<AtomicBool>,
}

pub struct Collector {
    pub url: String,
    inbox: Inbox,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inbox = Inbox::default();
        let taken = inbox.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inbox = taken.clone();
                let service = service_fn(move |request| take(inbox.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, inbox }
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.inbox.spans.lock().unwrap().clone()
    }

    /// Answers everything with a 503 from now on.
    pub fn refuse(&self) {
        self.inbox.refuses.store(true, Ordering::Relaxed);
    }
}

async fn take(
    inbox: Inbox,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    if inbox.refuses.load(Ordering::Relaxed) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    }
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let sent = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = inbox.spans.lock().unwrap();
    for resource in sent.resource_spans {
        let of_program = texts(resource.resource.unwrap().attributes);
        let named = of_program.into_iter().find(|(name, _)| name == "service.name");
        let program = named.expect("a program has a name").1;
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                program: program.clone(),
                name: span.name,
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent_id: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                attributes: texts(span.attributes),
                nanos: span.end_time_unix_nano - span.start_time_unix_nano,
            });
        }
    }
    Ok(response)
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
