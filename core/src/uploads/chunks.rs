//! The chunks of an upload, and what else clients do to it: ask for the assembly, take it back.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    FromQueryResult, QueryFilter, QueryOrder, Statement,
};
use serde_json::json;
use uuid::Uuid;

use super::at_once::{columns, moves};
use super::with_chunks::of_upload;
use super::{Error, Upload, WithChunks, apply, confirmed_chunks, lock, moves_at};
use crate::db::{self, Db};
use crate::entity::{chunk, session};
use crate::lifecycle::{Event, Status};

#[derive(Debug)]
pub enum Requested {
    /// The upload has moved to `pending_assembly`; a job is due.
    Moved(WithChunks),
    /// It was there, or completed, already.
    Already(WithChunks),
    /// Not all of its chunks are confirmed.
    Incomplete(WithChunks),
}

/// The chunk rows of these indexes (all of them where `None`), in order; rows that are only declared
/// are among them.
pub async fn chunk_rows<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
    indexes: Option<&[i32]>,
) -> Result<Vec<chunk::Model>, Error> {
    let mut query = chunk::Entity::find().filter(chunk::Column::UploadId.eq(id));
    query = match indexes {
        None => query,
        // One text for any number of them, so that it is prepared once.
        Some(indexes) if db.get_database_backend() == DbBackend::Postgres => {
            let array = indexes.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
            query.filter(Expr::cust_with_values(
                "chunk_index = ANY($1::integer[])",
                [format!("{{{array}}}")],
            ))
        }
        Some(indexes) => query.filter(chunk::Column::ChunkIndex.is_in(indexes.iter().copied())),
    };
    Ok(query.order_by_asc(chunk::Column::ChunkIndex).all(db).await?)
}

/// Takes the upload back, and says whether it had not been before. A worker that holds its lease loses it.
pub async fn abort(db: &Db, id: Uuid, now: DateTime<Utc>) -> Result<(Upload, bool), Error> {
    let tx = db::begin(db).await?;
    let mut upload = lock(&tx, id, LockType::Update).await?;
    if upload.status == Status::Aborted {
        return Ok((upload, false));
    }
    let free =
        session::ActiveModel { lease_id: Set(None), lease_until: Set(None), ..Default::default() };
    upload.status = apply(&tx, &upload, Event::Abort, None, now, free).await?;
    tx.commit().await?;
    upload.updated_at = moves_at(&upload, now);
    Ok((upload, true))
}

/// Ends the pause that an upload makes before its next attempt or clean-up, if it makes one.
pub async fn end_pause(db: &Db, id: Uuid) -> Result<(), Error> {
    session::Entity::update_many()
        .set(session::ActiveModel { lease_until: Set(None), ..Default::default() })
        .filter(session::Column::UploadId.eq(id))
        .filter(session::Column::LeaseId.is_null())
        .exec(db)
        .await?;
    Ok(())
}

/// Takes back the confirmation of chunks that S3 no longer has as they were: index and the ETag that
/// was seen missing. A chunk confirmed anew meanwhile has another ETag and stays.
pub async fn drop_chunks(
    db: &Db,
    id: Uuid,
    gone: &[(i32, String)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if gone.is_empty() {
        return Ok(());
    }
    let tx = db::begin(db).await?;
    let upload = lock(&tx, id, LockType::Update).await?;
    let dropped = unconfirm(&tx, id, gone).await?;
    if !dropped.is_empty() {
        let detail = format!("no longer in storage: {}", ranges(&dropped));
        apply(&tx, &upload, Event::DropChunk, Some(detail), now, Default::default()).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Makes rows unconfirmed where the ETag is still the one given; answers which. Where there are any, the session row
/// has to be changed too, see the module.
pub(super) async fn unconfirm(
    tx: &DatabaseTransaction,
    id: Uuid,
    gone: &[(i32, String)],
) -> Result<Vec<i32>, Error> {
    if tx.get_database_backend() == DbBackend::Postgres {
        let gone: Vec<_> = gone
            .iter()
            .map(|(index, etag)| json!({ "chunk_index": index, "etag": etag }))
            .collect();
        let values = [id.into(), json!(gone).to_string().into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, UNCONFIRM, values);
        let rows = tx.query_all_raw(statement).await?;
        let mut dropped = Vec::with_capacity(rows.len());
        for row in rows {
            dropped.push(row.try_get("", "chunk_index")?);
        }
        dropped.sort_unstable();
        return Ok(dropped);
    }
    let mut dropped = Vec::new();
    for (index, etag) in gone {
        let update = chunk::Entity::update_many()
            .set(chunk::ActiveModel {
                size: Set(None),
                etag: Set(None),
                checksum: Set(None),
                confirmed_at: Set(None),
                copied_etag: Set(None),
                part_etag: Set(None),
                part_checksum: Set(None),
                ..Default::default()
            })
            .filter(chunk::Column::UploadId.eq(id))
            .filter(chunk::Column::ChunkIndex.eq(*index))
            .filter(chunk::Column::Etag.eq(etag.as_str()));
        if update.exec(tx).await?.rows_affected == 1 {
            dropped.push(*index);
        }
    }
    Ok(dropped)
}

/// What [`unconfirm`] does, for any number of chunks: there may be thousands.
const UNCONFIRM: &str = "
    UPDATE upload_chunks SET
        size = NULL, etag = NULL, checksum = NULL, confirmed_at = NULL,
        copied_etag = NULL, part_etag = NULL, part_checksum = NULL
    FROM json_to_recordset($2::json) AS gone (chunk_index integer, etag text)
    WHERE upload_chunks.upload_id = $1
        AND upload_chunks.chunk_index = gone.chunk_index AND upload_chunks.etag = gone.etag
    RETURNING upload_chunks.chunk_index";

/// Moves the upload to `pending_assembly` when every chunk is confirmed.
pub async fn request_assembly(db: &Db, id: Uuid, now: DateTime<Utc>) -> Result<Requested, Error> {
    if db.get_database_backend() == DbBackend::Postgres {
        let Asked { moved, found } = request_at_once(db, id, now).await?;
        if moved {
            return Ok(Requested::Moved(found));
        }
        // Mostly since chunks are missing. Without a lock: whatever is said of it may change at once.
        if let Some(answer) = otherwise(&found, now)? {
            return Ok(answer(found));
        }
    }
    let tx = db::begin(db).await?;
    let upload = lock(&tx, id, LockType::Update).await?;
    let chunks = confirmed_chunks(&tx, id).await?;
    let found = WithChunks { upload, chunks };
    if let Some(answer) = otherwise(&found, now)? {
        return Ok(answer(found));
    }
    let WithChunks { upload, chunks } = found;
    let mut afresh =
        session::ActiveModel { attempts: Set(0), failure: Set(None), ..Default::default() };
    // A worker that copies ahead goes on to the end; a pause after an error ends here.
    if upload.lease_id.is_none() || upload.lease_until.is_none_or(|until| until <= now) {
        afresh.lease_id = Set(None);
        afresh.lease_until = Set(None);
    }
    let status = apply(&tx, &upload, Event::RequestAssembly, None, now, afresh).await?;
    tx.commit().await?;
    let updated_at = moves_at(&upload, now);
    let upload = Upload { status, failure: None, updated_at, ..upload };
    Ok(Requested::Moved(WithChunks { upload, chunks }))
}

/// The transaction of [`request_assembly`] as one statement, which answers the upload as it was where it has not moved.
static REQUEST: LazyLock<String> = LazyLock::new(|| {
    let condition = "AND before.total_chunks = (
        SELECT count(*) FROM upload_chunks WHERE upload_id = $1 AND confirmed_at IS NOT NULL
    )";
    // A worker that copies ahead goes on to the end; a pause after an error ends here.
    let kept = |column| {
        format!(
            "CASE WHEN before.lease_id IS NOT NULL AND before.lease_until > $2 THEN before.{column} END"
        )
    };
    let (lease_id, lease_until) = (kept("lease_id"), kept("lease_until"));
    let set = [
        ("attempts", "0"),
        ("failure", "NULL"),
        ("lease_id", &lease_id),
        ("lease_until", &lease_until),
    ];
    format!(
        "WITH {moves}, found AS (
            SELECT {moved}, TRUE AS moved FROM session
            UNION ALL
            SELECT {as_it_was}, FALSE FROM upload_sessions
            WHERE upload_id = $1 AND NOT EXISTS (SELECT FROM session)
        )
        SELECT {columns}, moved, {chunks} AS chunks FROM found",
        moves = moves(Event::RequestAssembly, "$3", condition, &set),
        moved = columns::<session::Entity>("session"),
        as_it_was = columns::<session::Entity>("upload_sessions"),
        columns = columns::<session::Entity>("found"),
        chunks = of_upload(DbBackend::Postgres, "$1"),
    )
});

#[derive(FromQueryResult)]
struct Asked {
    moved: bool,
    #[sea_orm(nested)]
    found: WithChunks,
}

async fn request_at_once(db: &Db, id: Uuid, now: DateTime<Utc>) -> Result<Asked, Error> {
    let values = [id.into(), now.into(), Uuid::now_v7().into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, REQUEST.as_str(), values);
    Asked::find_by_statement(statement).one(db).await?.ok_or(Error::NotFound)
}

/// One of the answers that an upload gets.
type Answer = fn(WithChunks) -> Requested;

/// What is to be said of an upload that does not move to its assembly; `None` where it does.
fn otherwise(found: &WithChunks, now: DateTime<Utc>) -> Result<Option<Answer>, Error> {
    let whole = found.chunks.indexes.len() == found.upload.total_chunks as usize;
    match found.upload.status_at(now) {
        Status::PendingAssembly | Status::Completed => Ok(Some(Requested::Already)),
        status if Event::RequestAssembly.apply(status).is_none() => Err(Error::Conflict(status)),
        _ if whole => Ok(None),
        _ => Ok(Some(Requested::Incomplete)),
    }
}

/// Writes ascending indexes as ranges, `0-3, 7`, for people.
pub(super) fn ranges(indexes: &[i32]) -> String {
    let mut text: Vec<String> = Vec::new();
    let mut rest = indexes;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(index, next)| *index == next).count();
        let last = rest[run - 1];
        text.push(if last == first { first.to_string() } else { format!("{first}-{last}") });
        rest = &rest[run..];
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn indexes_are_written_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3, 7, 9-10");
        assert_eq!(ranges(&[]), "");
    }
}
