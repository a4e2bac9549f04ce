//! Looks round now and then for what no message brings: uploads pending that nobody works on, uploads
//! past their life, ended uploads that may have left something, rows past their retention. Any number of
//! janitors may do so at once.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use upflow_core::Context;
use upflow_core::db::now;
use upflow_core::metrics::JanitorAction;
use upflow_core::queue::Job;
use upflow_core::seldom::Seldom;
use upflow_core::{orphans, uploads};
use uuid::Uuid;

use crate::cleanup;
use crate::config::WorkerSettings;
use crate::worker::{JobError, Worker};

/// Clean-ups under way at once.
const CLEANUPS: usize = 4;
const TRIALS_EVERY: Duration = Duration::from_secs(3_600);
/// Trials under way are younger.
const TRIAL: Duration = Duration::from_secs(600);
/// Portions of old rows that one round deletes at most.
const RETIREMENTS: usize = 50;

pub(crate) async fn run(worker: Arc<Worker>) {
    let mut broken = [false; 6];
    while !worker.stop.is_cancelled() {
        // One after the other, and none hinders the next.
        let steps = [
            ("announce", announce(&worker).await),
            ("expire", expire(&worker).await),
            ("clean up", clean_up(&worker).await),
            ("retire", retire(&worker).await),
            ("remove trials", remove_trials(&worker).await),
            ("count orphans", count_orphans(&worker).await),
        ];
        for ((step, outcome), broken) in steps.into_iter().zip(&mut broken) {
            match outcome {
                Ok(()) => *broken = false,
                Err(error) if !std::mem::replace(broken, true) => {
                    tracing::error!(step, %error, "the janitor could not do it; it tries again");
                }
                Err(_) => {}
            }
        }
        worker.pause(worker.settings.janitor_interval).await;
    }
}

/// A message that nobody has taken for as long as a lease lasts may be lost.
async fn announce(worker: &Arc<Worker>) -> Result<(), JobError> {
    let before = now() - worker.settings.lease;
    for upload_id in
        worker.ask(uploads::take_stale_assemblies(&worker.ctx.db, before, now())).await?
    {
        if worker.ctx.queue.push(Job { upload_id }).await.is_err() {
            // The queue says so itself; the rows come up again after as long.
            break;
        }
        worker.ctx.metrics.janitor(JanitorAction::Announced, 1);
    }
    Ok(())
}

async fn expire(worker: &Arc<Worker>) -> Result<(), JobError> {
    let db = &worker.ctx.db;
    for id in worker.ask(uploads::overdue(db, now())).await? {
        if worker.ask(uploads::expire(db, id, now())).await? {
            worker.ctx.metrics.janitor(JanitorAction::Expired, 1);
            tracing::info!(upload.id = %id, "expired");
            worker.ctx.queue.tell(id).await;
        }
    }
    Ok(())
}

async fn clean_up(worker: &Arc<Worker>) -> Result<(), JobError> {
    let due = worker.ask(uploads::to_clean(&worker.ctx.db, now())).await?;
    stream::iter(due)
        .take_until(worker.stop.cancelled())
        .for_each_concurrent(CLEANUPS, |id| async move {
            if let Err(error) = cleanup::run(worker, id).await {
                static SELDOM: Seldom = Seldom::new();
                if let Some(more) = SELDOM.again() {
                    tracing::warn!(upload.id = %id, %error, more, "not cleaned up yet");
                }
            }
        })
        .await;
    Ok(())
}

async fn retire(worker: &Arc<Worker>) -> Result<(), JobError> {
    let before = now() - worker.ctx.limits.retention;
    let mut rows = 0;
    for _ in 0..RETIREMENTS {
        match worker.ask(uploads::delete_retired(&worker.ctx.db, before)).await? {
            0 => break,
            deleted => rows += deleted,
        }
    }
    if rows > 0 {
        worker.ctx.metrics.janitor(JanitorAction::RowsDeleted, rows);
        tracing::info!(rows, "deleted the rows of uploads that ended long ago");
    }
    Ok(())
}

/// What a worker has left that was killed while it tried what the storage enforces.
async fn remove_trials(worker: &Arc<Worker>) -> Result<(), JobError> {
    let task = uploads::take_task(&worker.ctx.db, "remove_trials", TRIALS_EVERY, now());
    if worker.ask(task).await? {
        worker.ctx.storage.remove_trials(now() - TRIAL).await?;
    }
    Ok(())
}

/// One worker for all of them: it lists the whole bucket.
async fn count_orphans(worker: &Arc<Worker>) -> Result<(), JobError> {
    let every = worker.settings.orphan_interval;
    if every.is_zero() {
        return Ok(());
    }
    let task = uploads::take_task(&worker.ctx.db, "count_orphans", every, now());
    if !worker.ask(task).await? {
        return Ok(());
    }
    let found = tokio::select! {
        found = orphans::find(&worker.ctx) => found?,
        () = worker.stop.cancelled() => return Ok(()),
    };
    let uploads = found.len();
    let chunks: usize = found.values().map(|orphan| orphan.chunks).sum();
    let bytes: i64 = found.values().map(|orphan| orphan.bytes).sum();
    let multiparts: usize = found.values().map(|orphan| orphan.multiparts.len()).sum();
    if uploads > 0 {
        tracing::warn!(
            uploads,
            chunks,
            bytes,
            multiparts,
            "the bucket holds chunks of uploads that this database does not know; `upflow admin orphans` lists them"
        );
    }
    Ok(())
}

/// What a round would do now: each step, and the uploads it would do it to.
pub(crate) async fn plan(
    ctx: &Context,
    settings: &WorkerSettings,
) -> Result<Vec<(&'static str, Vec<Uuid>)>, JobError> {
    let (db, now) = (&ctx.db, now());
    Ok(vec![
        ("announce again", uploads::stale_assemblies(db, now - settings.lease, now).await?),
        ("expire", uploads::overdue(db, now).await?),
        ("clean up", uploads::to_clean(db, now).await?),
        ("delete the row of", uploads::retired(db, now - ctx.limits.retention).await?),
    ])
}
