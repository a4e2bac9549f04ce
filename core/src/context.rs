//! What every part of a running UpFlow holds.

use std::sync::Arc;

use crate::config::{Limits, Settings};
use crate::db::{self, Db, DbErr};
use crate::metrics::Metrics;
use crate::queue::{Queue, QueueError};
use crate::storage::{Storage, StorageError};

#[derive(Clone)]
pub struct Context {
    pub db: Db,
    pub storage: Storage,
    pub queue: Queue,
    pub limits: Arc<Limits>,
    pub metrics: Metrics,
}

/// What could not be used at the start, all of it: whoever mends one thing learns of the others too.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConnectError(Vec<Fault>);

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("DATABASE_URL: the database cannot be used: {0}")]
    Database(DbErr),
    #[error(
        "DATABASE_URL: the database has no tables of UpFlow: run `upflow-migration up` first ({0})"
    )]
    NotMigrated(DbErr),
    #[error("REDIS_URL, or REDIS_HOST and REDIS_PORT: Redis cannot be used: {0}")]
    Queue(QueueError),
    #[error("AWS_S3_BUCKET, AWS_REGION, S3_ENDPOINT_URL: the bucket cannot be used: {0}")]
    Storage(StorageError),
}

fn lines(faults: &[Fault]) -> String {
    match faults {
        [only] => only.to_string(),
        all => all
            .iter()
            .fold("not all can be reached:".to_owned(), |text, fault| format!("{text}\n  {fault}")),
    }
}

impl Context {
    /// Connects to everything and looks that it is there. What goes away later comes back by itself.
    pub async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        let metrics = Metrics::default();
        let (db, queue, storage) = tokio::join!(
            database(settings),
            async { Queue::redis(&settings.queue).await.map_err(Fault::Queue) },
            bucket(settings, &metrics),
        );
        match (db, queue, storage) {
            (Ok(db), Ok(queue), Ok(storage)) => {
                let limits = Arc::new(settings.limits.clone());
                Ok(Self { db, storage, queue, limits, metrics })
            }
            (db, queue, storage) => {
                let faults = [db.err(), queue.err(), storage.err()];
                Err(ConnectError(faults.into_iter().flatten().collect()))
            }
        }
    }
}

async fn database(settings: &Settings) -> Result<Db, Fault> {
    let db = db::connect(&settings.database).await.map_err(Fault::Database)?;
    match db::ping(&db).await {
        Ok(()) => Ok(db),
        Err(error) if db::is_unavailable(&error) => Err(Fault::Database(error)),
        Err(error) => Err(Fault::NotMigrated(error)),
    }
}

async fn bucket(settings: &Settings, metrics: &Metrics) -> Result<Storage, Fault> {
    let storage = Storage::connect(&settings.storage, metrics).await;
    storage.check_bucket().await.map_err(Fault::Storage)?;
    Ok(storage)
}
