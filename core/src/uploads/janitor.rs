//! What the janitor looks for, in bounded portions, and what it does to the rows. Any number of
//! janitors may run at once: each move is guarded like any other, and clean-up takes a lease.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, LockType, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::assembly::{take_lease, unleased};
use super::{Error, Upload, apply, lock};
use crate::db::{self, Db};
use crate::entity::{session, upkeep};
use crate::lifecycle::{Event, Status};

/// The most rows one look takes.
const PORTION: u64 = 500;
/// The most uploads that one statement deletes: each may have 10,000 chunks.
const RETIRED: u64 = 20;

/// Uploads in `pending_assembly` that nobody has worked on since `before`.
fn stale(before: DateTime<Utc>, now: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(session::Column::Status.eq(Status::PendingAssembly))
        .add(session::Column::UpdatedAt.lte(before))
        .add(unleased(now))
}

/// The uploads to announce again, untouched.
pub async fn stale_assemblies(
    db: &Db,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, Error> {
    ids(db, stale(before, now)).await
}

/// Takes the uploads in `pending_assembly` that nobody has worked on since `before`, to announce them
/// again. Of all janitors one gets each, and none again for as long: a queue that is merely slow is not
/// flooded.
pub async fn take_stale_assemblies(
    db: &Db,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, Error> {
    let found = stale_assemblies(db, before, now).await?;
    if found.is_empty() {
        return Ok(found);
    }
    let taken = session::Entity::update_many()
        .set(session::ActiveModel { updated_at: Set(now), ..Default::default() })
        .filter(session::Column::UploadId.is_in(found))
        .filter(stale(before, now))
        .exec_with_returning(db)
        .await?;
    Ok(taken.into_iter().map(|upload| upload.upload_id).collect())
}

/// Takes every lease back, and answers the uploads that wait for their assembly. For a database that one
/// process has to itself, at its start: whoever held a lease is dead.
pub async fn adopt(db: &Db) -> Result<Vec<Uuid>, Error> {
    let free = || session::ActiveModel {
        lease_id: Set(None),
        lease_until: Set(None),
        ..Default::default()
    };
    session::Entity::update_many()
        .set(free())
        .filter(session::Column::LeaseId.is_not_null())
        .exec(db)
        .await?;
    let pending = session::Entity::update_many()
        .set(free())
        .filter(session::Column::Status.eq(Status::PendingAssembly))
        .exec_with_returning(db)
        .await?;
    Ok(pending.into_iter().map(|upload| upload.upload_id).collect())
}

/// Live uploads whose life is over.
pub async fn overdue(db: &Db, now: DateTime<Utc>) -> Result<Vec<Uuid>, Error> {
    let filter = Condition::all()
        .add(session::Column::Status.is_in(Event::Expire.from().iter().copied()))
        .add(session::Column::ExpiresAt.lte(now));
    ids(db, filter).await
}

/// Ended uploads whose chunks may still be in the bucket and that are due for a look.
pub async fn to_clean(db: &Db, now: DateTime<Utc>) -> Result<Vec<Uuid>, Error> {
    ids(db, uncleaned().add(unleased(now))).await
}

fn uncleaned() -> Condition {
    let ended = Status::ALL.into_iter().filter(|status| status.is_final());
    Condition::all()
        .add(session::Column::Status.is_in(ended))
        .add(session::Column::ChunksDeletedAt.is_null())
}

async fn ids(db: &Db, filter: Condition) -> Result<Vec<Uuid>, Error> {
    some_ids(db, filter, PORTION).await
}

async fn some_ids(db: &Db, filter: Condition, limit: u64) -> Result<Vec<Uuid>, Error> {
    Ok(session::Entity::find()
        .select_only()
        .column(session::Column::UploadId)
        .filter(filter)
        .order_by_asc(session::Column::UpdatedAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?)
}

/// Ends an upload whose life is over; false where it has been touched meanwhile.
pub async fn expire(db: &Db, id: Uuid, now: DateTime<Utc>) -> Result<bool, Error> {
    let tx = db::begin(db).await?;
    let upload = lock(&tx, id, LockType::Update).await?;
    if upload.expires_at > now || Event::Expire.apply(upload.status).is_none() {
        return Ok(false);
    }
    let free =
        session::ActiveModel { lease_id: Set(None), lease_until: Set(None), ..Default::default() };
    apply(&tx, &upload, Event::Expire, None, now, free).await?;
    tx.commit().await?;
    Ok(true)
}

/// Takes the clean-up of an ended upload for as long as `lease_life`.
pub async fn claim_cleanup(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    lease_life: Duration,
    now: DateTime<Utc>,
) -> Result<Option<Upload>, Error> {
    take_lease(db, id, lease, lease_life, uncleaned(), 0, now).await
}

/// Ends a clean-up, begun at `began`, that left nothing behind. Before `again_at` something may still
/// land, and the row is due for another look then; after it, chunks count as deleted.
pub async fn cleaned(
    db: &Db,
    upload: &Upload,
    lease: Uuid,
    again_at: DateTime<Utc>,
    began: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let done = began >= again_at;
    session::Entity::update_many()
        .set(session::ActiveModel {
            // Until the end, since an abort before may have been overtaken by a part.
            multipart_upload_id: Set(upload.multipart_upload_id.clone().filter(|_| !done)),
            lease_id: Set(None),
            lease_until: Set((!done).then_some(again_at)),
            chunks_deleted_at: Set(done.then_some(now)),
            ..Default::default()
        })
        .filter(session::Column::UploadId.eq(upload.upload_id))
        .filter(session::Column::LeaseId.eq(lease))
        .exec(db)
        .await?;
    Ok(())
}

/// The uploads whose rows are past their retention: ended before `before`, with nothing left in the bucket
/// but the final objects of the completed ones.
pub async fn retired(db: &Db, before: DateTime<Utc>) -> Result<Vec<Uuid>, Error> {
    ids(db, past_retention(before)).await
}

fn past_retention(before: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(session::Column::ChunksDeletedAt.is_not_null())
        .add(session::Column::UpdatedAt.lte(before))
}

/// Which of these uploads have a row.
pub async fn known(db: &Db, ids: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
    let mut known = HashSet::new();
    for portion in ids.chunks(PORTION as usize) {
        let found: Vec<Uuid> = session::Entity::find()
            .select_only()
            .column(session::Column::UploadId)
            .filter(session::Column::UploadId.is_in(portion.iter().copied()))
            .into_tuple()
            .all(db)
            .await?;
        known.extend(found);
    }
    Ok(known)
}

/// Takes a task that one worker does for all, `every` so often. True for the one that is to do it now.
pub async fn take_task(
    db: &Db,
    task: &str,
    every: Duration,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let row = upkeep::ActiveModel { task: Set(task.to_owned()), begun_at: Set(now) };
    let due = Expr::col((upkeep::Entity, upkeep::Column::BegunAt)).lte(now - every);
    let taken = upkeep::Entity::insert(row)
        .on_conflict(
            OnConflict::column(upkeep::Column::Task)
                .update_column(upkeep::Column::BegunAt)
                .action_and_where(due)
                .to_owned(),
        )
        .exec_without_returning(db)
        .await?;
    Ok(taken == 1)
}

/// Deletes the rows of uploads that ended before `before` and left nothing in the bucket but the final
/// objects of the completed ones. Answers how many.
pub async fn delete_retired(db: &Db, before: DateTime<Utc>) -> Result<u64, Error> {
    // Found first: for both in one statement PostgreSQL may read the whole table.
    let ids = some_ids(db, past_retention(before), RETIRED).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let deleted = session::Entity::delete_many()
        .filter(session::Column::UploadId.is_in(ids))
        .filter(past_retention(before))
        .exec(db)
        .await?;
    Ok(deleted.rows_affected)
}
