//! The span of each operation in the trace of its upload.

use std::future::Future;

use poem::Request;
use tracing::Instrument as _;
use tracing::field::Empty;
use upflow_core::trace::{self, TARGET, TRACEPARENT};
use upflow_core::uploads as rows;
use uuid::Uuid;

use crate::auth::routes;
use crate::routes::State;

/// The id of the request, which its answer and its log lines have too.
#[derive(Debug, Clone, Copy)]
pub struct RequestId(pub Uuid);

/// Answers a request, which the guard has let in, within a span.
pub async fn operation<F, R>(
    state: &State,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> R
where
    F: Future<Output = R>,
{
    let (method, path) = (request.method().clone(), request.uri().path());
    let Some(route) = routes::find(&method, path) else { return answer(request).await };
    let span = tracing::info_span!(
        target: TARGET,
        "operation",
        otel.name = format!("{method} {}", route.path),
        otel.kind = "server",
        http.request.method = %method,
        http.route = route.path,
        request.id = request.extensions().get::<RequestId>().map(|id| id.0.to_string()),
        upload.id = Empty,
    );
    if span.is_disabled() {
        return answer(request).await;
    }
    let ours = match route.about(path) {
        Some(Ok(id)) => {
            span.record("upload.id", id.to_string());
            // Without it the request is a trace of its own, which is no reason to refuse it.
            rows::traceparent(&state.ctx.db, id).await.ok().flatten()
        }
        _ => None,
    };
    let theirs = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    trace::follow(&span, ours.as_deref(), theirs);
    answer(request).instrument(span).await
}
