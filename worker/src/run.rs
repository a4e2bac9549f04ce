//! The loop that takes jobs, a bounded number at once, and lets the janitor look round.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};
use upflow_core::Context;
use upflow_core::lifecycle::Status;
use upflow_core::queue::{Consumer, Delivery, Job, QueueError};
use upflow_core::seldom::Seldom;
use upflow_core::trace::{self, TARGET};
use upflow_core::uploads::{self, Upload};

use crate::config::WorkerSettings;
use crate::worker::{JobError, Worker};
use crate::{assemble, cleanup, janitor};

/// The pause after the queue could not be read.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);
/// How often dead consumers are looked for.
const TAKE_OVER_INTERVAL: Duration = Duration::from_secs(30);
/// How long jobs under way may still take once the worker is to stop; their leases then run out.
const DRAIN: Duration = Duration::from_secs(20);

/// Works until `stop`; then hands back or ends what is in hand.
pub async fn run(ctx: Context, settings: WorkerSettings, stop: CancellationToken) {
    let worker = Arc::new(Worker::new(ctx, settings, stop));
    let tasks = TaskTracker::new();
    tasks.spawn(janitor::run(worker.clone()));
    let consumer = take_jobs(&worker, &tasks).await;
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(jobs = tasks.len(), "stopped with jobs under way; others go on with them");
    }
    // Last, since the jobs acknowledge their messages as this consumer.
    if let Some(consumer) = consumer {
        consumer.leave().await;
    }
}

/// Takes jobs until the worker is to stop.
async fn take_jobs(worker: &Arc<Worker>, tasks: &TaskTracker) -> Option<Consumer> {
    let jobs = Arc::new(Semaphore::new(worker.settings.jobs));
    while !worker.stop.is_cancelled() {
        match worker.ctx.queue.consumer().await {
            Ok(consumer) => {
                let mut taker = Taker { worker, tasks, jobs: &jobs, consumer, broken: false };
                taker.take().await;
                return Some(taker.consumer);
            }
            Err(error) => {
                tracing::error!(%error, "the queue cannot be reached");
                worker.pause(QUEUE_PAUSE).await;
            }
        }
    }
    None
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
        let mut take_over = tokio::time::Instant::now() + TAKE_OVER_INTERVAL;
        loop {
            // First the place, then the job: what cannot be worked on is left to other workers.
            let permit = tokio::select! {
                permit = self.jobs.clone().acquire_owned() => permit,
                () = self.worker.stop.cancelled() => return,
            };
            let Ok(permit) = permit else { return };
            if tokio::time::Instant::now() >= take_over {
                let taken_over = self.consumer.take_over().await;
                if let Some(Some(delivery)) = self.usable(taken_over).await {
                    // There may be more.
                    self.start(delivery, permit);
                    continue;
                }
                take_over = tokio::time::Instant::now() + TAKE_OVER_INTERVAL;
            }
            let next = tokio::select! {
                next = self.consumer.next() => next,
                () = self.worker.stop.cancelled() => return,
            };
            if let Some(Some(delivery)) = self.usable(next).await {
                self.start(delivery, permit);
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
                self.worker.pause(QUEUE_PAUSE).await;
                None
            }
        }
    }

    fn start(&self, delivery: Delivery, permit: OwnedSemaphorePermit) {
        let worker = self.worker.clone();
        let consumer = self.consumer.name().to_owned();
        self.tasks.spawn(async move {
            work(&worker, delivery, &consumer, permit).await;
        });
    }
}

/// Does what the upload needs, and acknowledges the job unless another attempt is due.
async fn work(
    worker: &Arc<Worker>,
    delivery: Delivery,
    consumer: &str,
    place: OwnedSemaphorePermit,
) {
    let id = delivery.job.upload_id;
    let done = match worker.ask(uploads::find(&worker.ctx.db, id)).await {
        Ok(upload) => by_status(worker, &upload, &delivery, consumer, place).await,
        Err(uploads::Error::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(None) => {}
        Ok(Some(delay)) => again_after(worker, delivery.job, delay),
        // The janitor comes back to it.
        Err(error) => {
            static SELDOM: Seldom = Seldom::new();
            if let Some(more) = SELDOM.again() {
                tracing::error!(upload.id = %id, %error, more, "a job was not done");
            }
        }
    }
    static SELDOM: Seldom = Seldom::new();
    if let Err(error) = delivery.done().await
        && let Some(more) = SELDOM.again()
    {
        tracing::warn!(more, upload.id = %id, %error, "a job was not acknowledged; it will come again");
    }
}

async fn by_status(
    worker: &Arc<Worker>,
    upload: &Upload,
    delivery: &Delivery,
    consumer: &str,
    place: OwnedSemaphorePermit,
) -> Result<Option<Duration>, JobError> {
    let id = upload.upload_id;
    match upload.status {
        Status::PendingAssembly => {
            let span = span("assemble", upload, delivery);
            assemble::run(worker, id, delivery, consumer).instrument(span).await
        }
        status if status.is_final() => {
            let span = span("clean up", upload, delivery);
            cleanup::run(worker, id).instrument(span).await.map(|()| None)
        }
        Status::Uploading if worker.ctx.limits.eager => {
            let span = span("copy ahead", upload, delivery);
            copy_ahead(worker, upload, delivery, consumer, place).instrument(span).await
        }
        _ => Ok(None),
    }
}

/// The span of a job in the trace of its upload.
fn span(name: &'static str, upload: &Upload, delivery: &Delivery) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "job",
        otel.name = name,
        otel.kind = "consumer",
        upload.id = %upload.upload_id,
        queued_ms = delivery.waited.map(|waited| waited.as_millis() as u64),
    );
    trace::follow(&span, upload.traceparent.as_deref(), None);
    span
}

/// In a place of its own kind: those of uploads that wait for their end stay free. Without one, it is left
/// to a later confirm, or to the end.
async fn copy_ahead(
    worker: &Arc<Worker>,
    upload: &Upload,
    delivery: &Delivery,
    consumer: &str,
    place: OwnedSemaphorePermit,
) -> Result<Option<Duration>, JobError> {
    let id = upload.upload_id;
    let places = match upload.plan().copies_inside_s3() {
        true => &worker.ahead,
        false => &worker.streamed_ahead,
    };
    let mut taken = places.take(id);
    drop(place);
    while let Some(place) = taken {
        let again_after = assemble::run_ahead(worker, id, delivery, consumer).await?;
        if again_after.is_some() {
            return Ok(again_after);
        }
        taken = place.leave();
    }
    Ok(None)
}

/// Announces the job once more, later, without holding a place. A worker that ends before leaves it to
/// the janitor.
fn again_after(worker: &Arc<Worker>, job: Job, delay: Duration) {
    let Ok(permit) = worker.waiting.clone().try_acquire_owned() else { return };
    let worker = worker.clone();
    tokio::spawn(async move {
        let _permit = permit;
        worker.pause(delay).await;
        if !worker.stop.is_cancelled()
            && let Err(error) = worker.ctx.queue.push(job).await
        {
            tracing::debug!(%error, "the janitor will announce it");
        }
    });
}
