//! Reading uploads.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    Statement,
};
use uuid::Uuid;

use super::{Error, Upload, UploadEvent, stands};
use crate::db::Db;
use crate::entity::{chunk, event, session};
use crate::lifecycle::Status;

/// The most events one answer shows.
const EVENTS: u64 = 1_000;

pub async fn find(db: &Db, id: Uuid) -> Result<Upload, Error> {
    session::Entity::find_by_id(id).one(db).await?.ok_or(Error::NotFound)
}

/// The most uploads that one query names.
const PORTION: usize = 1_000;

/// Where these uploads stand at `now`, in one query for each thousand; those that are gone are left out.
pub async fn statuses(
    db: &Db,
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<HashMap<Uuid, Status>, Error> {
    let mut statuses = HashMap::with_capacity(ids.len());
    for portion in ids.chunks(PORTION) {
        let rows: Vec<(Uuid, Status, DateTime<Utc>)> = session::Entity::find()
            .select_only()
            .columns([
                session::Column::UploadId,
                session::Column::Status,
                session::Column::ExpiresAt,
            ])
            .filter(session::Column::UploadId.is_in(portion.iter().copied()))
            .into_tuple()
            .all(db)
            .await?;
        let at = |(id, status, expires_at)| (id, stands(status, expires_at, now));
        statuses.extend(rows.into_iter().map(at));
    }
    Ok(statuses)
}

/// Whose upload it is.
pub async fn owner(db: &Db, id: Uuid) -> Result<String, Error> {
    let owner = session::Entity::find_by_id(id)
        .select_only()
        .column(session::Column::Owner)
        .into_tuple()
        .one(db)
        .await?;
    owner.ok_or(Error::NotFound)
}

/// Where in which trace the upload began.
pub async fn traceparent(db: &Db, id: Uuid) -> Result<Option<String>, Error> {
    let found = session::Entity::find_by_id(id)
        .select_only()
        .column(session::Column::Traceparent)
        .into_tuple()
        .one(db)
        .await?;
    found.ok_or(Error::NotFound)
}

/// How far the chunks of an upload are: the confirmed ones and their bytes, and those in the final
/// object's parts already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub confirmed: i64,
    pub confirmed_bytes: i64,
    pub assembled: i64,
}

#[derive(FromQueryResult)]
struct ProgressRow {
    upload_id: Uuid,
    confirmed: i64,
    confirmed_bytes: i64,
    assembled: i64,
}

/// The progress of each of these uploads, in one query.
pub async fn progress(db: &Db, ids: &[Uuid]) -> Result<HashMap<Uuid, Progress>, Error> {
    let rows = chunk::Entity::find()
        .select_only()
        .column(chunk::Column::UploadId)
        .column_as(Expr::cust("COUNT(*)"), "confirmed")
        .column_as(Expr::cust("CAST(COALESCE(SUM(size), 0) AS bigint)"), "confirmed_bytes")
        .column_as(
            Expr::cust("COALESCE(SUM(CASE WHEN copied_etag = etag THEN 1 ELSE 0 END), 0)"),
            "assembled",
        )
        .filter(chunk::Column::UploadId.is_in(ids.iter().copied()))
        .filter(chunk::Column::ConfirmedAt.is_not_null())
        .group_by(chunk::Column::UploadId)
        .into_model::<ProgressRow>()
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let progress = Progress {
                confirmed: row.confirmed,
                confirmed_bytes: row.confirmed_bytes,
                assembled: row.assembled,
            };
            (row.upload_id, progress)
        })
        .collect())
}

/// The place after which the next page of a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub created_at: DateTime<Utc>,
    pub upload_id: Uuid,
}

#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub owner: Option<String>,
    pub status: Option<Status>,
    pub after: Option<Cursor>,
    pub limit: u64,
}

/// A page of uploads, newest first.
pub async fn list(db: &Db, filter: Filter, now: DateTime<Utc>) -> Result<Vec<Upload>, Error> {
    use session::Column::{CreatedAt, ExpiresAt, Owner, Status as StatusColumn, UploadId};
    let mut query = session::Entity::find();
    if let Some(owner) = filter.owner {
        query = query.filter(Owner.eq(owner));
    }
    if let Some(status) = filter.status {
        // As `status_at` has it: a live upload past its life counts as expired.
        let expirable = crate::lifecycle::Event::Expire.from();
        let overdue = Condition::all()
            .add(StatusColumn.is_in(expirable.iter().copied()))
            .add(ExpiresAt.lte(now));
        let as_stored = Condition::all().add(StatusColumn.eq(status));
        query = query.filter(match status {
            Status::Expired => Condition::any().add(as_stored).add(overdue),
            _ => as_stored.add(overdue.not()),
        });
    }
    if let Some(after) = filter.after {
        let older =
            Condition::all().add(CreatedAt.eq(after.created_at)).add(UploadId.lt(after.upload_id));
        query = query.filter(Condition::any().add(CreatedAt.lt(after.created_at)).add(older));
    }
    Ok(query.order_by_desc(CreatedAt).order_by_desc(UploadId).limit(filter.limit).all(db).await?)
}

/// What happened to an upload, oldest first.
pub async fn events(db: &Db, id: Uuid) -> Result<Vec<UploadEvent>, Error> {
    Ok(event::Entity::find()
        .filter(event::Column::UploadId.eq(id))
        .order_by_asc(event::Column::At)
        .order_by_asc(event::Column::EventId)
        .limit(EVENTS)
        .all(db)
        .await?)
}

/// How many uploads there are of each status, and how many bytes their files have: exactly up to 8 PiB,
/// to 16 digits above. A sum of whole numbers would overflow where files are only planned.
#[derive(Debug, Clone, FromQueryResult)]
pub struct Stats {
    pub status: Status,
    pub uploads: i64,
    pub file_bytes: f64,
}

pub async fn stats(db: &Db) -> Result<Vec<Stats>, Error> {
    let bytes = "CAST(SUM(CAST(file_size AS double precision)) AS double precision)";
    Ok(session::Entity::find()
        .select_only()
        .column(session::Column::Status)
        .column_as(Expr::cust("COUNT(*)"), "uploads")
        .column_as(Expr::cust(bytes), "file_bytes")
        .group_by(session::Column::Status)
        .into_model::<Stats>()
        .all(db)
        .await?)
}

#[derive(FromQueryResult)]
struct HeldRow {
    status: Status,
    bytes: f64,
}

/// The bytes in the bucket of the chunks and parts of unfinished uploads, by status: what is confirmed counts,
/// and twice where it is in a part already. It reads them all: for operators.
pub async fn held(db: &Db) -> Result<HashMap<Status, f64>, Error> {
    let ended: Vec<String> = Status::ALL
        .into_iter()
        .filter(|status| status.is_final())
        .map(|status| format!("'{status}'"))
        .collect();
    let copied = "CASE WHEN c.copied_etag IS NULL THEN 1 ELSE 2 END";
    let sum = format!("SUM(CAST(c.size * {copied} AS double precision))");
    let held = format!(
        "SELECT s.status AS status, CAST({sum} AS double precision) AS bytes \
         FROM upload_sessions s JOIN upload_chunks c ON c.upload_id = s.upload_id \
         WHERE s.status NOT IN ({}) AND c.confirmed_at IS NOT NULL GROUP BY s.status",
        ended.join(", ")
    );
    let statement = Statement::from_string(db.get_database_backend(), held);
    let rows = HeldRow::find_by_statement(statement).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.status, row.bytes)).collect())
}

/// How many uploads there are of each status. It reads them all: not for requests.
pub async fn count_by_status(db: &Db) -> Result<Vec<(Status, i64)>, Error> {
    Ok(session::Entity::find()
        .select_only()
        .column(session::Column::Status)
        .column_as(Expr::cust("COUNT(*)"), "uploads")
        .group_by(session::Column::Status)
        .into_tuple()
        .all(db)
        .await?)
}
