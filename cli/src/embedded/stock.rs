//! The S3 server of the embedded mode: the s3s crate's protocol over its file store.

use std::future::Future;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{Any, CorsLayer};
use upflow_core::config::StaticCredentials;

/// Requests under way get this long once the server is to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Prepares the server; the future runs it until `stop`.
pub fn serve(
    listener: TcpListener,
    dir: &Path,
    bucket: &str,
    credentials: &StaticCredentials,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    std::fs::create_dir_all(dir.join(bucket))
        .with_context(|| format!("the folder {} cannot be made", dir.display()))?;
    let store = FileSystem::new(dir).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut builder = S3ServiceBuilder::new(store);
    builder.set_auth(SimpleAuth::from_single(
        credentials.access_key.clone(),
        credentials.secret_key.clone(),
    ));
    let service = builder.build();
    // Browsers send chunks here from the pages of the API, which are on another port.
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .expose_headers(Any);
    let service = tower::ServiceBuilder::new().layer(cors).service(service);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(async move {
        let mut server = Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file handles, for one: it passes.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(service.clone());
            let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the S3 server ended");
                }
            });
        }
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    })
}
