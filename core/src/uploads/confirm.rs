//! Confirming: chunks that S3 has shown are marked as there.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, LockType, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    FromQueryResult, PaginatorTrait, QueryFilter, Statement, Value,
};
use serde::Serialize;
use uuid::Uuid;

use super::at_once::{is_one_of, moves};
use super::{Error, Upload, apply, lock};
use crate::db::{self, Db, DbErr};
use crate::entity::{chunk, session};
use crate::lifecycle::{Event, Status};

/// A chunk as S3 has just shown it, right in size and checksum.
#[derive(Debug, Clone, Serialize)]
pub struct SeenChunk {
    #[serde(rename = "chunk_index")]
    pub index: i32,
    pub size: i64,
    pub etag: String,
    pub checksum: Option<String>,
    /// It was confirmed before, as it is.
    #[serde(skip)]
    pub known: bool,
}

/// The upload after a confirm.
#[derive(Debug, Clone, Copy)]
pub struct Confirmed {
    pub status: Status,
    pub count: i64,
    /// No worker holds the upload: one that is to copy ahead must be told.
    pub unattended: bool,
}

impl Confirmed {
    fn new(count: i64, lease_until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let unattended = lease_until.is_none_or(|until| until <= now);
        Self { status: Status::Uploading, count, unattended }
    }
}

/// Marks chunks as confirmed. `upload` is the session as it was read before S3 was asked: while it is
/// `uploading` and its life fresh, a shared lock is enough, and parallel confirms do not wait for one
/// another.
pub async fn confirm(
    db: &Db,
    upload: &Upload,
    seen: &[SeenChunk],
    life: Duration,
    now: DateTime<Utc>,
) -> Result<Confirmed, Error> {
    let changes = |u: &Upload| u.status != Status::Uploading || u.life_is_worn(now, life);
    let seen = in_order(seen);
    if db.get_database_backend() == DbBackend::Postgres {
        let (id, expires_at, fresh) = (upload.upload_id, now + life, Upload::fresh_life(now, life));
        if changes(upload) {
            let moving = vec![expires_at.into(), Uuid::now_v7().into(), fresh.into()];
            if let Some(confirmed) = confirm_at_once(db, id, &seen, &MOVING, moving, now).await? {
                return Ok(confirmed);
            }
        }
        // Or another confirm has changed it meanwhile.
        let shared = vec![fresh.into()];
        if let Some(confirmed) = confirm_at_once(db, id, &seen, &SHARED, shared, now).await? {
            return Ok(confirmed);
        }
    }
    let mut how = if changes(upload) { LockType::Update } else { LockType::Share };
    loop {
        let tx = db::begin(db).await?;
        let upload = lock(&tx, upload.upload_id, how).await?;
        let status = upload.status_at(now);
        if !status.takes_chunks() {
            return Err(Error::Conflict(status));
        }
        if how == LockType::Share && changes(&upload) {
            tx.rollback().await?;
            how = LockType::Update;
            continue;
        }
        if changes(&upload) {
            let expires_at = Set(upload.expires_at.max(now + life));
            let slid = session::ActiveModel { expires_at, ..Default::default() };
            apply(&tx, &upload, Event::ConfirmChunk, None, now, slid).await?;
        }
        write_seen(&tx, upload.upload_id, &seen, now).await?;
        let count = count(&tx, upload.upload_id).await?;
        tx.commit().await?;
        return Ok(Confirmed::new(count, upload.lease_until, now));
    }
}

/// One order for everybody, so that two confirms of the same chunks cannot deadlock.
fn in_order(seen: &[SeenChunk]) -> Vec<&SeenChunk> {
    let mut rows: Vec<&SeenChunk> = seen.iter().collect();
    rows.sort_by_key(|chunk| chunk.index);
    rows.dedup_by_key(|chunk| chunk.index);
    rows
}

/// The transaction of `confirm` as one statement where nothing of the session changes.
static SHARED: LazyLock<String> = LazyLock::new(|| {
    confirming(&format!(
        "session AS (
            SELECT lease_until FROM upload_sessions
            WHERE upload_id = $1 AND {uploading} AND expires_at >= $4 AND expires_at > $2 FOR SHARE
        )",
        uploading = is_one_of("status", &[Status::Uploading]),
    ))
});

/// And where it moves on, or has its life slid; not where another confirm has just done so.
static MOVING: LazyLock<String> = LazyLock::new(|| {
    let changes = "AND (before.status <> 'uploading' OR before.expires_at < $6)";
    let set = [("expires_at", "GREATEST(before.expires_at, $4)")];
    confirming(&moves(Event::ConfirmChunk, "$5", changes, &set))
});

/// The text is the same for any number of chunks, so it is prepared once a connection. What it reads is as it was
/// before it: so many were confirmed, and those of `seen` that were not are so now; what others confirm at the same
/// time may not be counted yet. Each of `seen` is looked up by itself; of a join PostgreSQL makes a scan of all chunks
/// of the upload, for one as for a thousand.
fn confirming(session: &str) -> String {
    format!(
        "WITH {session}, seen AS (
            SELECT * FROM json_to_recordset($3::json)
                AS seen (chunk_index integer, size bigint, etag text, checksum text)
        ), written AS (
            INSERT INTO upload_chunks (upload_id, chunk_index, size, etag, checksum, confirmed_at)
            SELECT $1, seen.chunk_index, seen.size, seen.etag, seen.checksum, $2 FROM session, seen
            ORDER BY seen.chunk_index
            ON CONFLICT (upload_id, chunk_index) DO UPDATE SET
                size = excluded.size, etag = excluded.etag, checksum = excluded.checksum,
                confirmed_at = excluded.confirmed_at,
                copied_etag = CASE WHEN upload_chunks.etag = excluded.etag THEN upload_chunks.copied_etag END,
                part_etag = CASE WHEN upload_chunks.etag = excluded.etag THEN upload_chunks.part_etag END,
                part_checksum = CASE WHEN upload_chunks.etag = excluded.etag THEN upload_chunks.part_checksum END
            RETURNING chunk_index
        )
        SELECT lease_until, (SELECT count(*) FROM written) + (
            SELECT COALESCE(sum(confirmed), 0) FROM upload_counts WHERE upload_id = $1
        ) - (
            SELECT count((
                SELECT before.confirmed_at FROM upload_chunks AS before
                WHERE before.upload_id = $1 AND before.chunk_index = seen.chunk_index
            )) FROM seen
        ) AS count FROM session"
    )
}

#[derive(FromQueryResult)]
struct AtOnce {
    lease_until: Option<DateTime<Utc>>,
    count: i64,
}

/// `None`: what has to be done to the session is something else, or it does not allow it.
async fn confirm_at_once(
    db: &Db,
    id: Uuid,
    seen: &[&SeenChunk],
    sql: &str,
    of_the_session: Vec<Value>,
    now: DateTime<Utc>,
) -> Result<Option<Confirmed>, Error> {
    let json = serde_json::to_string(seen).map_err(|error| DbErr::Json(error.to_string()))?;
    let values = [id.into(), now.into(), json.into()].into_iter().chain(of_the_session);
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let row = AtOnce::find_by_statement(statement).one(db).await?;
    Ok(row.map(|row| Confirmed::new(row.count, row.lease_until, now)))
}

async fn write_seen(
    tx: &DatabaseTransaction,
    id: Uuid,
    seen: &[&SeenChunk],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if seen.is_empty() {
        return Ok(());
    }
    let rows = seen.iter().map(|seen| chunk::ActiveModel {
        upload_id: Set(id),
        chunk_index: Set(seen.index),
        size: Set(Some(seen.size)),
        etag: Set(Some(seen.etag.clone())),
        checksum: Set(seen.checksum.clone()),
        confirmed_at: Set(Some(now)),
        ..Default::default()
    });
    // A copy made of other bytes is no copy of this chunk.
    let keep = |column: &'static str| {
        Expr::cust(format!(
            "CASE WHEN upload_chunks.etag = excluded.etag THEN upload_chunks.{column} END"
        ))
    };
    chunk::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([chunk::Column::UploadId, chunk::Column::ChunkIndex])
                .update_columns([
                    chunk::Column::Size,
                    chunk::Column::Etag,
                    chunk::Column::Checksum,
                    chunk::Column::ConfirmedAt,
                ])
                .value(chunk::Column::CopiedEtag, keep("copied_etag"))
                .value(chunk::Column::PartEtag, keep("part_etag"))
                .value(chunk::Column::PartChecksum, keep("part_checksum"))
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn count<C: ConnectionTrait>(db: &C, id: Uuid) -> Result<i64, Error> {
    let count = chunk::Entity::find()
        .filter(chunk::Column::UploadId.eq(id))
        .filter(chunk::Column::ConfirmedAt.is_not_null())
        .count(db)
        .await?;
    Ok(count as i64)
}
