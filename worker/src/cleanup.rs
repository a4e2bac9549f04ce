//! What an ended upload leaves in the bucket: its multipart uploads, its chunks, and, unless it was
//! completed, its final object. Done at once when it ends, and again once no URL can be alive that
//! could re-create a chunk; every step may be repeated.

use std::sync::Arc;
use std::time::Duration;

use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::storage::{Filename, ObjectKey, chunks, finals};
use upflow_core::uploads::{self, Upload};
use uuid::Uuid;

use crate::lease::Lease;
use crate::worker::{JobError, Worker};

/// A PUT that began just before its URL ended may land this much later.
const STRAGGLER: Duration = Duration::from_secs(15 * 60);

pub(crate) async fn run(worker: &Arc<Worker>, id: Uuid) -> Result<(), JobError> {
    let ctx = &worker.ctx;
    let lease = Uuid::new_v4();
    let life = worker.settings.lease;
    let Some(upload) = uploads::claim_cleanup(&ctx.db, id, lease, life, now()).await? else {
        return Ok(());
    };
    let lease = Lease::hold(worker, id, lease);
    let removed = tokio::select! {
        removed = remove(worker, &upload) => removed?,
        () = lease.lost.cancelled() => return Ok(()),
    };
    if removed > 0 {
        tracing::info!(upload.id = %id, objects = removed, status = %upload.status, "cleaned up");
    }
    let urls_dead_at = upload.urls_expire_at + straggler(&upload);
    uploads::cleaned(&ctx.db, &upload, lease.id, urls_dead_at, now()).await?;
    Ok(())
}

/// Nothing can straggle where no URL was ever signed.
fn straggler(upload: &Upload) -> Duration {
    if upload.urls_expire_at > upload.created_at { STRAGGLER } else { Duration::ZERO }
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
    let id = upload.upload_id;
    for (key, multipart) in storage.list_multiparts(&finals(id)).await? {
        if let Some(key) = final_key(id, &key) {
            storage.abort_multipart(&key, &multipart).await?;
        }
    }
    if let (Some(multipart), Some(key)) = (&upload.multipart_upload_id, own_final_key(upload)) {
        storage.abort_multipart(&key, multipart).await?;
    }
    Ok(())
}

fn own_final_key(upload: &Upload) -> Option<ObjectKey> {
    let filename = Filename::parse(&upload.filename).ok()?;
    Some(ObjectKey::Final { upload_id: upload.upload_id, filename })
}

fn final_key(upload_id: Uuid, key: &str) -> Option<ObjectKey> {
    let filename = Filename::parse(key.strip_prefix(&finals(upload_id))?).ok()?;
    Some(ObjectKey::Final { upload_id, filename })
}
