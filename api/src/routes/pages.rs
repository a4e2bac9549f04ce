//! Plain routes that are not part of the API: the demo, the spec, Swagger UI and health.

use std::future::Future;
use std::time::Duration;

use poem::endpoint::EmbeddedFilesEndpoint;
use poem::http::StatusCode;
use poem::middleware::SetHeader;
use poem::web::{Data, Json, Redirect};
use poem::{EndpointExt, IntoResponse, Response, Route, get, handler};
use rust_embed::RustEmbed;
use serde_json::json;
use upflow_core::db;
use upflow_core::seldom::Seldom;

use super::Shared;

#[derive(RustEmbed)]
#[folder = "../static"]
struct Static;

/// How long a dependency may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// The routes, below `/`.
pub fn routes(state: Shared, spec_yaml: String, spec_json: String) -> Route {
    let text = |content_type: &'static str, text: String| {
        get(poem::endpoint::make_sync(move |_| text.clone().with_content_type(content_type)))
    };
    Route::new()
        .at("/", get(home))
        .at("/health/live", get(live))
        .at("/health/ready", get(ready).data(state.clone()))
        .at("/openapi.yaml", text("application/yaml", spec_yaml))
        .at("/openapi.json", text("application/json", spec_json))
        .nest("/static", EmbeddedFilesEndpoint::<Static>::new().with(page_headers(&state)))
}

/// What binds the demo and its worker: nothing but their own files, and requests to nobody but this server and
/// the bucket. A page that could run foreign script could give away the files that it is shown.
fn page_headers(state: &Shared) -> SetHeader {
    let policy = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "worker-src 'self'",
        &format!("connect-src 'self' {}", state.ctx.storage.public_origin()),
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ];
    SetHeader::new()
        .overriding("content-security-policy", policy.join("; "))
        .overriding("x-content-type-options", "nosniff")
        .overriding("referrer-policy", "no-referrer")
        // Checked by ETag each time: a page of one version with scripts of another does not work.
        .overriding("cache-control", "no-cache")
}

#[handler]
fn home() -> Redirect {
    Redirect::see_other("/static/index.html")
}

/// The process runs.
#[handler]
fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// The process can serve: database, storage and queue answer. Why one does not is in the log.
#[handler]
async fn ready(state: Data<&Shared>) -> Response {
    let ctx = &state.ctx;
    let (database, storage, queue) = tokio::join!(
        check("database", &DATABASE, db::ping(&ctx.db)),
        check("storage", &STORAGE, ctx.storage.check_bucket()),
        check("queue", &QUEUE, ctx.queue.ping()),
    );
    let word = |ok: bool| if ok { "ok" } else { "unavailable" };
    let all = database && storage && queue;
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": word(all),
        "database": word(database),
        "storage": word(storage),
        "queue": word(queue),
    });
    let answer = Json(body).with_status(status);
    if all { answer.into_response() } else { answer.with_header("retry-after", 2).into_response() }
}

/// Asked every few seconds, by several.
static DATABASE: Seldom = Seldom::new();
static STORAGE: Seldom = Seldom::new();
static QUEUE: Seldom = Seldom::new();

async fn check<E: std::fmt::Display>(
    part: &'static str,
    seldom: &Seldom,
    ping: impl Future<Output = Result<(), E>>,
) -> bool {
    let why = match tokio::time::timeout(CHECK_TIMEOUT, ping).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {CHECK_TIMEOUT:?}"),
    };
    if let Some(more) = seldom.again() {
        tracing::warn!(part, error = why, more, "not ready");
    }
    false
}
