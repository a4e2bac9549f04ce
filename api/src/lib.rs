//! The HTTP API of UpFlow: the contract in `openapi.yaml`, the pages around it, and the server.

mod allow;
mod announce;
mod answer;
pub mod auth;
mod body;
pub mod config;
mod confirm;
mod cors;
mod headers;
pub mod limits;
mod measure;
mod problem;
mod routes;
mod schema;
mod server;
mod spec;
mod trace;
mod validate;
mod verify;
mod waiting;

use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::FutureExt as _;
use percent_encoding::percent_decode_str;
use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response};
use poem_openapi::OpenApiService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use upflow_core::Context;
use uuid::Uuid;

use allow::Allow;
use config::ServeSettings;
use measure::Measured;
use problem::{Code, Problem};
use routes::{MAX_POLLS, Shared, State};
use trace::RequestId;

pub use spec::{openapi_json, openapi_yaml};

/// The most that any request may take; a long poll lasts a minute.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Serves on `listener` until `shutdown`, then ends what is under way.
pub async fn serve(
    ctx: Context,
    settings: ServeSettings,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let header_timeout = settings.limits.header_timeout;
    let state = state(ctx, settings, shutdown.clone());
    let serving = server::serve(listener, endpoint(state.clone()), header_timeout, shutdown);
    tokio::join!(serving, waiting::wake(&state));
    Ok(())
}

fn service() -> OpenApiService<impl poem_openapi::OpenApi, ()> {
    let api = (
        routes::uploads::Uploads,
        routes::chunks::Chunks,
        routes::downloads::Downloads,
        routes::operators::Operators,
    );
    OpenApiService::new(api, "UpFlow", env!("CARGO_PKG_VERSION"))
}

fn state(ctx: Context, settings: ServeSettings, shutdown: CancellationToken) -> Shared {
    let ServeSettings { access, limits: clients } = settings;
    let (polls, pace) = (Semaphore::new(MAX_POLLS), auth::Pace::new(clients.requests_per_second));
    let waiting = waiting::Waiting::default();
    let sight = routes::health::Sight::default();
    let confirms = confirm::Confirms::default();
    Arc::new(State { ctx, polls, waiting, shutdown, access, clients, pace, sight, confirms })
}

fn endpoint(state: Shared) -> impl Endpoint<Output = Response> {
    let front = Arc::new(Front { state: state.clone() });
    let docs = routes::docs::page();
    let guarded = state.clone();
    let api = service().data(state.clone()).around(move |endpoint, mut request| {
        let state = guarded.clone();
        async move {
            auth::admit(&state, &mut request).await?;
            trace::operation(&state, request, |request| endpoint.call(request)).await
        }
    });
    let api = Arc::new(api);
    routes::pages::routes(state)
        .nest("/docs", docs)
        .nest_no_strip("/uploads", api.clone())
        .nest_no_strip("/stats", api.clone())
        .nest_no_strip("/orphans", api)
        .around(move |endpoint, request| {
            let front = front.clone();
            async move { Ok::<_, poem::Error>(front.answer(endpoint, request).await) }
        })
        .map_to_response()
}

/// What stands before all routes.
struct Front {
    state: Shared,
}

/// Made when it is first asked for, as all that is made of the spec: most servers never are, and it would
/// stay in their memory.
static ALLOW: LazyLock<Allow> = LazyLock::new(|| Allow::from_spec(&openapi_json()));

impl Front {
    /// Every answer: in time, with an id that the log knows too, and a problem where it is an error.
    async fn answer(&self, endpoint: Arc<impl Endpoint>, mut request: Request) -> Response {
        let id = Uuid::new_v4();
        request.extensions_mut().insert(RequestId(id));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let span = tracing::info_span!("request", request.id = %id, %method, path);
        let measured = Measured::begin(&request);
        async move {
            let origin = cors::known_origin(&request, &self.state.clients.origins);
            let mut response = self.let_in(endpoint, request, origin.is_some()).await;
            let headers = response.headers_mut();
            if let Some(origin) = origin {
                cors::add_headers(headers, origin);
            }
            headers::secure(headers, &path);
            if let Ok(id) = id.to_string().parse() {
                headers.insert("x-request-id", id);
            }
            if response.status() == StatusCode::METHOD_NOT_ALLOWED
                && let Ok(methods) = ALLOW.methods(&path).parse()
            {
                response.headers_mut().insert(header::ALLOW, methods);
            }
            measured.end(&self.state.ctx.metrics, response.status().as_u16());
            match response.status().as_u16() {
                // What a client may come back with; 5xx say their cause where it is known.
                status @ 400..500 => tracing::info!(status, "refused"),
                status => tracing::debug!(status, "answered"),
            }
            response
        }
        .instrument(span)
        .await
    }

    async fn let_in(
        &self,
        endpoint: Arc<impl Endpoint>,
        request: Request,
        known_origin: bool,
    ) -> Response {
        // Whoever looks whether the server lives may do so by any name.
        let open =
            self.state.access.keys.is_none() && !request.uri().path().starts_with("/health/");
        if open && let Err(refused) = self.state.access.door.check(&request) {
            return refused.into_response();
        }
        if known_origin && let Some(answer) = cors::preflight(&request) {
            return answer;
        }
        reached(endpoint, request).await
    }
}

async fn reached(endpoint: Arc<impl Endpoint>, request: Request) -> Response {
    // The router refuses it as a request that cannot be read; but it is only a place where nothing is.
    if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
        return problem::no_such_path().into_response();
    }
    let answer = AssertUnwindSafe(endpoint.call(request)).catch_unwind();
    match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
        Ok(Ok(Ok(response))) => response.into_response(),
        Ok(Ok(Err(error))) => problem::from_framework(error),
        // The panic hook has logged what and where.
        Ok(Err(_)) => Problem::panicked().into_response(),
        Err(_) => {
            tracing::error!("a request took longer than {REQUEST_TIMEOUT:?}");
            Problem::new(Code::Timeout, "nothing confirmed is lost: try again").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_does_not_say_why() {
        let endpoint = poem::endpoint::make_sync(|_| -> Response { panic!("a secret") });
        let response = reached(Arc::new(endpoint), Request::default()).await;
        assert_eq!(response.status(), 500);
        assert_eq!(response.content_type(), Some("application/problem+json"));
        let body = response.into_body().into_string().await.unwrap();
        assert!(body.contains("internal_error") && !body.contains("secret"), "{body}");
    }
}
