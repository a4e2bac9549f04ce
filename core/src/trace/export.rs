//! Sends spans to a collector: OTLP over HTTP, in protobuf. HTTP because reqwest is here already; gRPC would
//! bring a second HTTP stack along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample,
};
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;
use url::Url;

/// One batch of spans; they are bounded in number, and the oldest go where the collector is slow.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is to be ended with the program, so that the last spans are not lost.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Sends what is left. Blocks for 5 seconds at most.
    pub fn end(&self) {
        // Whether the last batch arrived is in the log already.
        let _ = self.0.shutdown_with_timeout(TIMEOUT);
    }
}

/// Begins to send spans to `collector`, the address before `/v1/traces`, as `program` of the deployment `app`.
/// To be called within the runtime that then sends them.
pub fn start(
    collector: &Url,
    program: &'static str,
    app: &str,
) -> Result<Exporter, Box<dyn std::error::Error + Send + Sync>> {
    // An error means that another thread was faster, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let runtime = tokio::runtime::Handle::try_current()?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", collector.as_str().trim_end_matches('/')))
        .with_timeout(TIMEOUT)
        .with_http_client(Http { client, runtime, broken: Arc::default() })
        .build()?;
    let resource = Resource::builder()
        .with_service_name(program)
        .with_attribute(KeyValue::new("service.namespace", app.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(NoStrays)))
        .with_resource(resource)
        .build();
    Ok(Exporter(provider))
}

/// What turns spans with the target of traces into those of the exporter.
pub fn layer<S>(exporter: &Exporter) -> impl Layer<S> + Send + Sync + use<S>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let tracer = exporter.0.tracer("upflow");
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
}

/// A trace begins with a request or a job. A call to S3 that belongs to none, of the janitor or a look at the
/// health, is no trace of its own.
#[derive(Debug, Clone)]
struct NoStrays;

impl ShouldSample for NoStrays {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        _: &str,
        kind: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        SamplingResult {
            decision: match kind {
                SpanKind::Client => SamplingDecision::Drop,
                _ => SamplingDecision::RecordAndSample,
            },
            attributes: Vec::new(),
            trace_state: parent
                .map(|parent| parent.span().span_context().trace_state().clone())
                .unwrap_or_default(),
        }
    }
}

/// The exporter calls from a thread of its own; the request is made in the program's runtime.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
    /// The last batch was not taken: told once, not for each.
    broken: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        let told = |error: &dyn std::fmt::Display| {
            if !self.broken.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "the collector takes no traces; they are lost until it does");
            }
        };
        match sent.await? {
            Ok((status, body)) => {
                if !status.is_success() {
                    told(&status);
                } else if self.broken.swap(false, Ordering::Relaxed) {
                    tracing::info!("the collector takes traces again");
                }
                let mut response = Response::new(body);
                *response.status_mut() = status;
                Ok(response)
            }
            Err(error) => {
                told(&error);
                Err(error.into())
            }
        }
    }
}
