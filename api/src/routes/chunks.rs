//! Chunks: URLs to send them to, and confirming that they were sent.

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use upflow_core::Context;
use upflow_core::uploads as rows;
use uuid::Uuid;

use super::{Shared, Tag, presigned};
use crate::answer::Answer;
use crate::auth::Caller;
use crate::body::Body;
use crate::confirm::{confirm, confirm_one};
use crate::problem::Problem;
use crate::schema::{
    ConfirmChunks, ConfirmedChunk, ConfirmedChunks, PresignChunks, PresignedChunks, RejectedChunk,
    time,
};
use crate::validate;

pub struct Chunks;

#[OpenApi]
impl Chunks {
    /// Get URLs for chunks
    ///
    /// Each URL takes one PUT of exactly `size_bytes` with exactly `headers`, straight to S3. Ask again at
    /// any time for fresh ones.
    #[oai(
        path = "/uploads/:upload_id/chunks/presign",
        method = "post",
        operation_id = "presign_chunks",
        tag = "Tag::Chunks"
    )]
    async fn presign_chunks(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
        body: Body<PresignChunks>,
    ) -> Result<Answer<PresignedChunks>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        let declared = validate::chunks(
            &body.0.chunks,
            row.plan(),
            row.checksum_algorithm,
            state.clients.batch,
        )?;
        let (_, chunks) = presigned(ctx, upload_id.0, &declared).await?;
        Ok(Answer(PresignedChunks { chunks }))
    }

    /// Confirm a chunk
    ///
    /// Asks S3 whether the chunk is there, whole and with the checksum that was signed, and marks it.
    #[oai(
        path = "/uploads/:upload_id/chunks/:chunk_index",
        method = "put",
        operation_id = "confirm_chunk",
        tag = "Tag::Chunks"
    )]
    async fn confirm_chunk(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
        chunk_index: Path<i32>,
    ) -> Result<Answer<ConfirmedChunk>, Problem> {
        let confirmed = confirm_one(&state, upload_id.0, chunk_index.0).await?;
        Ok(Answer(ConfirmedChunk {
            chunk_index: confirmed.chunk.index,
            size_bytes: confirmed.chunk.size,
            checksum: confirmed.chunk.checksum,
            confirmed_at: time(confirmed.chunk.confirmed_at),
            status: confirmed.status.into(),
            uploaded_chunks_count: confirmed.count,
        }))
    }

    /// Confirm many chunks
    ///
    /// Like `confirm_chunk` for up to 1,000 chunks. The answer says of each index whether it is
    /// confirmed, or why not.
    #[oai(
        path = "/uploads/:upload_id/chunks/confirm",
        method = "post",
        operation_id = "confirm_chunks",
        tag = "Tag::Chunks"
    )]
    async fn confirm_chunks(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
        body: Body<ConfirmChunks>,
    ) -> Result<Answer<ConfirmedChunks>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        let indexes = body.0.chunks;
        validate::indexes(&indexes, row.plan(), state.clients.batch, |i| format!("/chunks/{i}"))?;
        let outcome = confirm(ctx, &row, &indexes).await?;
        let (status, count) = match outcome.now {
            Some(now) => now,
            None => (row.status, confirmed_count(ctx, row.upload_id).await?),
        };
        let rejected = outcome.rejected.into_iter().map(|rejected| RejectedChunk {
            chunk_index: rejected.index,
            code: rejected.code.name().to_owned(),
            detail: rejected.detail,
        });
        Ok(Answer(ConfirmedChunks {
            confirmed: outcome.confirmed.iter().map(|chunk| chunk.index).collect(),
            rejected: rejected.collect(),
            status: status.into(),
            uploaded_chunks_count: count,
        }))
    }
}

async fn confirmed_count(ctx: &Context, upload_id: Uuid) -> Result<i32, Problem> {
    let progress = rows::progress(&ctx.db, &[upload_id]).await?;
    Ok(progress.get(&upload_id).map_or(0, |progress| progress.confirmed as i32))
}
