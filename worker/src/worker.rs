//! What the tasks of one worker share, and the error that ends a job.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use upflow_core::storage::StorageError;
use upflow_core::{Context, uploads};

use crate::config::WorkerSettings;

/// Jobs waiting for another attempt in this process; one more is left to the janitor.
const WAITING: usize = 1_000;

/// What the tasks of a worker hold.
pub(crate) struct Worker {
    pub ctx: Context,
    pub settings: WorkerSettings,
    /// Bytes of memory for streamed parts.
    pub memory: Arc<Semaphore>,
    /// Places for jobs that wait for another attempt.
    pub waiting: Arc<Semaphore>,
    pub stop: CancellationToken,
}

impl Worker {
    pub fn new(ctx: Context, settings: WorkerSettings, stop: CancellationToken) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(settings.stream_memory)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            ctx,
            settings,
            stop,
        }
    }

    /// Waits, but not once the worker is to stop.
    pub async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// An error that ends a job for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error(transparent)]
    Uploads(#[from] uploads::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}
