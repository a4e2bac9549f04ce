//! What every part of a running UpFlow holds.

use std::sync::Arc;

use crate::config::{Limits, Settings};
use crate::db::{self, Db, DbErr};
use crate::queue::{Queue, QueueError};
use crate::storage::{Storage, StorageError};

#[derive(Clone)]
pub struct Context {
    pub db: Db,
    pub storage: Storage,
    pub queue: Queue,
    pub limits: Arc<Limits>,
}

/// What could not be reached at the start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the database (DATABASE_URL) cannot be used")]
    Database(#[source] DbErr),
    #[error(
        "the database (DATABASE_URL) has no tables of UpFlow: run `upflow-migration up` first "
    )]
    NotMigrated(#[source] DbErr),
    #[error("Redis (REDIS_URL, or REDIS_HOST and REDIS_PORT) cannot be used")]
    Queue(#[source] QueueError),
    #[error("the bucket (AWS_S3_BUCKET, AWS_REGION, S3_ENDPOINT_URL) cannot be used")]
    Storage(#[source] StorageError),
}

impl Context {
    /// Connects to everything and looks that it is there. What goes away later comes back by itself.
    pub async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        let db = db::connect(&settings.database).await.map_err(ConnectError::Database)?;
        db::ping(&db).await.map_err(ConnectError::NotMigrated)?;
        let queue = Queue::redis(&settings.queue).await.map_err(ConnectError::Queue)?;
        let storage = Storage::connect(&settings.storage).await;
        storage.check_bucket().await.map_err(ConnectError::Storage)?;
        Ok(Self { db, storage, queue, limits: Arc::new(settings.limits.clone()) })
    }
}
