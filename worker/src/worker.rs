//! What the tasks of one worker share, and the error that ends a job.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use upflow_core::storage::StorageError;
use upflow_core::{Context, orphans, uploads};
use uuid::Uuid;

use crate::config::WorkerSettings;
use crate::places::Places;

/// Jobs waiting for another attempt in this process; one more is left to the janitor.
const WAITING: usize = 1_000;
/// Calls for a holder that may be unheard; one who has missed some looks by itself.
const AWAITED: usize = 64;

/// How long a question to the database may take, the wait for its locks included. The server has a shorter
/// limit of its own; this one is for a line that is dead without a word.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the copies under way may still take once the worker is to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the tasks of a worker hold.
pub(crate) struct Worker {
    pub ctx: Context,
    pub settings: WorkerSettings,
    /// Bytes of memory for streamed parts.
    pub memory: Arc<Semaphore>,
    /// Places for uploads that are copied ahead,
    pub ahead: Places,
    /// and for those that are read and sent again ahead, which wait for memory and may hold theirs for long.
    pub streamed_ahead: Places,
    /// Uploads that wait for their end under a lease that somebody holds: it may be one of this worker.
    pub awaited: broadcast::Sender<Uuid>,
    /// Places for jobs that wait for another attempt.
    pub waiting: Arc<Semaphore>,
    pub stop: CancellationToken,
    /// Uploads under way to their end.
    urgent: AtomicUsize,
}

/// An upload under way to its end, until dropped.
pub(crate) struct Urgent<'a>(&'a AtomicUsize);

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    pub fn new(ctx: Context, settings: WorkerSettings, stop: CancellationToken) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(settings.stream_memory)),
            ahead: Places::new(settings.jobs),
            streamed_ahead: Places::new(settings.jobs),
            awaited: broadcast::Sender::new(AWAITED),
            waiting: Arc::new(Semaphore::new(WAITING)),
            ctx,
            settings,
            stop,
            urgent: AtomicUsize::new(0),
        }
    }

    /// A question to the database, with an end.
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, uploads::Error>>,
    ) -> Result<T, uploads::Error> {
        match tokio::time::timeout(DATABASE_TIMEOUT, question).await {
            Ok(answer) => answer,
            Err(_) => Err(uploads::Error::NoAnswer(DATABASE_TIMEOUT)),
        }
    }

    pub fn urgent(&self) -> Urgent<'_> {
        self.urgent.fetch_add(1, Ordering::Relaxed);
        Urgent(&self.urgent)
    }

    /// An upload waits for its end, and what is copied ahead gives way.
    pub fn has_urgent_work(&self) -> bool {
        self.urgent.load(Ordering::Relaxed) > 0
    }

    /// Comes a while after the worker was told to stop.
    pub async fn out_of_patience(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
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
pub enum JobError {
    #[error(transparent)]
    Orphans(#[from] orphans::Error),
    #[error(transparent)]
    Uploads(#[from] uploads::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}
