//! What clients do to an upload: ask for URLs, ask for the assembly, take it back.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, LockType, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    QueryFilter, QueryOrder, QuerySelect, Statement,
};
use serde_json::json;
use uuid::Uuid;

use super::confirm::count;
use super::{Error, Upload, apply, lock};
use crate::checksum::Checksum;
use crate::db::{self, Db};
use crate::entity::{chunk, session};
use crate::lifecycle::{Event, Status};

/// The checksum that a client wants signed into the URL of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    pub index: i32,
    pub checksum: Option<Checksum>,
}

#[derive(Debug)]
pub enum Requested {
    /// The upload has moved to `pending_assembly`; a job is due.
    Moved(Upload),
    /// It was there, or completed, already.
    Already(Upload),
    /// These chunks are not confirmed.
    Incomplete(Vec<i32>),
}

/// Before URLs are handed out: notes what is declared for each chunk, slides the upload's life and
/// keeps how long the longest of its URLs lives. Answers the session as it now is.
pub async fn declare(
    db: &Db,
    id: Uuid,
    declared: &[Declared],
    url_life: Duration,
    life: Duration,
    now: DateTime<Utc>,
) -> Result<Upload, Error> {
    let tx = db::begin(db).await?;
    let mut upload = lock(&tx, id, LockType::Update).await?;
    let status = upload.status_at(now);
    if !status.takes_chunks() {
        return Err(Error::Conflict(status));
    }
    upload.expires_at = upload.expires_at.max(now + life);
    upload.urls_expire_at = upload.urls_expire_at.max(now + url_life);
    upload.updated_at = now;
    session::Entity::update_many()
        .set(session::ActiveModel {
            expires_at: Set(upload.expires_at),
            urls_expire_at: Set(upload.urls_expire_at),
            updated_at: Set(now),
            ..Default::default()
        })
        .filter(session::Column::UploadId.eq(id))
        .exec(&tx)
        .await?;
    write_declared(&tx, id, declared).await?;
    tx.commit().await?;
    Ok(upload)
}

/// Keeps what is declared of each chunk, over what was declared before.
pub(super) async fn write_declared(
    tx: &DatabaseTransaction,
    id: Uuid,
    declared: &[Declared],
) -> Result<(), Error> {
    let without: Vec<i32> =
        declared.iter().filter(|d| d.checksum.is_none()).map(|d| d.index).collect();
    if !without.is_empty() {
        chunk::Entity::update_many()
            .set(chunk::ActiveModel { declared_checksum: Set(None), ..Default::default() })
            .filter(chunk::Column::UploadId.eq(id))
            .filter(chunk::Column::ChunkIndex.is_in(without))
            .filter(chunk::Column::DeclaredChecksum.is_not_null())
            .exec(tx)
            .await?;
    }
    let mut rows = Vec::with_capacity(declared.len());
    for Declared { index, checksum } in declared {
        rows.extend(checksum.map(|checksum| (*index, checksum.to_string())));
    }
    match tx.get_database_backend() {
        _ if rows.is_empty() => Ok(()),
        DbBackend::Postgres => declare_at_once(tx, id, rows).await,
        _ => declare_rows(tx, id, rows).await,
    }
}

/// What [`declare_rows`] does, with one text for any number of chunks, and one value for all of them: of a
/// thousand rows, three thousand parameters take longer than to sign a thousand URLs.
const DECLARE_AT_ONCE: &str = "
    INSERT INTO upload_chunks (upload_id, chunk_index, declared_checksum)
    SELECT $1, declared.chunk_index, declared.checksum FROM json_to_recordset($2::json)
        AS declared (chunk_index integer, checksum text)
    ON CONFLICT (upload_id, chunk_index) DO UPDATE SET
        declared_checksum = excluded.declared_checksum,
        confirmed_at = CASE WHEN upload_chunks.checksum = excluded.declared_checksum
            THEN upload_chunks.confirmed_at END";

async fn declare_at_once(
    tx: &DatabaseTransaction,
    id: Uuid,
    rows: Vec<(i32, String)>,
) -> Result<(), Error> {
    let row = |(chunk_index, checksum)| json!({ "chunk_index": chunk_index, "checksum": checksum });
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let values = [id.into(), json!(rows).to_string().into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, DECLARE_AT_ONCE, values);
    tx.execute_raw(statement).await?;
    Ok(())
}

async fn declare_rows(
    tx: &DatabaseTransaction,
    id: Uuid,
    rows: Vec<(i32, String)>,
) -> Result<(), Error> {
    let rows = rows.into_iter().map(|(index, checksum)| chunk::ActiveModel {
        upload_id: Set(id),
        chunk_index: Set(index),
        declared_checksum: Set(Some(checksum)),
        ..Default::default()
    });
    chunk::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([chunk::Column::UploadId, chunk::Column::ChunkIndex])
                .update_column(chunk::Column::DeclaredChecksum)
                // Who declares other bytes means to send them: what was confirmed is not it.
                .value(
                    chunk::Column::ConfirmedAt,
                    Expr::cust(
                        "CASE WHEN upload_chunks.checksum = excluded.declared_checksum \
                         THEN upload_chunks.confirmed_at END",
                    ),
                )
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// The chunk rows of these indexes (all of them where `None`), in order; rows that are only declared
/// are among them.
pub async fn chunk_rows<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
    indexes: Option<&[i32]>,
) -> Result<Vec<chunk::Model>, Error> {
    let mut query = chunk::Entity::find().filter(chunk::Column::UploadId.eq(id));
    if let Some(indexes) = indexes {
        query = query.filter(chunk::Column::ChunkIndex.is_in(indexes.iter().copied()));
    }
    Ok(query.order_by_asc(chunk::Column::ChunkIndex).all(db).await?)
}

/// Confirmed chunks that are in no part of the final object yet, the first `limit` of them in order.
pub async fn uncopied(db: &Db, id: Uuid, limit: u64) -> Result<Vec<chunk::Model>, Error> {
    Ok(chunk::Entity::find()
        .filter(chunk::Column::UploadId.eq(id))
        .filter(chunk::Column::ConfirmedAt.is_not_null())
        .filter(Expr::cust("(copied_etag IS NULL OR copied_etag <> etag)"))
        .order_by_asc(chunk::Column::ChunkIndex)
        .limit(limit)
        .all(db)
        .await?)
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
    upload.updated_at = now;
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

/// Makes rows unconfirmed where the ETag is still the one given; answers which.
pub(super) async fn unconfirm(
    tx: &DatabaseTransaction,
    id: Uuid,
    gone: &[(i32, String)],
) -> Result<Vec<i32>, Error> {
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

/// Moves the upload to `pending_assembly` when every chunk is confirmed, counted under the lock.
pub async fn request_assembly(db: &Db, id: Uuid, now: DateTime<Utc>) -> Result<Requested, Error> {
    let tx = db::begin(db).await?;
    let mut upload = lock(&tx, id, LockType::Update).await?;
    match upload.status_at(now) {
        Status::PendingAssembly | Status::Completed => return Ok(Requested::Already(upload)),
        status if Event::RequestAssembly.apply(status).is_none() => {
            return Err(Error::Conflict(status));
        }
        _ => {}
    }
    let missing = missing(&tx, &upload).await?;
    if !missing.is_empty() {
        return Ok(Requested::Incomplete(missing));
    }
    let mut afresh =
        session::ActiveModel { attempts: Set(0), failure: Set(None), ..Default::default() };
    // A worker that copies ahead goes on to the end; a pause after an error ends here.
    if upload.lease_id.is_none() || upload.lease_until.is_none_or(|until| until <= now) {
        afresh.lease_id = Set(None);
        afresh.lease_until = Set(None);
    }
    upload.status = apply(&tx, &upload, Event::RequestAssembly, None, now, afresh).await?;
    tx.commit().await?;
    upload.failure = None;
    upload.updated_at = now;
    Ok(Requested::Moved(upload))
}

async fn missing<C: ConnectionTrait>(db: &C, upload: &Upload) -> Result<Vec<i32>, Error> {
    if count(db, upload.upload_id).await? == i64::from(upload.total_chunks) {
        return Ok(Vec::new());
    }
    let confirmed: Vec<i32> = chunk::Entity::find()
        .select_only()
        .column(chunk::Column::ChunkIndex)
        .filter(chunk::Column::UploadId.eq(upload.upload_id))
        .filter(chunk::Column::ConfirmedAt.is_not_null())
        .into_tuple()
        .all(db)
        .await?;
    let confirmed: HashSet<i32> = confirmed.into_iter().collect();
    Ok((0..upload.total_chunks).filter(|index| !confirmed.contains(index)).collect())
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
