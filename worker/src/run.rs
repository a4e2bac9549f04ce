//! The loop that takes jobs, a bounded number at once, and lets the janitor look round.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use upflow_core::Context;
use upflow_core::lifecycle::Status;
use upflow_core::queue::{Consumer, Delivery, Job, QueueError};
use upflow_core::uploads;

use crate::config::WorkerSettings;
use crate::{assemble, cleanup, janitor};

/// The pause after the queue could not be read.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);
/// How often dead consumers are looked for.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);
/// How long jobs under way may still take once the worker is to stop; their leases then run out.
const DRAIN: Duration = Duration::from_secs(20);
/// Jobs waiting for another attempt in this process; one more is left to the janitor.
const WAITING: usize = 1_000;

/// What the tasks of a worker hold.
pub(crate) struct Worker {
    pub ctx: Context,
    pub settings: WorkerSettings,
    /// Bytes of memory for streamed parts.
    pub memory: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    pub stop: CancellationToken,
}

/// Works until `stop`; then hands back or ends what is in hand.
pub async fn run(ctx: Context, settings: WorkerSettings, stop: CancellationToken) {
    let worker = Arc::new(Worker {
        memory: Arc::new(Semaphore::new(settings.stream_memory)),
        waiting: Arc::new(Semaphore::new(WAITING)),
        ctx,
        settings,
        stop,
    });
    let tasks = TaskTracker::new();
    tasks.spawn(janitor::run(worker.clone()));
    take_jobs(&worker, &tasks).await;
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(jobs = tasks.len(), "stopped with jobs under way; others go on with them");
    }
}

async fn take_jobs(worker: &Arc<Worker>, tasks: &TaskTracker) {
    let jobs = Arc::new(Semaphore::new(worker.settings.jobs));
    while !worker.stop.is_cancelled() {
        let consumer = match worker.ctx.queue.consumer().await {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::error!(%error, "the queue cannot be reached");
                pause(worker, QUEUE_PAUSE).await;
                continue;
            }
        };
        let mut taker = Taker { worker, tasks, jobs: &jobs, consumer, broken: false };
        taker.take().await;
        taker.consumer.leave().await;
    }
}

struct Taker<'a> {
    worker: &'a Arc<Worker>,
    tasks: &'a TaskTracker,
    jobs: &'a Arc<Semaphore>,
    consumer: Consumer,
    /// The last read failed: told once, not at every try.
    broken: bool,
}

impl Taker<'_> {
    async fn take(&mut self) {
        let mut tidy = tokio::time::Instant::now() + TIDY_INTERVAL;
        loop {
            // First the place, then the job: what cannot be worked on is left to other workers.
            let permit = tokio::select! {
                permit = self.jobs.clone().acquire_owned() => permit,
                () = self.worker.stop.cancelled() => return,
            };
            let Ok(permit) = permit else { return };
            if tokio::time::Instant::now() >= tidy {
                tidy = tokio::time::Instant::now() + TIDY_INTERVAL;
                let tidied = self.consumer.tidy().await;
                for delivery in self.usable(tidied).await.unwrap_or_default() {
                    let permit = self.jobs.clone().acquire_owned().await;
                    self.start(delivery, permit.ok());
                }
            }
            let next = tokio::select! {
                next = self.consumer.next() => next,
                () = self.worker.stop.cancelled() => return,
            };
            if let Some(Some(delivery)) = self.usable(next).await {
                self.start(delivery, Some(permit));
            }
        }
    }

    async fn usable<T>(&mut self, answer: Result<T, QueueError>) -> Option<T> {
        match answer {
            Ok(answer) => {
                if std::mem::take(&mut self.broken) {
                    tracing::info!("the queue answers again");
                }
                Some(answer)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.broken, true) {
                    tracing::error!(%error, "the queue does not answer; the janitor goes on meanwhile");
                }
                pause(self.worker, QUEUE_PAUSE).await;
                None
            }
        }
    }

    fn start(&self, delivery: Delivery, permit: Option<OwnedSemaphorePermit>) {
        let worker = self.worker.clone();
        let consumer = self.consumer.name().to_owned();
        self.tasks.spawn(async move {
            let _permit = permit;
            work(&worker, delivery, &consumer).await;
        });
    }
}

/// Does what the upload needs, and acknowledges the job unless another attempt is due.
async fn work(worker: &Arc<Worker>, delivery: Delivery, consumer: &str) {
    let id = delivery.job.upload_id;
    let done = match uploads::find(&worker.ctx.db, id).await {
        Ok(upload) => match upload.status {
            Status::PendingAssembly => assemble::run(worker, id, &delivery, consumer).await,
            status if status.is_final() => cleanup::run(worker, id).await.map(|()| None),
            _ => Ok(None),
        },
        Err(uploads::Error::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(None) => {}
        Ok(Some(delay)) => again_after(worker, delivery.job, delay),
        // The janitor comes back to it.
        Err(error) => tracing::error!(upload.id = %id, %error, "a job was not done"),
    }
    if let Err(error) = delivery.done().await {
        tracing::warn!(upload.id = %id, %error, "a job was not acknowledged; it will come again");
    }
}

/// Announces the job once more, later, without holding a place. A worker that ends before leaves it to
/// the janitor.
fn again_after(worker: &Arc<Worker>, job: Job, delay: Duration) {
    let Ok(permit) = worker.waiting.clone().try_acquire_owned() else { return };
    let worker = worker.clone();
    tokio::spawn(async move {
        let _permit = permit;
        pause(&worker, delay).await;
        if !worker.stop.is_cancelled()
            && let Err(error) = worker.ctx.queue.push(job).await
        {
            tracing::debug!(%error, "the janitor will announce it");
        }
    });
}

pub(crate) async fn pause(worker: &Worker, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = worker.stop.cancelled() => {}
    }
}

/// An error that ends a job for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error(transparent)]
    Uploads(#[from] uploads::Error),
    #[error(transparent)]
    Storage(#[from] upflow_core::storage::StorageError),
}
