//! Traces: what an upload went through, from init to its end, across API, queue and worker. Off unless
//! OTEL_EXPORTER_OTLP_ENDPOINT is set.
//!
//! An upload has one trace, that of its init: the row keeps its W3C `traceparent`, and whatever is done to the
//! upload later goes on from there. A job needs to carry nothing, since whoever takes one reads the row first.
//! Spans of traces have the target [`TARGET`] and are no part of the log; log lines are no part of traces.

mod export;

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use export::{Exporter, layer, start};

/// What the spans of traces are known by; each is an `info_span!`, finer ones are not collected.
/// `otel.name` and `otel.kind` of them are what a collector shows.
pub const TARGET: &str = "upflow_trace";

/// The name of the header, and of the column: <https://www.w3.org/TR/trace-context/>
pub const TRACEPARENT: &str = "traceparent";

/// Puts a span that nothing has entered yet into the trace of its upload, `ours`, as the row has it. What the
/// caller brings, `theirs`, is its parent where it is of that trace or the upload has none yet, else a link.
pub fn follow(span: &Span, ours: Option<&str>, theirs: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    let (ours, theirs) = (ours.and_then(parsed), theirs.and_then(parsed));
    let trace = |context: &Context| context.span().span_context().trace_id();
    let parent = match (ours, theirs) {
        (Some(ours), Some(theirs)) if trace(&ours) != trace(&theirs) => {
            span.add_link(theirs.span().span_context().clone());
            ours
        }
        (_, Some(theirs)) => theirs,
        (Some(ours), None) => ours,
        (None, None) => return,
    };
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(%error, "a span has no parent");
    }
}

/// The place in a trace that the span at hand is, as a row keeps it. `None` where there are no traces.
pub fn current() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

fn parsed(traceparent: &str) -> Option<Context> {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let valid = context.span().span_context().is_valid();
    valid.then_some(context)
}
