//! Which chunks are in which parts of the multipart upload: what a worker has still to copy, and what it writes down
//! as it does.

use std::sync::LazyLock;

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    FromQueryResult, QueryFilter, Statement,
};
use serde::Serialize;
use uuid::Uuid;

use super::assembly::locked;
use super::at_once::columns;
use super::{Chunk, Error};
use crate::db::{self, Db, DbErr};
use crate::entity::{chunk, session};
use crate::lifecycle::Status;
use crate::plan::Plan;

/// A chunk whose bytes are in a part of the multipart upload.
#[derive(Debug, Clone, Serialize)]
pub struct CopiedPart {
    #[serde(rename = "chunk_index")]
    pub index: i32,
    /// The ETag of the chunk that was copied.
    #[serde(rename = "copied_etag")]
    pub etag: String,
    pub part_etag: String,
    pub part_checksum: Option<String>,
}

/// How an upload stands, and what can be copied of it.
#[derive(Debug)]
pub struct ToCopy {
    pub status: Status,
    /// Confirmed chunks that are in no part of the final object yet, in order.
    pub chunks: Vec<Chunk>,
}

/// What can be copied: the chunks of whole parts, of which there are at most `limit`. A worker asks this again and
/// again, so how the upload stands comes in the same round trip.
pub async fn to_copy(db: &Db, id: Uuid, plan: &Plan, limit: u64) -> Result<ToCopy, Error> {
    let limit = (limit as i64).into();
    let (sql, values) = match plan.chunks_per_part() {
        1 => (SINGLE_CHUNKS.as_str(), vec![id.into(), limit]),
        per_part => {
            let last = (plan.total_chunks - 1).max(0) / per_part;
            let of_last = i64::from(plan.total_chunks - last * per_part);
            let values = vec![id.into(), limit, per_part.into(), last.into(), of_last.into()];
            (WHOLE_PARTS.as_str(), values)
        }
    };
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = Row::find_by_statement(statement).all(db).await?;
    let status = rows.first().ok_or(Error::NotFound)?.status;
    Ok(ToCopy { status, chunks: rows.into_iter().filter_map(|row| row.chunk).collect() })
}

/// Without a chunk where there is nothing to copy.
#[derive(FromQueryResult)]
struct Row {
    status: Status,
    #[sea_orm(nested)]
    chunk: Option<Chunk>,
}

/// Where a part is one chunk.
static SINGLE_CHUNKS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT status, {columns} FROM upload_sessions LEFT JOIN (
            SELECT * FROM upload_chunks
            WHERE upload_id = $1 AND confirmed_at IS NOT NULL AND {UNCOPIED}
            ORDER BY chunk_index LIMIT $2
        ) AS chunks ON TRUE
        WHERE upload_sessions.upload_id = $1 ORDER BY chunk_index",
        columns = columns::<chunk::Entity>("chunks"),
    )
});

/// The chunks of parts all of whose chunks are confirmed and in no part. What is in no whole part may be much more,
/// where a client sends in another order than that of the file.
static WHOLE_PARTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH whole AS (
            SELECT part FROM (
                SELECT chunk_index / $3 AS part, count(*) AS confirmed FROM upload_chunks
                WHERE upload_id = $1 AND confirmed_at IS NOT NULL AND {UNCOPIED}
                GROUP BY 1
            ) AS open
            WHERE confirmed = $3 OR (part = $4 AND confirmed = $5)
            ORDER BY part LIMIT $2
        )
        SELECT status, {columns} FROM upload_sessions LEFT JOIN (
            SELECT * FROM upload_chunks
            WHERE upload_id = $1 AND chunk_index / $3 IN (SELECT part FROM whole)
        ) AS chunks ON TRUE
        WHERE upload_sessions.upload_id = $1 ORDER BY chunk_index",
        columns = columns::<chunk::Entity>("chunks"),
    )
});

const UNCOPIED: &str = "(copied_etag IS NULL OR copied_etag <> etag)";

/// Keeps which chunks are in which parts; only where the chunk is still the one that was copied. Whatever
/// ended the attempts before, it goes on: they are counted anew.
pub async fn record_parts(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    parts: Vec<CopiedPart>,
) -> Result<(), Error> {
    if parts.is_empty() {
        return Ok(());
    }
    if db.get_database_backend() == DbBackend::Postgres {
        return record_at_once(db, id, lease, &parts).await;
    }
    let tx = db::begin(db).await?;
    locked(&tx, id, lease).await?;
    let rows = parts.into_iter().map(|part| chunk::ActiveModel {
        upload_id: Set(id),
        chunk_index: Set(part.index),
        copied_etag: Set(Some(part.etag)),
        part_etag: Set(Some(part.part_etag)),
        part_checksum: Set(part.part_checksum),
        ..Default::default()
    });
    session::Entity::update_many()
        .set(session::ActiveModel { attempts: Set(1), ..Default::default() })
        .filter(session::Column::UploadId.eq(id))
        .filter(session::Column::Attempts.gt(1))
        .exec(&tx)
        .await?;
    // The rows are there, since the chunks were confirmed: this is an UPDATE of many rows in one go.
    chunk::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([chunk::Column::UploadId, chunk::Column::ChunkIndex])
                .update_columns([
                    chunk::Column::CopiedEtag,
                    chunk::Column::PartEtag,
                    chunk::Column::PartChecksum,
                ])
                .action_and_where(Expr::cust("upload_chunks.etag = excluded.copied_etag"))
                .to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
    Ok(tx.commit().await?)
}

/// The transaction of `record_parts` as one statement, and so one round trip instead of five. A row
/// that somebody else changes meanwhile is waited for and looked at again, so neither a lost lease nor a chunk
/// sent anew is written over. The rows are there, since the chunks were confirmed; so asked for, each is looked up
/// by its key, where an UPDATE that joins would have PostgreSQL read all chunks of the upload.
const AT_ONCE: &str = "
    WITH session AS (
        SELECT upload_id FROM upload_sessions WHERE upload_id = $1 AND lease_id = $2 FOR UPDATE
    ), counted_anew AS (
        UPDATE upload_sessions SET attempts = 1 FROM session
        WHERE upload_sessions.upload_id = session.upload_id AND attempts > 1
    ), copied AS (
        INSERT INTO upload_chunks (upload_id, chunk_index, copied_etag, part_etag, part_checksum)
        SELECT $1, copied.chunk_index, copied.copied_etag, copied.part_etag, copied.part_checksum
        FROM session, json_to_recordset($3::json)
            AS copied (chunk_index integer, copied_etag text, part_etag text, part_checksum text)
        ORDER BY copied.chunk_index
        ON CONFLICT (upload_id, chunk_index) DO UPDATE SET
            copied_etag = excluded.copied_etag, part_etag = excluded.part_etag,
            part_checksum = excluded.part_checksum
        WHERE upload_chunks.etag = excluded.copied_etag
    )
    SELECT upload_id FROM session";

async fn record_at_once(db: &Db, id: Uuid, lease: Uuid, parts: &[CopiedPart]) -> Result<(), Error> {
    let json = serde_json::to_string(parts).map_err(|error| DbErr::Json(error.to_string()))?;
    let values = [id.into(), lease.into(), json.into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, AT_ONCE, values);
    match db.query_one_raw(statement).await? {
        Some(_) => Ok(()),
        None => Err(Error::LeaseLost),
    }
}

/// Parts of another multipart upload count no longer.
pub(super) async fn forget_copies(tx: &DatabaseTransaction, id: Uuid) -> Result<(), Error> {
    chunk::Entity::update_many()
        .set(chunk::ActiveModel {
            copied_etag: Set(None),
            part_etag: Set(None),
            part_checksum: Set(None),
            ..Default::default()
        })
        .filter(chunk::Column::UploadId.eq(id))
        .filter(chunk::Column::CopiedEtag.is_not_null())
        .exec(tx)
        .await?;
    Ok(())
}
