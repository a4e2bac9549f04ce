//! What API and worker stand on in the embedded mode: the data folder with its database, the S3 server
//! on loopback, and the queue in memory.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use upflow_core::config::{DatabaseSettings, Limits, StaticCredentials, StorageSettings};
use upflow_core::queue::{Job, Queue};
use upflow_core::storage::Storage;
use upflow_core::{Context, db, uploads};

use super::credentials;
use super::s3::{Credentials, S3Server, S3Settings};
use super::store::Store;

pub const BUCKET: &str = "upflow";
const REGION: &str = "us-east-1";

pub struct Foundation {
    pub ctx: Context,
    /// What `ctx` is connected by.
    pub database: DatabaseSettings,
    pub storage: StorageSettings,
    /// Where clients reach the S3 server.
    pub s3: SocketAddr,
    stop: CancellationToken,
    server: S3Server,
}

impl Foundation {
    /// Opens or makes the data folder, and serves S3 on `listener`.
    pub async fn start(dir: &Path, listener: TcpListener, limits: Limits) -> anyhow::Result<Self> {
        make_private(dir)
            .with_context(|| format!("the data folder {} cannot be made", dir.display()))?;
        let s3 = listener.local_addr()?;
        let credentials = credentials::load_or_make(dir)?;
        let stop = CancellationToken::new();
        let server = serve(&dir.join("s3"), listener, &credentials, stop.clone()).await?;
        let (database, storage) = (database(&dir.join("upflow.db"))?, storage(s3, credentials)?);
        let ctx = Context {
            db: migrated(&database).await?,
            storage: Storage::connect(&storage).await,
            queue: Queue::memory(),
            limits: Arc::new(limits),
        };
        ctx.storage.check_bucket().await?;
        // The queue is empty after a start. The store has locked the folder, so this process is the only one.
        for upload_id in uploads::adopt(&ctx.db).await? {
            if ctx.queue.push(Job { upload_id }).await.is_err() {
                break;
            }
        }
        Ok(Self { ctx, database, storage, s3, stop, server })
    }

    /// Stops the S3 server and closes the database; API and worker must have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.server.stopped().await;
        if let Err(error) = self.ctx.db.close().await {
            tracing::warn!(%error, "the database was not closed");
        }
    }
}

/// Makes the folder, for its owner alone; one that is there already stays as it is.
fn make_private(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

async fn serve(
    dir: &Path,
    listener: TcpListener,
    credentials: &StaticCredentials,
    stop: CancellationToken,
) -> anyhow::Result<S3Server> {
    let folder = dir.to_owned();
    let store = tokio::task::spawn_blocking(move || Store::open(&folder))
        .await?
        .with_context(|| format!("the objects in {} cannot be opened", dir.display()))?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let settings = S3Settings {
        credentials: Credentials {
            access_key: credentials.access_key.clone(),
            secret_key: credentials.secret_key.clone(),
        },
        region: REGION.to_owned(),
        bucket: BUCKET.to_owned(),
        any_origin: None,
    };
    Ok(S3Server::start(listener, store, settings, stop).await?)
}

fn database(path: &Path) -> anyhow::Result<DatabaseSettings> {
    let absolute = std::path::absolute(path)?;
    let url = url::Url::from_file_path(&absolute)
        .map_err(|()| anyhow::anyhow!("{} cannot be written as a URL", absolute.display()))?;
    Ok(DatabaseSettings {
        url: url.as_str().replacen("file:", "sqlite:", 1),
        max_connections: 8,
        timeout: Duration::from_secs(10),
    })
}

async fn migrated(settings: &DatabaseSettings) -> anyhow::Result<db::Db> {
    let db = db::connect(settings).await.context("the database in the data folder")?;
    upflow_migration::up(&db).await?;
    Ok(db)
}

fn storage(s3: SocketAddr, credentials: StaticCredentials) -> anyhow::Result<StorageSettings> {
    let endpoint = url::Url::parse(&format!("http://{s3}"))?;
    Ok(StorageSettings {
        region: REGION.to_owned(),
        bucket: BUCKET.to_owned(),
        endpoint: Some(endpoint.clone()),
        public_endpoint: Some(endpoint),
        path_style: true,
        key_prefix: String::new(),
        chunk_tag: None,
        timeout: Duration::from_secs(10),
        credentials: Some(credentials),
    })
}
