//! The local S3 server on a data folder: what the bare command and `upflow s3` both start.
//!
//! In the data folder are `s3`, the store, and `s3-credentials.json`, its keys. The store locks its folder,
//! so both commands may use one data folder, but only one after the other.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use upflow_core::config::StaticCredentials;

use super::config::StoreSettings;
use super::credentials;
use super::s3::{Credentials, S3Server, S3Settings};
use super::store::{Options, Store, durable};

/// A local S3 server that is running. It ends when the token it was started with is cancelled.
pub struct LocalS3 {
    /// Where clients reach it.
    pub address: SocketAddr,
    pub credentials: StaticCredentials,
    server: S3Server,
}

impl LocalS3 {
    /// Opens or makes the data folder, and serves its store on `listener`.
    pub async fn start(
        settings: &StoreSettings,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> anyhow::Result<LocalS3> {
        let dir = &settings.data_dir;
        make_private(dir)
            .with_context(|| format!("the data folder {} cannot be made", dir.display()))?;
        let address = listener.local_addr()?;
        // The store first: it is this process's once it is open, and so the keys are made only once.
        let store = open(dir, settings.max_bytes).await?;
        let credentials = match &settings.credentials {
            Some(given) => given.clone(),
            None => credentials::load_or_make(dir)?,
        };
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let served = S3Settings {
            credentials: Credentials {
                access_key: credentials.access_key.clone(),
                secret_key: credentials.secret_key.clone(),
            },
            region: settings.region.clone(),
            bucket: settings.bucket.clone(),
            any_origin: None,
        };
        let server = S3Server::start(listener, store, served, stop).await?;
        Ok(LocalS3 { address, credentials, server })
    }

    /// Waits until it has ended, at most 5 seconds after its token was cancelled.
    pub async fn stopped(self) {
        self.server.stopped().await;
    }
}

async fn open(dir: &Path, max_bytes: Option<u64>) -> anyhow::Result<Store> {
    let folder = dir.join("s3");
    let opened =
        tokio::task::spawn_blocking(move || Store::open_with(&folder, Options { max_bytes }))
            .await?;
    opened.map_err(|error| match error.kind() {
        ErrorKind::ResourceBusy => anyhow::anyhow!(
            "the data folder {} is in use by another upflow: stop that one, or choose another folder with \
             --data-dir or UPFLOW_DATA_DIR",
            dir.display()
        ),
        _ => anyhow::Error::new(error)
            .context(format!("the objects in {} cannot be opened", dir.join("s3").display())),
    })
}

/// Makes the folder, for its owner alone; one that is there already stays as it is.
fn make_private(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    durable::create_folders(builder.recursive(true), dir)
}
