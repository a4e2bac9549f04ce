//! `/metrics` on a listener of its own: it has no keys, so it is not where clients are, and on loopback unless
//! told otherwise. Here and not in the API, since the worker has one too.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Context;

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Connections beyond this wait to be accepted.
const CONNECTIONS: usize = 16;
/// How long the head of a request may take, and a connection be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Shows the metrics of `ctx` until `stop`.
pub async fn serve(ctx: Context, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = async {
                let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|(stream, _)| (stream, permit))
            } => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (ctx, stop) = (ctx.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(ctx, stream) => {}
                        () = stop.cancelled() => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(ctx: Context, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let ctx = ctx.clone();
        async move { Ok::<_, Infallible>(answer(&ctx, &request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 * 1024);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection for metrics broke");
    }
}

async fn answer(ctx: &Context, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics"
        || !matches!(request.method(), &Method::GET | &Method::HEAD)
    {
        return response(StatusCode::NOT_FOUND, TEXT, "GET /metrics is all there is\n".to_owned());
    }
    match ctx.metrics.scrape(ctx).await {
        Ok(page) => response(StatusCode::OK, OPEN_METRICS, page),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "see the log\n".to_owned())
        }
    }
}

fn response(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
