//! Uploads in the database: the only code that reads or writes their rows.
//!
//! Whatever writes chunk rows locks the session row before, in the same transaction (a confirm that changes nothing of
//! it shared, all others exclusive), and looks at the status again under that lock; no call to S3 happens inside a
//! transaction. A status moves by [`apply`], or as part of one statement by [`at_once::moves`], which are guarded by
//! the lifecycle table. Whoever takes the confirmation of a chunk back also changes the session row: a move that
//! waits for the row learns by that that what it has counted is no longer so.

mod assembly;
mod at_once;
mod chunks;
mod confirm;
mod copies;
mod create;
mod declare;
mod janitor;
mod read;
mod with_chunks;

pub use assembly::{
    Integrity, LetGo, claim, claim_ahead, finish, give_up, hand_back, let_go, lose_chunks, renew,
    set_multipart,
};
pub use chunks::{Requested, abort, chunk_rows, drop_chunks, end_pause, request_assembly};
pub use confirm::{Confirmed, SeenChunk, confirm};
pub use copies::{CopiedPart, ToCopy, record_parts, to_copy};
pub use create::{Created, NewUpload, Quota, create};
pub use declare::{Declared, declare};
pub use janitor::{
    adopt, claim_cleanup, cleaned, delete_retired, expire, known, overdue, retired,
    stale_assemblies, take_stale_assemblies, take_task, to_clean,
};
pub use read::{
    Cursor, Filter, Progress, Stats, count_by_status, events, find, held, list, owner, progress,
    stats, statuses, traceparent,
};
pub use with_chunks::{ConfirmedChunks, WithChunks, confirmed_chunks, find_with_chunks};

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QuerySelect,
};
use uuid::Uuid;

use crate::entity::{event, session};
use crate::lifecycle::{Event, Status};
use crate::plan::Plan;

pub use crate::entity::chunk::Model as Chunk;
pub use crate::entity::event::Model as UploadEvent;
pub use crate::entity::session::{Failure, Model as Upload};

/// Why something could not be done to an upload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Db(#[from] DbErr),
    #[error("there is no such upload")]
    NotFound,
    /// The upload's status does not allow it.
    #[error("the upload is {0}")]
    Conflict(Status),
    /// The database did not answer, or not in time: whether it was done is not known.
    #[error("the database did not answer in {0:?}")]
    NoAnswer(Duration),
    /// The lease has passed to another worker.
    #[error("the lease was lost")]
    LeaseLost,
}

impl Upload {
    pub fn plan(&self) -> Plan {
        Plan {
            file_size: self.file_size,
            chunk_size: self.chunk_size,
            total_chunks: self.total_chunks,
        }
    }

    /// The status at `now`: an upload past its life is expired, whether or not the janitor has been by.
    pub fn status_at(&self, now: DateTime<Utc>) -> Status {
        stands(self.status, self.expires_at, now)
    }

    /// Whether the slid `expires_at` is worth a write: sliding it by less than a hundredth of the life
    /// would make every confirm write the session row.
    fn life_is_worn(&self, now: DateTime<Utc>, life: Duration) -> bool {
        self.expires_at < Self::fresh_life(now, life)
    }

    fn fresh_life(now: DateTime<Utc>, life: Duration) -> DateTime<Utc> {
        now + life - life / 100
    }
}

fn stands(status: Status, expires_at: DateTime<Utc>, now: DateTime<Utc>) -> Status {
    match Event::Expire.apply(status) {
        Some(expired) if expires_at <= now => expired,
        _ => status,
    }
}

async fn lock(tx: &DatabaseTransaction, id: Uuid, how: LockType) -> Result<Upload, Error> {
    session::Entity::find_by_id(id).lock(how).one(tx).await?.ok_or(Error::NotFound)
}

/// Moves a session, locked in `tx`, along the edge of `event`, writes what `set` adds in the same
/// UPDATE, and keeps the move in `upload_events`.
async fn apply(
    tx: &DatabaseTransaction,
    upload: &Upload,
    event: Event,
    detail: Option<String>,
    now: DateTime<Utc>,
    set: session::ActiveModel,
) -> Result<Status, Error> {
    let from = upload.status_at(now);
    let to = event.apply(upload.status).filter(|_| from == upload.status || event == Event::Expire);
    let to = to.ok_or(Error::Conflict(from))?;
    let at = moves_at(upload, now);
    let update = session::Entity::update_many()
        .set(session::ActiveModel { status: Set(to), updated_at: Set(at), ..set })
        .filter(session::Column::UploadId.eq(upload.upload_id))
        .filter(session::Column::Status.is_in(event.from().iter().copied()));
    if update.exec(tx).await?.rows_affected != 1 {
        return Err(Error::Conflict(upload.status));
    }
    if upload.status != to || detail.is_some() {
        record(tx, upload.upload_id, event.name(), Some((upload.status, to)), detail, at).await?;
    }
    Ok(to)
}

/// The time of the next move: the times of an upload's moves are in the order of the moves, also where `now` was
/// read before the wait for the row, or by a clock that is behind.
fn moves_at(upload: &Upload, now: DateTime<Utc>) -> DateTime<Utc> {
    now.max(upload.updated_at + TimeDelta::milliseconds(1))
}

async fn record<C: sea_orm::ConnectionTrait>(
    db: &C,
    upload_id: Uuid,
    name: &str,
    moved: Option<(Status, Status)>,
    detail: Option<String>,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = event::ActiveModel {
        event_id: Set(Uuid::now_v7()),
        upload_id: Set(upload_id),
        at: Set(now),
        event: Set(name.to_owned()),
        from_status: Set(moved.map(|(from, _)| from.name().to_owned())),
        to_status: Set(moved.map(|(_, to)| to.name().to_owned())),
        detail: Set(detail),
    };
    event::Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}
