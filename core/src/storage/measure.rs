//! Measures every try of every call to S3, wherever it is made, and shows it in traces: the SDK runs this
//! around each.

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

use super::error::{ErrorKind, kind};
use crate::metrics::Metrics;
use crate::trace::TARGET;

#[derive(Clone)]
pub(super) struct Measure(pub Metrics);

impl std::fmt::Debug for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measure")
    }
}

/// When the try under way began, and the span of it in a trace.
#[derive(Debug)]
struct Began(Instant, Span);

impl Storable for Began {
    type Storer = StoreReplace<Self>;
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
        let call = bag.load::<Metadata>().map_or("S3", Metadata::name);
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
        bag.interceptor_state().store_put(Began(Instant::now(), span));
        Ok(())
    }

    /// Also where the time of the try, or of the whole call, is over.
    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(began), Some(call)) = (bag.load::<Began>(), bag.load::<Metadata>()) else {
            return Ok(());
        };
        let done = matches!(context.output_or_error(), Some(Ok(_)));
        let status = context.response().map(|response| response.status().as_u16());
        let outcome = if done { "ok" } else { outcome(status) };
        self.0.call(call.name(), outcome, began.0.elapsed());
        began.1.record("outcome", outcome);
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
