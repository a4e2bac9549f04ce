//! The HTTP API of UpFlow: the contract in `openapi.yaml`, the pages around it, and the server.

mod allow;
mod announce;
mod body;
pub mod config;
mod problem;
mod routes;
mod schema;
mod validate;
mod verify;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use poem::http::{StatusCode, header};
use poem::listener::TcpAcceptor;
use poem::middleware::CatchPanic;
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response};
use poem_openapi::OpenApiService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use upflow_core::Context;
use uuid::Uuid;

use allow::Allow;
use problem::{Code, Problem};
use routes::{MAX_POLLS, Shared, State};

/// How long requests under way may still take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// The most that any request may take; a long poll lasts a minute.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Serves on `listener` until `shutdown`, then ends what is under way.
pub async fn serve(
    ctx: Context,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let acceptor = TcpAcceptor::from_std(listener)?;
    let stop = shutdown.clone();
    poem::Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(
            endpoint(ctx, shutdown),
            async move { stop.cancelled().await },
            Some(DRAIN),
        )
        .await
}

/// The OpenAPI document, as YAML.
pub fn openapi_yaml() -> String {
    service().spec_yaml()
}

fn service() -> OpenApiService<impl poem_openapi::OpenApi, ()> {
    let api = (
        routes::uploads::Uploads,
        routes::chunks::Chunks,
        routes::downloads::Downloads,
        routes::operators::Operators,
    );
    OpenApiService::new(api, "UpFlow", env!("CARGO_PKG_VERSION")).description(
        "Resumable uploads of files of any size, straight from the client to S3 through presigned URLs.",
    )
}

fn endpoint(ctx: Context, shutdown: CancellationToken) -> impl Endpoint {
    let state: Shared = Arc::new(State { ctx, polls: Semaphore::new(MAX_POLLS), shutdown });
    let service = service();
    let (yaml, json) = (service.spec_yaml(), service.spec());
    let allow = Arc::new(Allow::from_spec(&json));
    let docs = service.swagger_ui();
    let api = service.data(state.clone()).with(CatchPanic::new().with_handler(panicked));
    let api = Arc::new(api);
    routes::pages::routes(state, yaml, json)
        .nest("/docs", docs)
        .nest_no_strip("/uploads", api.clone())
        .nest_no_strip("/stats", api)
        .around(move |endpoint, request| {
            let allow = allow.clone();
            async move { Ok::<_, poem::Error>(answer(endpoint, request, &allow).await) }
        })
}

/// Every answer: in time, with an id that the log knows too, and a problem where it is an error.
async fn answer(endpoint: Arc<impl Endpoint>, request: Request, allow: &Allow) -> Response {
    let id = Uuid::new_v4();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", %id, %method, path);
    async move {
        let mut response = reached(endpoint, request).await;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && let Ok(methods) = allow.methods(&path).parse()
        {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        if let Ok(id) = id.to_string().parse() {
            response.headers_mut().insert("x-request-id", id);
        }
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await
}

async fn reached(endpoint: Arc<impl Endpoint>, request: Request) -> Response {
    // The router refuses it as a request that cannot be read; but it is only a place where nothing is.
    if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
        return problem::no_such_path().into_response();
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, endpoint.call(request)).await {
        Ok(Ok(response)) => response.into_response(),
        Ok(Err(error)) => problem::from_framework(error),
        Err(_) => {
            tracing::error!("a request took longer than {REQUEST_TIMEOUT:?}");
            Problem::new(Code::Timeout, "nothing confirmed is lost: try again").into_response()
        }
    }
}

/// The panic hook has logged it.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::internal(&"panic").into_response()
}

#[cfg(test)]
mod tests {
    #[test]
    fn openapi_yaml_is_what_the_code_says() {
        let committed = include_str!("../../openapi.yaml");
        assert!(
            committed == super::openapi_yaml(),
            "openapi.yaml is out of date: cargo run -p upflow-api -- openapi > openapi.yaml"
        );
    }
}
