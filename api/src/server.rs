//! The HTTP/1.1 server around the framework's endpoint. The framework's own sets no time for the head of a
//! request, so a client that sends a byte now and then would keep a connection for ever; nor for an answer
//! that nobody reads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, IntoResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections beyond this wait to be accepted.
const MAX_CONNECTIONS: usize = 8_192;
/// How long requests under way may still take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// The most bytes of the head of a request.
const MAX_HEAD: usize = 64 * 1024;

/// Serves until `shutdown`, then ends what is under way.
pub async fn serve<E>(
    listener: TcpListener,
    endpoint: E,
    header_timeout: Duration,
    shutdown: CancellationToken,
) where
    E: Endpoint + 'static,
    E::Output: IntoResponse,
{
    let (endpoint, tasks) = (Arc::new(endpoint), TaskTracker::new());
    let (room, cut_off) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), CancellationToken::new());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection =
                    connection(stream, endpoint.clone(), header_timeout, shutdown.clone());
                let cut_off = cut_off.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = cut_off.cancelled() => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Too many open files, mostly: accepting at once again would only spin.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        cut_off.cancel();
        tasks.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection<E>(
    stream: TcpStream,
    endpoint: Arc<E>,
    header_timeout: Duration,
    shutdown: CancellationToken,
) where
    E: Endpoint + 'static,
    E::Output: IntoResponse,
{
    // A peer that has gone already has no addresses.
    let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let endpoint = endpoint.clone();
        let local = LocalAddr(poem::Addr::SocketAddr(local));
        let remote = RemoteAddr(poem::Addr::SocketAddr(remote));
        async move {
            let request = poem::Request::from((request, local, remote, Scheme::HTTP));
            Ok::<_, std::convert::Infallible>(endpoint.get_response(request).await.into())
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(MAX_HEAD);
    // Of an answer at least a byte must be taken in this time.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(header_timeout));
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let ended: Result<(), hyper::Error> = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
