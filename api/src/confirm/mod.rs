//! Confirming chunks: S3 is asked for them, what it shows is marked, and workers learn of it.

mod joint;
mod single;

use chrono::{DateTime, Utc};
use upflow_core::Context;
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::uploads::{self as rows, Upload};

use crate::announce::announce_confirmed;
use crate::problem::Problem;
use crate::verify::{self, Rejected};

pub use single::{Confirmation, confirm_one};

/// The calls for one chunk each that are under way.
pub type Confirms = joint::Joint<Confirmation>;

/// What became of the chunks of a confirm.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the order of their indexes.
    pub confirmed: Vec<Chunk>,
    pub rejected: Vec<Rejected>,
    /// Where the upload now stands and how many of its chunks are confirmed; `None` where nothing has changed.
    pub now: Option<(Status, i32)>,
}

/// A confirmed chunk.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub index: i32,
    pub size: i64,
    pub checksum: Option<String>,
    pub confirmed_at: DateTime<Utc>,
}

/// Confirms these chunks of an upload as it was just read. While it is being assembled, chunks that are confirmed
/// already are answered as such.
pub async fn confirm(ctx: &Context, upload: &Upload, indexes: &[i32]) -> Result<Outcome, Problem> {
    if upload.status == Status::PendingAssembly {
        return confirmed_before(ctx, upload, indexes).await;
    }
    takes_chunks(upload)?;
    let at = now();
    let inspection = verify::inspect(ctx, upload, indexes).await?;
    if inspection.seen.is_empty() {
        return Ok(Outcome { rejected: inspection.rejected, ..Outcome::default() });
    }
    let confirmed = match verify::confirm(ctx, upload, &inspection.seen, at).await {
        // Complete was faster.
        Err(Problem::Conflict(..)) => {
            return confirmed_before(ctx, &assembling(ctx, upload).await?, indexes).await;
        }
        confirmed => confirmed?,
    };
    announce_confirmed(ctx, upload, confirmed, &inspection.seen).await;
    let chunks = inspection.seen.into_iter().map(|seen| Chunk {
        index: seen.index,
        size: seen.size,
        checksum: seen.checksum,
        confirmed_at: at,
    });
    Ok(Outcome {
        confirmed: chunks.collect(),
        rejected: inspection.rejected,
        now: Some((confirmed.status, confirmed.count as i32)),
    })
}

/// Before S3 is asked; the lock looks again.
pub fn takes_chunks(upload: &Upload) -> Result<(), Problem> {
    let status = upload.status_at(now());
    if status.takes_chunks() { Ok(()) } else { Err(Problem::conflict(status)) }
}

/// The row of an upload that has moved on to its assembly meanwhile; an error where it has ended.
async fn assembling(ctx: &Context, upload: &Upload) -> Result<Upload, Problem> {
    let row = rows::find(&ctx.db, upload.upload_id).await?;
    match row.status_at(now()) {
        Status::PendingAssembly => Ok(row),
        status => Err(Problem::conflict(status)),
    }
}

/// Confirms nothing: the upload is being assembled, and has these chunks.
async fn confirmed_before(
    ctx: &Context,
    upload: &Upload,
    indexes: &[i32],
) -> Result<Outcome, Problem> {
    let mut chunks = rows::chunk_rows(&ctx.db, upload.upload_id, Some(indexes)).await?;
    chunks.retain(|chunk| chunk.confirmed_at.is_some());
    if chunks.len() < indexes.len() {
        return Err(Problem::conflict(Status::PendingAssembly));
    }
    let chunks = chunks.into_iter().map(|chunk| Chunk {
        index: chunk.chunk_index,
        size: upload.plan().chunk_len(chunk.chunk_index),
        checksum: chunk.checksum,
        confirmed_at: chunk.confirmed_at.unwrap_or(upload.updated_at),
    });
    // Nothing is pending that is not whole.
    let now = Some((upload.status, upload.total_chunks));
    Ok(Outcome { confirmed: chunks.collect(), rejected: Vec::new(), now })
}
