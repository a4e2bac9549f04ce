//! What API and worker stand on in the embedded mode: the data folder with its database, the S3 server
//! on loopback, and the queue in memory.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use upflow_core::config::{DatabaseSettings, Limits, StorageSettings};
use upflow_core::metrics::Metrics;
use upflow_core::queue::{Job, Queue};
use upflow_core::storage::Storage;
use upflow_core::{Context, db, uploads};

use super::config::StoreSettings;
use super::local_s3::LocalS3;

pub struct Foundation {
    pub ctx: Context,
    /// What `ctx` is connected by.
    pub database: DatabaseSettings,
    pub storage: StorageSettings,
    /// Where clients reach the S3 server.
    pub s3: SocketAddr,
    stop: CancellationToken,
    server: LocalS3,
}

impl Foundation {
    /// Opens or makes the data folder, and serves S3 on `listener`, with keys of the folder's own.
    pub async fn start(dir: &Path, listener: TcpListener, limits: Limits) -> anyhow::Result<Self> {
        Self::start_with(&StoreSettings::in_folder(dir), listener, limits).await
    }

    pub async fn start_with(
        settings: &StoreSettings,
        listener: TcpListener,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let server = LocalS3::start(settings, listener, stop.clone()).await?;
        let database = database(&settings.data_dir.join("upflow.db"))?;
        let storage = storage(settings, &server)?;
        let metrics = Metrics::default();
        let ctx = Context {
            db: migrated(&database).await?,
            storage: Storage::connect(&storage, &metrics).await,
            queue: Queue::memory(),
            limits: Arc::new(limits),
            metrics,
        };
        ctx.storage.check_bucket().await?;
        // The queue is empty after a start. The store has locked the folder, so this process is the only one.
        for upload_id in uploads::adopt(&ctx.db).await? {
            if ctx.queue.push(Job { upload_id }).await.is_err() {
                break;
            }
        }
        Ok(Self { ctx, database, storage, s3: server.address, stop, server })
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

fn storage(settings: &StoreSettings, s3: &LocalS3) -> anyhow::Result<StorageSettings> {
    let endpoint = url::Url::parse(&format!("http://{}", s3.address))?;
    Ok(StorageSettings {
        region: settings.region.clone(),
        bucket: settings.bucket.clone(),
        endpoint: Some(endpoint.clone()),
        public_endpoint: Some(endpoint),
        path_style: true,
        key_prefix: String::new(),
        chunk_tag: None,
        timeout: Duration::from_secs(10),
        max_calls: 256,
        credentials: Some(s3.credentials.clone()),
    })
}
