//! What becomes of an upload after an attempt that did not end with a final object.

use std::time::Duration;

use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::queue::Job;
use upflow_core::seldom::Seldom;
use upflow_core::uploads::{self, Failure, Upload};
use uuid::Uuid;

use super::stopped::{Setback, Stopped};
use crate::cleanup;
use crate::lease::Lease;
use crate::worker::{JobError, Worker};

/// The first pause after a failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Attempts after which is given up what S3 refuses, rather than fails to do.
const REFUSALS: i32 = 10;

pub(super) async fn settle(
    worker: &Worker,
    upload: &Upload,
    lease: &Lease,
    stopped: Stopped,
) -> Result<Option<Duration>, JobError> {
    let (db, id) = (&worker.ctx.db, upload.upload_id);
    let life = worker.ctx.limits.upload_life;
    // Nothing of what follows may be done to an upload that somebody else holds.
    let renewed = uploads::renew(db, id, lease.id, worker.settings.lease, now());
    if !worker.ask(renewed).await? {
        tracing::info!(upload.id = %id, "the upload has passed to somebody else or has ended");
        return Ok(None);
    }
    match stopped {
        Stopped::LeaseLost => Ok(None),
        Stopped::Uploads(error) => Err(error.into()),
        Stopped::Halted => hand_over(worker, id, lease).await,
        Stopped::ChunksLost(lost) => {
            let current = worker.ask(uploads::find(db, id)).await?;
            if current.status == Status::PendingAssembly {
                cleanup::abort_multiparts(worker, &current).await?;
            }
            let told = uploads::lose_chunks(db, id, lease.id, &lost, life, now());
            if !worker.ask(told).await? {
                // The client was faster than the copy.
                return Ok(Some(FIRST_PAUSE));
            }
            tracing::warn!(upload.id = %id, chunks = lost.len(), "confirmed chunks were gone or changed");
            worker.ctx.queue.tell(id).await;
            Ok(None)
        }
        Stopped::Refused(failure) => {
            tracing::warn!(upload.id = %id, failure.code, failure.detail, "failed");
            abort_multiparts(worker, id).await?;
            fail(worker, id, lease, failure).await
        }
        Stopped::MultipartGone(why) => {
            let anew = uploads::set_multipart(db, id, lease.id, None, Uuid::new_v4());
            worker.ask(anew).await?;
            let setback = Setback { why, retry_after: None, outage: false };
            try_again(worker, id, lease, setback).await
        }
        Stopped::Transient(setback) => try_again(worker, id, lease, setback).await,
    }
}

/// Leaves the upload to another worker, and tells them at once.
async fn hand_over(worker: &Worker, id: Uuid, lease: &Lease) -> Result<Option<Duration>, JobError> {
    let why = "the worker was told to stop".to_owned();
    let handed = uploads::hand_back(&worker.ctx.db, id, lease.id, now(), why, false, now());
    worker.ask(handed).await?;
    Ok(worker.ctx.queue.push(Job { upload_id: id }).await.err().map(|_| Duration::ZERO))
}

/// Hands the upload back for another attempt, or gives up after the last one.
async fn try_again(
    worker: &Worker,
    id: Uuid,
    lease: &Lease,
    setback: Setback,
) -> Result<Option<Duration>, JobError> {
    let db = &worker.ctx.db;
    let Setback { why, retry_after, outage } = setback;
    let most = worker.settings.attempts;
    let most = if outage { most } else { most.min(REFUSALS) };
    // Read again: an attempt that brought parts along has begun the count anew.
    let upload = worker.ask(uploads::find(db, id)).await?;
    if upload.attempts >= most {
        return give_up(worker, &upload, lease, &why).await;
    }
    static SELDOM: Seldom = Seldom::new();
    // Each attempt is an event of its upload; the log has an outage once.
    if let Some(more) = SELDOM.again() {
        tracing::warn!(upload.id = %id, attempt = upload.attempts, why, more, "will try again");
    }
    let pause = pause(upload.attempts, retry_after);
    let handed = uploads::hand_back(db, id, lease.id, now() + pause, why, true, now());
    worker.ask(handed).await?;
    Ok(Some(pause))
}

fn pause(attempts: i32, retry_after: Option<Duration>) -> Duration {
    let doublings = attempts.clamp(1, 10).unsigned_abs() - 1;
    let pause = (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE);
    pause.max(retry_after.unwrap_or_default())
}

pub(super) async fn give_up(
    worker: &Worker,
    upload: &Upload,
    lease: &Lease,
    why: &str,
) -> Result<Option<Duration>, JobError> {
    let id = upload.upload_id;
    tracing::error!(upload.id = %id, attempts = upload.attempts, why, "gave up");
    if let Err(error) = abort_multiparts(worker, id).await {
        tracing::warn!(upload.id = %id, %error, "its parts stay until the upload is cleaned up");
    }
    let failure = Failure {
        code: "assembly_failed".to_owned(),
        detail: "the storage did not allow it in many attempts; the chunks are kept, so complete may be called again"
            .to_owned(),
        chunk_indexes: Vec::new(),
    };
    fail(worker, id, lease, failure).await
}

async fn fail(
    worker: &Worker,
    id: Uuid,
    lease: &Lease,
    failure: Failure,
) -> Result<Option<Duration>, JobError> {
    let db = &worker.ctx.db;
    let life = worker.ctx.limits.upload_life;
    // Another assembly: what this one made, if anything, counts for nothing once chunks may change.
    worker.ask(uploads::set_multipart(db, id, lease.id, None, Uuid::new_v4())).await?;
    worker.ask(uploads::give_up(db, id, lease.id, failure, life, now())).await?;
    worker.ctx.queue.tell(id).await;
    Ok(None)
}

/// What the next assembly must not find: this one's parts.
async fn abort_multiparts(worker: &Worker, id: Uuid) -> Result<(), JobError> {
    let current = worker.ask(uploads::find(&worker.ctx.db, id)).await?;
    cleanup::abort_multiparts(worker, &current).await
}
