//! Chunks: URLs to send them to, and confirming that they were sent.

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use upflow_core::Context;
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::uploads as rows;
use uuid::Uuid;

use super::{Shared, Tag, presigned};
use crate::announce::announce_confirmed;
use crate::auth::Caller;
use crate::body::Body;
use crate::problem::Problem;
use crate::schema::{
    ConfirmChunks, ConfirmedChunk, ConfirmedChunks, PresignChunks, PresignedChunks, RejectedChunk,
    time,
};
use crate::{validate, verify};

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
    ) -> Result<Json<PresignedChunks>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        let declared = validate::chunks(
            &body.0.chunks,
            row.plan(),
            row.checksum_algorithm,
            state.clients.batch,
        )?;
        let (_, chunks) = presigned(ctx, upload_id.0, &declared).await?;
        Ok(Json(PresignedChunks { chunks }))
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
    ) -> Result<Json<ConfirmedChunk>, Problem> {
        let ctx = &state.ctx;
        let (row, now) = (rows::find(&ctx.db, upload_id.0).await?, now());
        let index = chunk_index.0;
        validate::index(index, row.plan())?;
        if row.status == Status::PendingAssembly {
            return confirmed_before(ctx, &row, index).await;
        }
        takes_chunks(&row)?;
        let inspection = verify::inspect(ctx, &row, &[index]).await?;
        if let Some(rejected) = inspection.rejected.into_iter().next() {
            // A chunk that is gone since its upload has ended is not missing.
            takes_chunks(&rows::find(&ctx.db, row.upload_id).await?)?;
            return Err(Problem::new(rejected.code, rejected.detail));
        }
        let confirmed = match verify::confirm(ctx, &row, &inspection.seen, now).await {
            // Complete was faster.
            Err(Problem::Conflict(..)) => {
                return confirmed_before(ctx, &assembling(ctx, &row).await?, index).await;
            }
            confirmed => confirmed?,
        };
        announce_confirmed(ctx, &row, confirmed).await;
        let checksum = inspection.seen.into_iter().next().and_then(|seen| seen.checksum);
        Ok(Json(ConfirmedChunk {
            chunk_index: index,
            size_bytes: row.plan().chunk_len(index),
            checksum,
            confirmed_at: time(now),
            status: confirmed.status.into(),
            uploaded_chunks_count: confirmed.count as i32,
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
    ) -> Result<Json<ConfirmedChunks>, Problem> {
        let ctx = &state.ctx;
        let (row, now) = (rows::find(&ctx.db, upload_id.0).await?, now());
        let indexes = body.0.chunks;
        validate::indexes(&indexes, row.plan(), state.clients.batch, |i| format!("/chunks/{i}"))?;
        if row.status == Status::PendingAssembly {
            return all_confirmed_before(ctx, &row, indexes).await;
        }
        takes_chunks(&row)?;
        let inspection = verify::inspect(ctx, &row, &indexes).await?;
        let (status, count) = if inspection.seen.is_empty() {
            let progress = rows::progress(&ctx.db, &[row.upload_id]).await?;
            (row.status, progress.get(&row.upload_id).map_or(0, |progress| progress.confirmed))
        } else {
            match verify::confirm(ctx, &row, &inspection.seen, now).await {
                Err(Problem::Conflict(..)) => {
                    return all_confirmed_before(ctx, &assembling(ctx, &row).await?, indexes).await;
                }
                confirmed => {
                    let confirmed = confirmed?;
                    announce_confirmed(ctx, &row, confirmed).await;
                    (confirmed.status, confirmed.count)
                }
            }
        };
        let rejected = inspection.rejected.into_iter().map(|rejected| RejectedChunk {
            chunk_index: rejected.index,
            code: rejected.code.name().to_owned(),
            detail: rejected.detail,
        });
        Ok(Json(ConfirmedChunks {
            confirmed: inspection.seen.iter().map(|seen| seen.index).collect(),
            rejected: rejected.collect(),
            status: status.into(),
            uploaded_chunks_count: count as i32,
        }))
    }
}

/// The row of an upload that has moved on to its assembly meanwhile; an error where it has ended.
async fn assembling(ctx: &Context, row: &rows::Upload) -> Result<rows::Upload, Problem> {
    let row = rows::find(&ctx.db, row.upload_id).await?;
    match row.status_at(now()) {
        Status::PendingAssembly => Ok(row),
        status => Err(Problem::conflict(status)),
    }
}

/// Confirms nothing: the upload is being assembled, and has this chunk.
async fn confirmed_before(
    ctx: &Context,
    row: &rows::Upload,
    index: i32,
) -> Result<Json<ConfirmedChunk>, Problem> {
    let chunk = verify::already_confirmed(ctx, row, &[index]).await?.into_iter().next();
    let confirmed_at = chunk.as_ref().and_then(|chunk| chunk.confirmed_at);
    Ok(Json(ConfirmedChunk {
        chunk_index: index,
        size_bytes: row.plan().chunk_len(index),
        checksum: chunk.and_then(|chunk| chunk.checksum),
        confirmed_at: time(confirmed_at.unwrap_or(row.updated_at)),
        status: row.status.into(),
        // Nothing is pending that is not whole.
        uploaded_chunks_count: row.total_chunks,
    }))
}

async fn all_confirmed_before(
    ctx: &Context,
    row: &rows::Upload,
    indexes: Vec<i32>,
) -> Result<Json<ConfirmedChunks>, Problem> {
    verify::already_confirmed(ctx, row, &indexes).await?;
    Ok(Json(ConfirmedChunks {
        confirmed: indexes,
        rejected: Vec::new(),
        status: row.status.into(),
        uploaded_chunks_count: row.total_chunks,
    }))
}

/// Before S3 is asked; the lock looks again.
fn takes_chunks(row: &rows::Upload) -> Result<(), Problem> {
    let status = row.status_at(now());
    if status.takes_chunks() { Ok(()) } else { Err(Problem::conflict(status)) }
}
