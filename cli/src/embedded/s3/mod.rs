//! The local S3 server: the store behind HTTP/1.1, with what the protocol layer lacks in front of it.
//!
//! A request passes `guard` (what AWS refuses and the protocol layer would let through), then the
//! protocol layer, which checks the signature and calls the store. `cors` is outside of both, so that a
//! page can read an error too; `body` keeps a refused upload's connection alive until the refusal is read.

mod body;
mod cors;
mod guard;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse, S3Error, S3Result, StdError, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::store::Store;
use body::SharedBody;
use cors::Cors;
use guard::Guard;

/// Connections beyond this wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// For the head of a request, and so for how long a connection may idle: longer than clients keep idle
/// connections (90 seconds mostly), so that it is they who close.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// What requests under way get to end in, after the server was told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// A Complete that names 10,000 parts with all their checksums takes less than 4 MB.
const MAX_XML: usize = 8 * 1024 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The one pair of keys that opens the store.
#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub struct S3Settings {
    pub credentials: Credentials,
    /// Requests signed for another region are refused, as on AWS.
    pub region: String,
    /// Created if it is missing.
    pub bucket: String,
    /// Whether a bucket without CORS rules of its own lets any page read and write with a presigned URL.
    /// None: only on a loopback address.
    pub any_origin: Option<bool>,
}

/// A server that is running. It ends when the token it was started with is cancelled.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl S3Server {
    pub async fn start(
        listener: TcpListener,
        store: Store,
        settings: S3Settings,
        shutdown: CancellationToken,
    ) -> io::Result<S3Server> {
        if settings.credentials.access_key.is_empty() || settings.credentials.secret_key.is_empty()
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the S3 keys may not be empty",
            ));
        }
        let address = listener.local_addr()?;
        let (buckets, bucket) = (store.clone(), settings.bucket.clone());
        tokio::task::spawn_blocking(move || buckets.create_bucket(&bucket))
            .await
            .map_err(io::Error::other)??;
        let any_origin = settings.any_origin.unwrap_or(address.ip().is_loopback());
        let front = Front {
            cors: Cors::new(store.clone(), any_origin),
            guard: Guard::new(settings.region),
            s3: protocol(store, settings.credentials),
            tasks: TaskTracker::new(),
        };
        Ok(S3Server { address, serving: tokio::spawn(serve(listener, Arc::new(front), shutdown)) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server has ended, at most 5 seconds after its token was cancelled.
    pub async fn stopped(self) {
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the local S3 server did not end well");
        }
    }
}

fn protocol(store: Store, credentials: Credentials) -> S3Service {
    let mut config = S3Config::default();
    config.xml_max_body_size = MAX_XML;
    let mut builder = S3ServiceBuilder::new(store);
    builder.set_auth(OnePair {
        secret: credentials.secret_key.into(),
        access_key: credentials.access_key,
    });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

struct OnePair {
    access_key: String,
    secret: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OnePair {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret.clone());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

/// Accepts connections until told to stop, and then waits for those that are there.
async fn serve(listener: TcpListener, front: Arc<Front>, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let cut_off = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = connection(stream, front.clone(), shutdown.clone());
                let cut_off = cut_off.clone();
                front.tasks.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = cut_off.cancelled() => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Too many open files, mostly: accepting at once again would only spin.
                tracing::warn!(%error, "the local S3 server cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    front.tasks.close();
    if tokio::time::timeout(GRACE, front.tasks.wait()).await.is_err() {
        cut_off.cancel();
        front.tasks.wait().await;
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

async fn connection(stream: TcpStream, front: Arc<Front>, shutdown: CancellationToken) {
    let service = service_fn(move |request| {
        let front = front.clone();
        async move { front.answer(request).await }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the local S3 server broke");
    }
}

/// Everything between a connection and the store.
struct Front {
    cors: Cors,
    guard: Guard,
    s3: S3Service,
    tasks: TaskTracker,
}

impl Front {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<HttpResponse> {
        let asker = cors::Asker::of(&request);
        let mut response = if request.method() == Method::OPTIONS {
            self.cors.preflight(&request).or_else(told)?
        } else {
            match self.guard.check(&request) {
                Ok(()) => self.pass_on(request).await?,
                Err(refused) => {
                    self.drain(&SharedBody::new(request.into_body()));
                    told(refused)?
                }
            }
        };
        let headers = response.headers_mut();
        self.cors.add_headers(asker.as_ref(), headers);
        if let Ok(id) = HeaderValue::try_from(Uuid::new_v4().simple().to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        Ok(response)
    }

    async fn pass_on(&self, request: Request<Incoming>) -> io::Result<HttpResponse> {
        let (parts, incoming) = request.into_parts();
        let body = SharedBody::new(incoming);
        let request = Request::from_parts(parts, Body::http_body(body.clone()));
        let response =
            self.s3.call(request).await.map_err(|error| io::Error::other(StdError::from(error)))?;
        if !response.status().is_success() {
            self.drain(&body);
        }
        Ok(response)
    }

    /// A server that closes while a client still sends resets the connection, and the client may never
    /// read why it was refused. So the rest of a refused body is read, within bounds.
    fn drain(&self, body: &SharedBody) {
        if let Some(rest) = body.rest() {
            self.tasks.spawn(rest);
        }
    }
}

fn told(error: S3Error) -> io::Result<HttpResponse> {
    error.to_http_response().map_err(io::Error::other)
}
