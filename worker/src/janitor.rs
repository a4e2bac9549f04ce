//! Looks round now and then for what no message brings: uploads pending that nobody works on, uploads
//! past their life, ended uploads that may have left something, rows past their retention. Any number of
//! janitors may do so at once.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use upflow_core::db::now;
use upflow_core::queue::Job;
use upflow_core::uploads;

use crate::cleanup;
use crate::worker::{JobError, Worker};

pub(crate) async fn run(worker: Arc<Worker>) {
    let mut broken = false;
    while !worker.stop.is_cancelled() {
        match round(&worker, &worker.stop).await {
            Ok(()) => broken = false,
            Err(error) if !broken => {
                tracing::error!(%error, "the janitor could not look round; it tries again");
                broken = true;
            }
            Err(_) => {}
        }
        worker.pause(worker.settings.janitor_interval).await;
    }
}

async fn round(worker: &Arc<Worker>, stop: &CancellationToken) -> Result<(), JobError> {
    let db = &worker.ctx.db;
    // A message that nobody has taken for as long as a lease lasts may be lost.
    let before = now() - worker.settings.lease;
    for upload_id in uploads::stale_assemblies(db, before, now()).await? {
        if worker.ctx.queue.push(Job { upload_id }).await.is_err() {
            // The queue says so itself; the rows are still there at the next round.
            break;
        }
    }
    for id in uploads::overdue(db, now()).await? {
        if uploads::expire(db, id, now()).await? {
            tracing::info!(upload.id = %id, "expired");
        }
    }
    for id in uploads::to_clean(db, now()).await? {
        if stop.is_cancelled() {
            return Ok(());
        }
        if let Err(error) = cleanup::run(worker, id).await {
            tracing::warn!(upload.id = %id, %error, "not cleaned up yet");
        }
    }
    let retired = uploads::delete_retired(db, now() - worker.ctx.limits.retention).await?;
    if retired > 0 {
        tracing::info!(rows = retired, "deleted the rows of uploads that ended long ago");
    }
    Ok(())
}
