//! What workers do to an upload that is assembled: in `pending_assembly` to the end, and in `uploading`
//! ahead of it. Whoever works on one holds its lease, and every write looks under the row's lock whether the lease is
//! still his: a worker that was slow, cut off or overtaken changes nothing.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, LockType};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend,
    EntityTrait, QueryFilter, Statement,
};
use uuid::Uuid;

use super::at_once::moves;
use super::chunks::{ranges, unconfirm};
use super::copies::forget_copies;
use super::{Error, Failure, Upload, apply, lock, record};
use crate::checksum::Checksum;
use crate::db::{self, Db};
use crate::entity::session;
use crate::lifecycle::{Event, Status};

/// What was proven of the final object.
#[derive(Debug, Clone)]
pub struct Integrity {
    pub level: &'static str,
    pub value: Option<Checksum>,
}

/// Takes the lease of an upload in `pending_assembly` that nobody holds, and counts the attempt.
/// `None`: there is nothing to do, or somebody else does it.
pub async fn claim(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    lease_life: Duration,
    now: DateTime<Utc>,
) -> Result<Option<Upload>, Error> {
    let pending = Condition::all().add(session::Column::Status.eq(Status::PendingAssembly));
    take_lease(db, id, lease, lease_life, pending, 1, now).await
}

/// Takes the lease of an upload that is still `uploading`, to copy ahead what is confirmed.
pub async fn claim_ahead(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    lease_life: Duration,
    now: DateTime<Utc>,
) -> Result<Option<Upload>, Error> {
    let live = Condition::all()
        .add(session::Column::Status.eq(Status::Uploading))
        .add(session::Column::ExpiresAt.gt(now));
    take_lease(db, id, lease, lease_life, live, 0, now).await
}

/// What has become of an upload whose lease was let go.
#[derive(Debug)]
pub enum LetGo {
    /// It is free. A confirm that saw the lease has announced nothing: whoever let go looks once more.
    Free,
    /// It waits for its assembly, and is still the holder's.
    Pending(Box<Upload>),
    /// It is somebody else's, or has ended.
    Lost,
}

/// Lets go of an upload that is still `uploading`.
pub async fn let_go(db: &Db, id: Uuid, lease: Uuid) -> Result<LetGo, Error> {
    let let_go = session::Entity::update_many()
        .set(free())
        .filter(session::Column::UploadId.eq(id))
        .filter(session::Column::LeaseId.eq(lease))
        .filter(session::Column::Status.ne(Status::PendingAssembly))
        .exec(db)
        .await?;
    if let_go.rows_affected == 1 {
        return Ok(LetGo::Free);
    }
    // It needs no transaction: but for an abort, only who holds the lease takes it out of `pending_assembly`.
    let upload = session::Entity::find_by_id(id).one(db).await?;
    Ok(match upload {
        Some(upload)
            if upload.lease_id == Some(lease) && upload.status == Status::PendingAssembly =>
        {
            LetGo::Pending(Box::new(upload))
        }
        _ => LetGo::Lost,
    })
}

/// Takes the lease of the upload where it fits `condition` and nobody holds one, and counts so many
/// attempts.
pub(super) async fn take_lease(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    lease_life: Duration,
    condition: Condition,
    attempts: i32,
    now: DateTime<Utc>,
) -> Result<Option<Upload>, Error> {
    let rows = session::Entity::update_many()
        .set(session::ActiveModel {
            lease_id: Set(Some(lease)),
            lease_until: Set(Some(now + lease_life)),
            ..Default::default()
        })
        .col_expr(session::Column::Attempts, Expr::col(session::Column::Attempts).add(attempts))
        .filter(session::Column::UploadId.eq(id))
        .filter(condition)
        .filter(unleased(now))
        .exec_with_returning(db)
        .await?;
    Ok(rows.into_iter().next())
}

/// Nobody holds the lease at `now`.
pub(super) fn unleased(now: DateTime<Utc>) -> Condition {
    Condition::any()
        .add(session::Column::LeaseUntil.is_null())
        .add(session::Column::LeaseUntil.lte(now))
}

/// Holds the lease longer. False: it has passed to somebody else, or the upload has ended.
pub async fn renew(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    lease_life: Duration,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let renewed = session::Entity::update_many()
        .set(session::ActiveModel {
            lease_until: Set(Some(now + lease_life)),
            ..Default::default()
        })
        .filter(session::Column::UploadId.eq(id))
        .filter(session::Column::LeaseId.eq(lease))
        .exec(db)
        .await?;
    Ok(renewed.rows_affected == 1)
}

/// Keeps the multipart upload that the parts go to, and the id that its object will carry. Parts of
/// another one count no longer.
pub async fn set_multipart(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    multipart_upload_id: Option<&str>,
    assembly_id: Uuid,
) -> Result<(), Error> {
    if db.get_database_backend() == DbBackend::Postgres {
        let multipart = multipart_upload_id.map(str::to_owned);
        let values = [id.into(), lease.into(), multipart.into(), assembly_id.into()];
        let kept = Statement::from_sql_and_values(DbBackend::Postgres, SET_MULTIPART, values);
        return db.query_one_raw(kept).await?.map(drop).ok_or(Error::LeaseLost);
    }
    let tx = db::begin(db).await?;
    locked(&tx, id, lease).await?;
    session::Entity::update_many()
        .set(session::ActiveModel {
            multipart_upload_id: Set(multipart_upload_id.map(str::to_owned)),
            assembly_id: Set(Some(assembly_id)),
            ..Default::default()
        })
        .filter(session::Column::UploadId.eq(id))
        .exec(&tx)
        .await?;
    forget_copies(&tx, id).await?;
    Ok(tx.commit().await?)
}

/// The transaction of [`set_multipart`] as one statement.
const SET_MULTIPART: &str = "
    WITH session AS (
        UPDATE upload_sessions SET multipart_upload_id = $3, assembly_id = $4
        WHERE upload_id = $1 AND lease_id = $2 RETURNING upload_id
    ), forgotten AS (
        UPDATE upload_chunks SET copied_etag = NULL, part_etag = NULL, part_checksum = NULL
        WHERE upload_id = $1 AND copied_etag IS NOT NULL AND EXISTS (SELECT FROM session)
    )
    SELECT upload_id FROM session";

/// The final object is in the bucket, whole.
pub async fn finish(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    integrity: Integrity,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let level = Some(integrity.level.to_owned());
    let value = integrity.value.map(|value| value.to_string());
    if db.get_database_backend() == DbBackend::Postgres {
        let event_id = Uuid::now_v7().into();
        let values = [
            id.into(),
            now.into(),
            event_id,
            lease.into(),
            level.clone().into(),
            value.clone().into(),
        ];
        let finish = Statement::from_sql_and_values(DbBackend::Postgres, FINISH.as_str(), values);
        if db.query_one_raw(finish).await?.is_some() {
            return Ok(());
        }
    }
    let tx = db::begin(db).await?;
    let upload = locked(&tx, id, lease).await?;
    let proven = session::ActiveModel {
        integrity_level: Set(level),
        integrity_value: Set(value),
        multipart_upload_id: Set(None),
        ..free()
    };
    apply(&tx, &upload, Event::FinishAssembly, None, now, proven).await?;
    Ok(tx.commit().await?)
}

/// The transaction of [`finish`] as one statement.
static FINISH: LazyLock<String> = LazyLock::new(|| {
    let set = [
        ("integrity_level", "$5"),
        ("integrity_value", "$6"),
        ("multipart_upload_id", "NULL"),
        ("lease_id", "NULL"),
        ("lease_until", "NULL"),
    ];
    format!(
        "WITH {moves} SELECT upload_id FROM session",
        moves = moves(Event::FinishAssembly, "$3", "AND before.lease_id = $4", &set),
    )
});

/// Confirmed chunks turned out gone or changed: they are confirmed no longer, and the client may send
/// them again. Where the upload was to be assembled, the multipart upload must have been aborted before. False: all
/// of them have been confirmed anew meanwhile, and the upload is only let go of, to be copied again.
pub async fn lose_chunks(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    lost: &[(i32, String)],
    life: Duration,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let tx = db::begin(db).await?;
    let upload = locked(&tx, id, lease).await?;
    let mut chunk_indexes = unconfirm(&tx, id, lost).await?;
    chunk_indexes.sort_unstable();
    let detail = format!(
        "chunks {} were gone or changed in storage after they had been confirmed: send them again",
        ranges(&chunk_indexes)
    );
    let mut back = free();
    let pending = upload.status == Status::PendingAssembly;
    if pending {
        back.multipart_upload_id = Set(None);
        back.assembly_id = Set(None);
        forget_copies(&tx, id).await?;
    }
    if chunk_indexes.is_empty() {
        let id = session::Column::UploadId.eq(id);
        session::Entity::update_many().set(back).filter(id).exec(&tx).await?;
        tx.commit().await?;
        return Ok(false);
    }
    let code = "chunk_lost".to_owned();
    back.failure = Set(Some(Failure { code, detail: detail.clone(), chunk_indexes }));
    back.expires_at = Set(std::cmp::max(upload.expires_at, now + life));
    // Ahead of the end, the chunk sent anew will overwrite its part.
    let event = if pending { Event::LoseChunk } else { Event::DropChunk };
    apply(&tx, &upload, event, Some(detail), now, back).await?;
    tx.commit().await?;
    Ok(true)
}

/// Ends the assembly without a final object. The confirmed chunks stay.
pub async fn give_up(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    failure: Failure,
    life: Duration,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let tx = db::begin(db).await?;
    let upload = locked(&tx, id, lease).await?;
    let detail = format!("{}: {}", failure.code, failure.detail);
    let failed = session::ActiveModel {
        failure: Set(Some(failure)),
        // The client has its whole time again to mend what is wrong.
        expires_at: Set(std::cmp::max(upload.expires_at, now + life)),
        ..free()
    };
    apply(&tx, &upload, Event::GiveUp, Some(detail), now, failed).await?;
    Ok(tx.commit().await?)
}

/// Lets go of the lease so that the next attempt starts no earlier than `not_before`, and keeps why; not
/// of an upload that is only copied ahead, which may fail as often as it likes. An attempt that does not
/// count was nobody's fault.
pub async fn hand_back(
    db: &Db,
    id: Uuid,
    lease: Uuid,
    not_before: DateTime<Utc>,
    why: String,
    counts: bool,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let tx = db::begin(db).await?;
    let upload = locked(&tx, id, lease).await?;
    session::Entity::update_many()
        .set(session::ActiveModel {
            lease_id: Set(None),
            lease_until: Set(Some(not_before)),
            attempts: Set(if counts {
                upload.attempts
            } else {
                std::cmp::max(upload.attempts - 1, 0)
            }),
            ..Default::default()
        })
        .filter(session::Column::UploadId.eq(id))
        .exec(&tx)
        .await?;
    if upload.status == Status::PendingAssembly {
        record(&tx, id, "attempt_failed", None, Some(why), now).await?;
    }
    Ok(tx.commit().await?)
}

fn free() -> session::ActiveModel {
    session::ActiveModel { lease_id: Set(None), lease_until: Set(None), ..Default::default() }
}

pub(super) async fn locked(
    tx: &DatabaseTransaction,
    id: Uuid,
    lease: Uuid,
) -> Result<Upload, Error> {
    let upload = lock(tx, id, LockType::Update).await?;
    if upload.lease_id == Some(lease) { Ok(upload) } else { Err(Error::LeaseLost) }
}
