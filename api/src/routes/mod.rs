//! The operations, one file a resource, and what all of them share.

pub mod chunks;
pub mod docs;
pub mod downloads;
pub mod health;
pub mod operators;
pub mod pages;
pub mod uploads;

use std::sync::Arc;

use poem_openapi::Tags;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use upflow_core::Context;
use upflow_core::db::now;
use upflow_core::storage::{ObjectKey, Signer};
use upflow_core::uploads::{self as rows, Declared, WithChunks};
use uuid::Uuid;

use crate::auth::{Access, Pace};
use crate::confirm::Confirms;
use crate::limits::ClientLimits;
use crate::problem::Problem;
use crate::schema::{PresignedChunk, Progress, Upload};
use crate::waiting::Waiting;

#[derive(Tags)]
pub enum Tag {
    /// Begin an upload, look at it, complete it or take it back.
    Uploads,
    /// Get URLs for chunks, and say that chunks were sent.
    Chunks,
    /// Get the finished file.
    Downloads,
    /// See what happened, and mend it.
    Operators,
}

/// What the operations hold.
pub struct State {
    pub ctx: Context,
    /// Bounds the long polls; one more is answered at once.
    pub polls: Semaphore,
    pub waiting: Waiting,
    pub shutdown: CancellationToken,
    pub access: Access,
    pub clients: ClientLimits,
    pub pace: Pace,
    pub sight: health::Sight,
    pub confirms: Confirms,
}

pub type Shared = Arc<State>;

/// How many long polls one server holds: each holds a connection, and others want some too.
pub const MAX_POLLS: usize = 6_000;

/// The row as clients see it, with its chunks.
async fn shown(ctx: &Context, upload: rows::Upload) -> Result<Upload, Problem> {
    let chunks = rows::confirmed_chunks(&ctx.db, upload.upload_id).await?;
    Ok(WithChunks { upload, chunks }.into())
}

impl From<WithChunks> for Upload {
    fn from(found: WithChunks) -> Self {
        let WithChunks { upload, chunks } = found;
        let plan = upload.plan();
        let progress = Progress {
            confirmed: chunks.indexes.len() as i64,
            confirmed_bytes: chunks.indexes.iter().map(|index| plan.chunk_len(*index)).sum(),
            assembled: chunks.copied,
            indexes: Some(chunks.indexes),
        };
        Upload::new(upload, progress, now())
    }
}

/// Notes what is declared, then signs: a URL is never out before the row knows how long it lives. Answers
/// the row as it then is, too.
async fn presigned(
    ctx: &Context,
    upload_id: Uuid,
    declared: &[Declared],
) -> Result<(rows::Upload, Vec<PresignedChunk>), Problem> {
    let now = now();
    let limits = &ctx.limits;
    let signer = ctx.storage.signer(now).await?;
    let upload =
        rows::declare(&ctx.db, upload_id, declared, limits.url_life, limits.upload_life, now)
            .await?;
    let chunks = signed(ctx, &signer, &upload, declared)?;
    Ok((upload, chunks))
}

/// URLs for chunks that the row knows of.
fn signed(
    ctx: &Context,
    signer: &Signer<'_>,
    upload: &rows::Upload,
    declared: &[Declared],
) -> Result<Vec<PresignedChunk>, Problem> {
    let (plan, upload_id, life) = (upload.plan(), upload.upload_id, ctx.limits.url_life);
    let mut chunks = Vec::with_capacity(declared.len());
    for Declared { index, checksum } in declared {
        let key = ObjectKey::Chunk { upload_id, index: *index };
        let len = plan.chunk_len(*index);
        let signed = signer.put_chunk(&key, len, *checksum, life, upload.expires_at)?;
        chunks.push(PresignedChunk::new(*index, len, signed));
    }
    Ok(chunks)
}
