//! The chunks of an upload, and what else clients do to it: ask for the assembly, take it back.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::confirm::count;
use super::{Error, Upload, apply, lock, moves_at};
use crate::db::{self, Db};
use crate::entity::{chunk, session};
use crate::lifecycle::{Event, Status};

#[derive(Debug)]
pub enum Requested {
    /// The upload has moved to `pending_assembly`; a job is due.
    Moved(Upload),
    /// It was there, or completed, already.
    Already(Upload),
    /// These chunks are not confirmed.
    Incomplete(Vec<i32>),
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
    upload.updated_at = moves_at(&upload, now);
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
