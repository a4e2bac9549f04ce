//! Assembly: from confirmed chunks to a final object that is whole.
//!
//! An attempt may end anywhere, by an error or by the end of the process; the next one goes on from what
//! the row says: the multipart upload, the parts that are in it, and the id that its object will carry.

mod finish;
mod parts;

use std::sync::Arc;
use std::time::Duration;

use upflow_core::checksum::{Algorithm, Checksum, Combiner};
use upflow_core::db::now;
use upflow_core::plan::Plan;
use upflow_core::queue::Delivery;
use upflow_core::storage::{ErrorKind, Filename, ObjectKey, StorageError};
use upflow_core::uploads::{self, Chunk, Failure, Upload};
use uuid::Uuid;

use crate::cleanup;
use crate::lease::{self, Lease};
use crate::worker::{JobError, Worker};

/// The first pause after a failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Attempts after which is given up what S3 refuses, rather than fails to do.
const REFUSALS: i32 = 10;

/// Why an attempt did not end with a final object.
#[derive(Debug)]
enum Stopped {
    /// It may go better later.
    Transient(Setback),
    /// The multipart upload is gone, or can no longer be used: its parts count for nothing.
    MultipartGone(String),
    /// These confirmed chunks, with the ETags they had, are gone or changed.
    ChunksLost(Vec<(i32, String)>),
    /// It will not go better until the client does something.
    Refused(Failure),
    /// The upload has passed to somebody else, or has ended.
    LeaseLost,
    Uploads(uploads::Error),
}

/// What held an attempt up.
#[derive(Debug)]
struct Setback {
    why: String,
    retry_after: Option<Duration>,
    /// S3, or the way to it, is to blame: that can last, and says nothing of the upload.
    outage: bool,
}

impl Stopped {
    fn transient(why: impl Into<String>) -> Self {
        Stopped::Transient(Setback { why: why.into(), retry_after: None, outage: false })
    }
}

impl From<uploads::Error> for Stopped {
    fn from(error: uploads::Error) -> Self {
        match error {
            uploads::Error::LeaseLost | uploads::Error::NotFound => Stopped::LeaseLost,
            error => Stopped::Uploads(error),
        }
    }
}

impl From<StorageError> for Stopped {
    fn from(error: StorageError) -> Self {
        Stopped::Transient(Setback {
            why: error.to_string(),
            retry_after: error.retry_after,
            outage: error.is_outage(),
        })
    }
}

/// What an attempt works with.
struct Assembly<'a> {
    worker: &'a Worker,
    upload: &'a Upload,
    lease: Uuid,
    plan: Plan,
    filename: Filename,
    final_key: ObjectKey,
    chunks: Vec<ConfirmedChunk>,
    /// Of the whole file, where every chunk's is known.
    checksum: Option<Checksum>,
}

/// A confirmed chunk, its index being its place.
struct ConfirmedChunk {
    etag: String,
    checksum: Option<Checksum>,
    /// Its client gave a checksum and S3 has the same.
    declared: bool,
    /// In a part already: the part's ETag and checksum.
    part: Option<(String, Option<String>)>,
}

/// Assembles the upload if nobody else does. `Some(delay)`: another attempt is due after that.
pub(crate) async fn run(
    worker: &Arc<Worker>,
    id: Uuid,
    delivery: &Delivery,
    consumer: &str,
) -> Result<Option<Duration>, JobError> {
    let (db, lease) = (&worker.ctx.db, Uuid::new_v4());
    let claimed = uploads::claim(db, id, lease, worker.settings.lease, now()).await?;
    let Some(upload) = claimed else { return Ok(None) };
    let lease = Lease::hold(worker, id, lease);
    if upload.attempts > worker.settings.attempts {
        // Workers were killed over it, or could not even say how it went.
        return give_up(worker, &upload, &lease, "no attempt came to an end").await;
    }
    let ended = tokio::select! {
        ended = attempt(worker, &upload, lease.id) => ended,
        () = lease.lost.cancelled() => Err(Stopped::LeaseLost),
        () = worker.stop.cancelled() => {
            let why = "the worker was told to stop".to_owned();
            uploads::hand_back(db, id, lease.id, now(), why, false, now()).await?;
            // Announced for the others at once.
            return Ok(worker.ctx.queue.push(delivery.job).await.err().map(|_| Duration::ZERO));
        }
        never = lease::keep(delivery, consumer) => match never {},
    };
    match ended {
        Ok(()) => {
            drop(lease);
            tracing::info!(upload.id = %id, bytes = upload.file_size, "completed");
            // Only now, with `completed` committed, may chunks go.
            cleanup::run(worker, id).await?;
            Ok(None)
        }
        Err(stopped) => settle(worker, &upload, &lease, stopped).await,
    }
}

async fn settle(
    worker: &Worker,
    upload: &Upload,
    lease: &Lease,
    stopped: Stopped,
) -> Result<Option<Duration>, JobError> {
    let (ctx, id) = (&worker.ctx, upload.upload_id);
    let life = ctx.limits.upload_life;
    // Nothing of what follows may be done to an upload that somebody else holds.
    if !uploads::renew(&ctx.db, id, lease.id, worker.settings.lease, now()).await? {
        tracing::info!(upload.id = %id, "the upload has passed to somebody else or has ended");
        return Ok(None);
    }
    match stopped {
        Stopped::LeaseLost => Ok(None),
        Stopped::Uploads(error) => Err(error.into()),
        Stopped::ChunksLost(lost) => {
            tracing::warn!(upload.id = %id, chunks = lost.len(), "confirmed chunks were gone or changed");
            abort_multiparts(worker, upload).await?;
            uploads::lose_chunks(&ctx.db, id, lease.id, &lost, life, now()).await?;
            Ok(None)
        }
        Stopped::Refused(failure) => {
            tracing::warn!(upload.id = %id, failure.code, failure.detail, "failed");
            abort_multiparts(worker, upload).await?;
            // Another assembly: what this one made, if anything, counts for nothing.
            uploads::set_multipart(&ctx.db, id, lease.id, None, Uuid::new_v4()).await?;
            uploads::give_up(&ctx.db, id, lease.id, failure, life, now()).await?;
            Ok(None)
        }
        Stopped::MultipartGone(why) => {
            uploads::set_multipart(&ctx.db, id, lease.id, None, Uuid::new_v4()).await?;
            try_again(worker, upload, lease, Setback { why, retry_after: None, outage: false })
                .await
        }
        Stopped::Transient(setback) => try_again(worker, upload, lease, setback).await,
    }
}

/// Hands the upload back for another attempt, or gives up after the last one.
async fn try_again(
    worker: &Worker,
    upload: &Upload,
    lease: &Lease,
    setback: Setback,
) -> Result<Option<Duration>, JobError> {
    let (db, id) = (&worker.ctx.db, upload.upload_id);
    let Setback { why, retry_after, outage } = setback;
    let most = worker.settings.attempts;
    let most = if outage { most } else { most.min(REFUSALS) };
    // Read again: an attempt that brought parts along has begun the count anew.
    let attempts = uploads::find(db, id).await?.attempts;
    if attempts >= most {
        return give_up(worker, upload, lease, &why).await;
    }
    tracing::warn!(upload.id = %id, attempt = attempts, why, "will try again");
    let doublings = attempts.clamp(1, 10).unsigned_abs() - 1;
    let pause = (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE);
    let pause = pause.max(retry_after.unwrap_or_default());
    uploads::hand_back(db, id, lease.id, now() + pause, why, true, now()).await?;
    Ok(Some(pause))
}

async fn give_up(
    worker: &Worker,
    upload: &Upload,
    lease: &Lease,
    why: &str,
) -> Result<Option<Duration>, JobError> {
    let (ctx, id) = (&worker.ctx, upload.upload_id);
    tracing::error!(upload.id = %id, attempts = upload.attempts, why, "gave up");
    let failure = Failure {
        code: "assembly_failed".to_owned(),
        detail: "the storage did not allow it in many attempts; the chunks are kept, so complete may be called again"
            .to_owned(),
        chunk_indexes: Vec::new(),
    };
    let life = ctx.limits.upload_life;
    uploads::give_up(&ctx.db, id, lease.id, failure, life, now()).await?;
    Ok(None)
}

/// What the next assembly must not find: this one's parts.
async fn abort_multiparts(worker: &Worker, upload: &Upload) -> Result<(), JobError> {
    let current = uploads::find(&worker.ctx.db, upload.upload_id).await?;
    cleanup::abort_multiparts(worker, &current).await
}

async fn attempt(worker: &Worker, upload: &Upload, lease: Uuid) -> Result<(), Stopped> {
    let assembly = prepare(worker, upload, lease).await?;
    assembly.compare_with_the_clients_checksum()?;
    // An attempt before this one may have got as far as the final object. It is one of these chunks only
    // if each is in a part as it is now: one that was sent anew since then is in none.
    if let Some(assembly_id) = upload.assembly_id
        && assembly.chunks.iter().all(|chunk| chunk.part.is_some())
        && let Some(found) = assembly.look(assembly_id).await?
    {
        return assembly.finish(found).await;
    }
    if assembly.plan.total_chunks == 0 {
        return assembly.put_empty_file().await;
    }
    let (multipart, assembly_id) = assembly.multipart().await?;
    let parts = assembly.copy_parts(&multipart).await?;
    assembly.complete(&multipart, assembly_id, &parts).await
}

async fn prepare<'a>(
    worker: &'a Worker,
    upload: &'a Upload,
    lease: Uuid,
) -> Result<Assembly<'a>, Stopped> {
    let id = upload.upload_id;
    let algorithm = upload.checksum_algorithm;
    let rows = uploads::chunk_rows(&worker.ctx.db, id, None).await?;
    let chunks: Vec<ConfirmedChunk> =
        rows.into_iter().filter_map(|row| confirmed_chunk(row, algorithm)).collect();
    let broken = |detail: String| {
        Stopped::Refused(Failure {
            code: "internal_error".into(),
            detail,
            chunk_indexes: Vec::new(),
        })
    };
    if chunks.len() != upload.total_chunks as usize {
        let detail = format!("{} of {} chunks are confirmed", chunks.len(), upload.total_chunks);
        return Err(broken(detail));
    }
    let filename = Filename::parse(&upload.filename).map_err(|error| broken(error.to_string()))?;
    let plan = upload.plan();
    Ok(Assembly {
        final_key: ObjectKey::Final { upload_id: id, filename: filename.clone() },
        checksum: combined(&chunks, plan, algorithm),
        worker,
        upload,
        lease,
        plan,
        filename,
        chunks,
    })
}

fn confirmed_chunk(row: Chunk, algorithm: Algorithm) -> Option<ConfirmedChunk> {
    row.confirmed_at?;
    let etag = row.etag?;
    let declared = row.declared_checksum.is_some()
        && row
            .checksum
            .as_ref()
            .is_none_or(|checksum| Some(checksum) == row.declared_checksum.as_ref());
    let checksum = row.checksum.or(row.declared_checksum.filter(|_| declared));
    let copied = row.copied_etag.as_ref() == Some(&etag);
    Some(ConfirmedChunk {
        checksum: checksum.and_then(|text| algorithm.parse(&text).ok()),
        declared,
        part: row.part_etag.filter(|_| copied).map(|part| (part, row.part_checksum)),
        etag,
    })
}

fn combined(chunks: &[ConfirmedChunk], plan: Plan, algorithm: Algorithm) -> Option<Checksum> {
    let mut whole = Combiner::new(algorithm);
    for (index, chunk) in chunks.iter().enumerate() {
        whole.append(chunk.checksum?, plan.chunk_len(index as i32));
    }
    Some(whole.finish())
}

impl Assembly<'_> {
    /// Before anything is made: a wrong final object must never exist.
    fn compare_with_the_clients_checksum(&self) -> Result<(), Stopped> {
        let Some(theirs) = self.upload.checksum.as_deref() else { return Ok(()) };
        match self.checksum.map(|ours| ours.to_string()) {
            Some(ours) if ours != theirs => Err(Stopped::Refused(Failure {
                code: "checksum_mismatch".to_owned(),
                detail: format!(
                    "the chunks make a file with the {} {ours}, and init said {theirs}: send the chunks that differ again, then complete",
                    self.upload.checksum_algorithm
                ),
                chunk_indexes: Vec::new(),
            })),
            // Where a chunk's is unknown the level says that nothing was compared.
            _ => Ok(()),
        }
    }
}

/// A storage error of a copy, by what it means for the assembly.
fn copy_error(error: StorageError, index: i32, etag: &str) -> Stopped {
    match error.kind {
        ErrorKind::Precondition | ErrorKind::NotFound => {
            Stopped::ChunksLost(vec![(index, etag.to_owned())])
        }
        ErrorKind::NoSuchUpload => Stopped::MultipartGone(error.to_string()),
        _ => error.into(),
    }
}
