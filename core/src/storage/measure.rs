//! Measures every try of every call to S3, wherever it is made, and shows it in traces: the SDK runs this
//! around each, and `direct` notes its own.

use std::sync::Arc;
use std::time::Instant;

use aws_sdk_s3::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tracing::Span;
use tracing::field::Empty;

use super::direct::Direct;
use super::error::{ErrorKind, kind};
use crate::config::StorageSettings;
use crate::metrics::Metrics;
use crate::trace::TARGET;

pub(super) struct Measure {
    pub metrics: Metrics,
    pub settings: Arc<StorageSettings>,
    /// Learns from the calls of the SDK.
    pub direct: Arc<Direct>,
}

impl std::fmt::Debug for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measure")
    }
}

/// When the try under way began, of which call, and the span of it in a trace.
#[derive(Debug)]
pub(super) struct Began {
    at: Instant,
    call: String,
    span: Span,
}

impl Storable for Began {
    type Storer = StoreReplace<Self>;
}

impl Began {
    /// `call` is the SDK's name of it.
    pub fn new(call: &str) -> Self {
        let span = tracing::info_span!(
            target: TARGET,
            "s3",
            otel.name = format!("S3 {call}"),
            otel.kind = "client",
            rpc.system = "aws-api",
            rpc.method = call,
            outcome = Empty,
        );
        // What there is to see has begun by the time that the span is entered.
        span.in_scope(|| {});
        Self { at: Instant::now(), call: call.to_owned(), span }
    }

    /// `good`: it is done; otherwise the status says why not, where there was an answer.
    pub fn end(&self, metrics: &Metrics, good: bool, status: Option<u16>) {
        let outcome = if good { "ok" } else { outcome(status) };
        metrics.call(&self.call, outcome, self.at.elapsed());
        self.span.record("outcome", outcome);
    }
}

impl Intercept for Measure {
    fn name(&self) -> &'static str {
        "Measure"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let began = Began::new(bag.load::<Metadata>().map_or("S3", Metadata::name));
        bag.interceptor_state().store_put(began);
        Ok(())
    }

    /// As it is about to be sent.
    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.direct.learn(&self.settings, context.request().uri(), components);
        Ok(())
    }

    /// Also where the time of the try, or of the whole call, is over.
    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(began) = bag.load::<Began>() else { return Ok(()) };
        let done = matches!(context.output_or_error(), Some(Ok(_)));
        let status = context.response().map(|response| response.status().as_u16());
        began.end(&self.metrics, done, status);
        // The span ends here, and not with the whole call, which may go on to another try.
        bag.interceptor_state().unset::<Began>();
        Ok(())
    }
}

/// The kind of an error as far as the status tells: the code stands in the body, which only the call's own type
/// of error has read.
fn outcome(status: Option<u16>) -> &'static str {
    match (status, kind(status, None)) {
        (None, _) => "no_answer",
        (_, ErrorKind::NotFound) => "not_found",
        (_, ErrorKind::Precondition) => "precondition",
        (_, ErrorKind::Denied) => "denied",
        (_, ErrorKind::Throttled) => "throttled",
        (_, ErrorKind::Unavailable) => "unavailable",
        (_, ErrorKind::NotImplemented) => "not_implemented",
        _ => "refused",
    }
}
