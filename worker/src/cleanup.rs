//! What an ended upload leaves in the bucket: its multipart uploads, its chunks, and, unless it was
//! completed, its final object. Done at once when it ends, and again once no URL can be alive that
//! could re-create a chunk; every step may be repeated.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::metrics::JanitorAction;
use upflow_core::storage::{Filename, ObjectKey, chunks, finals};
use upflow_core::uploads::{self, Upload};
use uuid::Uuid;

use crate::lease::Lease;
use crate::worker::{JobError, Worker};

/// The slowest line, in bytes a second, over which a chunk may still be on its way when its URL ends.
const SLOWEST_LINE: i64 = 64 * 1024;

pub(crate) async fn run(worker: &Arc<Worker>, id: Uuid) -> Result<(), JobError> {
    let ctx = &worker.ctx;
    let lease = Uuid::new_v4();
    let life = worker.settings.lease;
    let claimed = uploads::claim_cleanup(&ctx.db, id, lease, life, now());
    let Some(upload) = worker.ask(claimed).await? else { return Ok(()) };
    let lease = Lease::hold(worker, id, lease);
    let began = now();
    let removed = tokio::select! {
        removed = remove(worker, &upload) => removed?,
        () = lease.lost.cancelled() => return Ok(()),
    };
    if removed > 0 {
        tracing::info!(upload.id = %id, objects = removed, status = %upload.status, "cleaned up");
    }
    ctx.metrics.janitor(JanitorAction::CleanedUp, 1);
    let again_at = again_at(&upload, worker.settings.cleanup_grace);
    worker.ask(uploads::cleaned(&ctx.db, &upload, lease.id, again_at, began, now())).await?;
    Ok(())
}

/// When nothing can land any more: a chunk sent to a URL that was alive when its PUT began, or the last
/// call of a worker that did not know yet that the upload had ended.
fn again_at(upload: &Upload, grace: Duration) -> DateTime<Utc> {
    let on_its_way = upload.plan().chunk_len(0) / SLOWEST_LINE;
    let last = upload.urls_expire_at.max(upload.updated_at);
    last + grace + Duration::from_secs(on_its_way.unsigned_abs())
}

async fn remove(worker: &Worker, upload: &Upload) -> Result<usize, JobError> {
    let storage = &worker.ctx.storage;
    let id = upload.upload_id;
    // First what could still make a final object.
    abort_multiparts(worker, upload).await?;
    let mut removed = 0;
    if upload.status != Status::Completed {
        removed += storage.delete_all(&finals(id)).await?;
    }
    removed += storage.delete_all(&chunks(id)).await?;
    Ok(removed)
}

/// Aborts every multipart upload to the final object, known to the row or not.
pub(crate) async fn abort_multiparts(worker: &Worker, upload: &Upload) -> Result<(), JobError> {
    let storage = &worker.ctx.storage;
    let Some(key) = final_key(upload) else { return Ok(()) };
    // By the whole key: some servers take the prefix for nothing else.
    for multipart in storage.list_multiparts(&key.to_string(), None).await?.uploads {
        // What begins with this key may go on.
        if multipart.key == key.to_string() {
            storage.abort_multipart(&key, &multipart.upload_id).await?;
        }
    }
    if let Some(multipart) = &upload.multipart_upload_id {
        storage.abort_multipart(&key, multipart).await?;
    }
    Ok(())
}

fn final_key(upload: &Upload) -> Option<ObjectKey> {
    let filename = Filename::parse(&upload.filename).ok()?;
    Some(ObjectKey::Final { upload_id: upload.upload_id, filename })
}
