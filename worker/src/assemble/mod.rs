//! Assembly: from confirmed chunks to a final object that is whole.
//!
//! An attempt may end anywhere, by an error or by the end of the process; the next one goes on from what
//! the row says: the multipart upload, the parts that are in it, and the id that its object will carry.
//! Copying begins while the client still sends ([`ahead`]); what is in a part then is not copied again.

mod ahead;
mod finish;
mod parts;
mod settle;
mod stopped;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use upflow_core::checksum::{Algorithm, Checksum, Combiner};
use upflow_core::db::now;
use upflow_core::metrics::AssemblyOutcome;
use upflow_core::plan::Plan;
use upflow_core::queue::Delivery;
use upflow_core::storage::{Filename, ObjectKey, UploadedPart};
use upflow_core::uploads::{self, Chunk, Failure, Upload};
use uuid::Uuid;

use crate::cleanup;
use crate::lease::{self, Lease};
use crate::worker::{JobError, Worker};

pub(crate) use ahead::run as run_ahead;
use stopped::Stopped;

/// What an attempt works with.
struct Assembly<'a> {
    worker: &'a Worker,
    upload: &'a Upload,
    lease: Uuid,
    plan: Plan,
    filename: Filename,
    final_key: ObjectKey,
    /// By index: all of them, or, ahead of the end, those that are to be copied.
    chunks: BTreeMap<i32, ConfirmedChunk>,
    /// For copies that are under way at once.
    places: Arc<Semaphore>,
}

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
    let (lease, life) = (Uuid::new_v4(), worker.settings.lease);
    let claimed = worker.ask(uploads::claim(&worker.ctx.db, id, lease, life, now())).await?;
    let Some(upload) = claimed else {
        // If nobody hears it, nobody here copies ahead.
        let _ = worker.awaited.send(id);
        return Ok(None);
    };
    to_the_end(worker, upload, Lease::hold(worker, id, lease), delivery, consumer).await
}

/// Assembles an upload whose lease is held.
async fn to_the_end(
    worker: &Arc<Worker>,
    upload: Upload,
    lease: Lease,
    delivery: &Delivery,
    consumer: &str,
) -> Result<Option<Duration>, JobError> {
    let _urgent = worker.urgent();
    if upload.attempts > worker.settings.attempts {
        // Workers were killed over it, or could not even say how it went.
        return settle::give_up(worker, &upload, &lease, "no attempt came to an end").await;
    }
    let began = Instant::now();
    let ended = tokio::select! {
        ended = attempt(worker, &upload, lease.id) => ended,
        () = lease.lost.cancelled() => Err(Stopped::LeaseLost),
        () = worker.out_of_patience() => Err(Stopped::Halted),
        never = lease::keep(delivery, consumer) => match never {},
    };
    let outcome = match &ended {
        Ok(()) => AssemblyOutcome::Completed,
        Err(_) => AssemblyOutcome::NotCompleted,
    };
    worker.ctx.metrics.assembly(outcome, began.elapsed());
    match ended {
        Ok(()) => {
            drop(lease);
            tracing::info!(upload.id = %upload.upload_id, bytes = upload.file_size, "completed");
            worker.ctx.queue.tell(upload.upload_id).await;
            // Only now, with `completed` committed, may chunks go.
            cleanup::run(worker, upload.upload_id).await?;
            Ok(None)
        }
        Err(stopped) => settle::settle(worker, &upload, &lease, stopped).await,
    }
}

async fn attempt(worker: &Worker, upload: &Upload, lease: Uuid) -> Result<(), Stopped> {
    let rows = uploads::chunk_rows(&worker.ctx.db, upload.upload_id, None);
    let assembly = Assembly::new(worker, upload, lease, worker.ask(rows).await?)?;
    if assembly.chunks.len() != upload.total_chunks as usize {
        let (found, all) = (assembly.chunks.len(), upload.total_chunks);
        return Err(internal(format!("{found} of {all} chunks are confirmed")));
    }
    let checksum = assembly.combined();
    assembly.compare_with_the_clients_checksum(checksum)?;
    if assembly.chunks.is_empty() {
        return assembly.put_empty_file(checksum).await;
    }
    let (multipart, assembly_id) = assembly.multipart().await?;
    let all = assembly.plan.parts().collect();
    let parts = assembly.copy_parts(&multipart, all, || !worker.stop.is_cancelled()).await?;
    let checksum = match checksum {
        Some(checksum) => Some(checksum),
        None => {
            let checksum = assembly.combined_of_parts(&parts);
            assembly.compare_with_the_clients_checksum(checksum)?;
            checksum
        }
    };
    assembly.complete(&multipart, assembly_id, &parts, checksum).await
}

/// What cannot be, and will not go better by itself.
fn internal(detail: String) -> Stopped {
    let code = "internal_error".to_owned();
    Stopped::Refused(Failure { code, detail, chunk_indexes: Vec::new() })
}

impl<'a> Assembly<'a> {
    fn new(
        worker: &'a Worker,
        upload: &'a Upload,
        lease: Uuid,
        rows: Vec<Chunk>,
    ) -> Result<Self, Stopped> {
        let filename =
            Filename::parse(&upload.filename).map_err(|error| internal(error.to_string()))?;
        let upload_id = upload.upload_id;
        let algorithm = upload.checksum_algorithm;
        let chunks = rows.into_iter().filter_map(|row| {
            let index = row.chunk_index;
            confirmed_chunk(row, algorithm).map(|chunk| (index, chunk))
        });
        Ok(Self {
            final_key: ObjectKey::Final { upload_id, filename: filename.clone() },
            plan: upload.plan(),
            chunks: chunks.collect(),
            places: Arc::new(Semaphore::new(worker.settings.copies)),
            worker,
            upload,
            lease,
            filename,
        })
    }

    /// A chunk of a part that is to be made of it.
    fn chunk(&self, index: i32) -> Result<&ConfirmedChunk, Stopped> {
        self.chunks.get(&index).ok_or_else(|| internal(format!("chunk {index} is not confirmed")))
    }

    /// The checksum of the whole file, where every chunk's is known.
    fn combined(&self) -> Option<Checksum> {
        let mut whole = Combiner::new(self.upload.checksum_algorithm);
        for (index, chunk) in &self.chunks {
            whole.append(chunk.checksum?, self.plan.chunk_len(*index));
        }
        Some(whole.finish())
    }

    /// The same from the parts: of chunks that have none, S3 or we ourselves may know that of the part.
    fn combined_of_parts(&self, parts: &[UploadedPart]) -> Option<Checksum> {
        let algorithm = self.upload.checksum_algorithm;
        let mut whole = Combiner::new(algorithm);
        for (planned, part) in self.plan.parts().zip(parts) {
            whole.append(algorithm.parse(part.checksum.as_deref()?).ok()?, planned.len);
        }
        Some(whole.finish())
    }

    /// Before the object is made: a wrong final object must never exist.
    fn compare_with_the_clients_checksum(&self, ours: Option<Checksum>) -> Result<(), Stopped> {
        let Some(theirs) = self.upload.checksum.as_deref() else { return Ok(()) };
        match ours.map(|ours| ours.to_string()) {
            Some(ours) if ours != theirs => Err(Stopped::Refused(Failure {
                code: "checksum_mismatch".to_owned(),
                detail: format!(
                    "the chunks make a file with the {} {ours}, and init said {theirs}: send the chunks that differ again, then complete",
                    self.upload.checksum_algorithm
                ),
                chunk_indexes: Vec::new(),
            })),
            // Where it is unknown the level says that nothing was compared.
            _ => Ok(()),
        }
    }
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
