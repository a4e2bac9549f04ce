//! A new upload, or the one that the same idempotency key has made before.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, InsertStatement, OnConflict, PostgresQueryBuilder};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend,
    EntityTrait, FromQueryResult, QueryFilter, QuerySelect, QueryTrait, Statement, Value, Values,
};
use uuid::Uuid;

use super::declare::{Declared, as_json, write_declared};
use super::{Error, Upload, record};
use crate::checksum::{Algorithm, Checksum};
use crate::db::{self, Db};
use crate::entity::session;
use crate::lifecycle::Status;
use crate::plan::Plan;

/// What `init` was asked for, already checked.
#[derive(Debug, Clone)]
pub struct NewUpload {
    pub upload_id: Uuid,
    pub filename: String,
    pub plan: Plan,
    pub content_type: String,
    pub metadata: serde_json::Value,
    pub algorithm: Algorithm,
    /// The whole file's, when the client knows it.
    pub checksum: Option<Checksum>,
    pub final_s3_key: String,
    pub owner: String,
    /// The key, and a hash of the request it came with.
    pub idempotency: Option<(String, String)>,
    pub quota: Option<Quota>,
    /// The chunks that URLs are signed for at once, and how long the URLs live.
    pub declared: Vec<Declared>,
    pub url_life: Duration,
    /// Where in which trace it begins.
    pub traceparent: Option<String>,
}

/// What one owner may have under way; `None` is no bound.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    pub uploads: Option<i64>,
    /// Of their files, sent or not.
    pub bytes: Option<i64>,
}

/// The first event of an upload.
const INITIALIZED: &str = "initialized";

#[derive(Debug)]
pub enum Created {
    New(Upload),
    /// The key has made this upload before, from the same request.
    Replayed(Upload),
    /// The key has made another upload before.
    KeyReused,
    /// The owner has as many uploads under way as it may. Nothing was stored.
    TooManyUploads,
    /// The files of the owner's uploads under way, with this one, have more bytes than they may.
    TooManyBytes,
}

/// Inserts the upload. Of any number of calls with one idempotency key, exactly one makes a row.
pub async fn create(
    db: &Db,
    new: NewUpload,
    now: DateTime<Utc>,
    life: Duration,
) -> Result<Created, Error> {
    let (idempotency_key, request_hash) = new.idempotency.unzip();
    let quota = new.quota;
    let mut declared = new.declared;
    let urls_expire_at = if declared.is_empty() { now } else { now + new.url_life };
    // Of chunks without a checksum there is nothing to keep: no row says the same.
    declared.retain(|declared| declared.checksum.is_some());
    let upload = Upload {
        upload_id: new.upload_id,
        filename: new.filename,
        file_size: new.plan.file_size,
        chunk_size: new.plan.chunk_size,
        total_chunks: new.plan.total_chunks,
        content_type: new.content_type,
        metadata: new.metadata,
        status: Status::Initialized,
        checksum_algorithm: new.algorithm,
        checksum: new.checksum.map(|checksum| checksum.to_string()),
        integrity_level: None,
        integrity_value: None,
        final_s3_key: new.final_s3_key,
        multipart_upload_id: None,
        assembly_id: None,
        attempts: 0,
        lease_id: None,
        lease_until: None,
        failure: None,
        owner: new.owner,
        expires_at: now + life,
        urls_expire_at,
        chunks_deleted_at: None,
        idempotency_key,
        request_hash,
        traceparent: new.traceparent,
        created_at: now,
        updated_at: now,
    };
    if quota.is_none()
        && db.get_database_backend() == DbBackend::Postgres
        && create_at_once(db, &upload, &declared).await?
    {
        return Ok(Created::New(upload));
    }
    let tx = db::begin(db).await?;
    if quota.is_some() && tx.get_database_backend() == DbBackend::Postgres {
        // One at a time for each owner: two that count at once would not see each other. Ends with the
        // transaction. SQLite has one writer anyway.
        tx.execute_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            [format!("upflow quota of {}", upload.owner).into()],
        ))
        .await?;
    }
    let inserted = tx.execute(&insertion(&upload)).await?;
    if inserted.rows_affected() == 1 {
        if let Some(quota) = quota
            && let Some(exceeded) = exceeded(&tx, &upload.owner, quota, now).await?
        {
            tx.rollback().await?;
            return Ok(exceeded);
        }
        record(&tx, upload.upload_id, INITIALIZED, None, None, now).await?;
        write_declared(&tx, upload.upload_id, &declared).await?;
        tx.commit().await?;
        return Ok(Created::New(upload));
    }
    let before = session::Entity::find()
        .filter(session::Column::Owner.eq(upload.owner))
        .filter(session::Column::IdempotencyKey.eq(upload.idempotency_key))
        .one(&tx)
        .await?
        .ok_or(Error::NotFound)?;
    tx.commit().await?;
    if before.request_hash == upload.request_hash {
        Ok(Created::Replayed(before))
    } else {
        Ok(Created::KeyReused)
    }
}

/// The transaction of [`create`] as one statement. False: the key has made an upload before.
async fn create_at_once(db: &Db, upload: &Upload, declared: &[Declared]) -> Result<bool, Error> {
    let (insert, Values(mut values)) =
        insertion(upload).returning_col(session::Column::UploadId).build(PostgresQueryBuilder);
    let mut parameter = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let (event_id, at) = (parameter(Uuid::now_v7().into()), parameter(upload.created_at.into()));
    let chunks = parameter(as_json(declared)?.into());
    let sql = format!(
        "WITH session AS ({insert}), recorded AS (
            INSERT INTO upload_events (event_id, upload_id, at, event)
            SELECT {event_id}, upload_id, {at}, '{INITIALIZED}' FROM session
        ), declared AS (
            INSERT INTO upload_chunks (upload_id, chunk_index, declared_checksum)
            SELECT upload_id, chunk_index, checksum
            FROM session, json_to_recordset({chunks}::json) AS declared (chunk_index integer, checksum text)
        )
        SELECT upload_id FROM session"
    );
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    Ok(db.query_one_raw(statement).await?.is_some())
}

/// Inserts the row where its key has made no other.
fn insertion(upload: &Upload) -> InsertStatement {
    let key = [session::Column::Owner, session::Column::IdempotencyKey];
    let mut insert =
        session::Entity::insert(session::ActiveModel::from(upload.clone()).reset_all())
            .into_query();
    insert.on_conflict(OnConflict::columns(key).do_nothing().to_owned());
    insert
}

#[derive(FromQueryResult)]
struct UnderWay {
    uploads: i64,
    bytes: f64,
}

/// What of the quota the owner's uploads under way exceed, if anything.
async fn exceeded(
    tx: &DatabaseTransaction,
    owner: &str,
    quota: Quota,
    now: DateTime<Utc>,
) -> Result<Option<Created>, Error> {
    let ended = [Status::Completed, Status::Aborted, Status::Expired];
    let bytes = "CAST(COALESCE(SUM(CAST(file_size AS double precision)), 0) AS double precision)";
    let under_way = session::Entity::find()
        .select_only()
        .column_as(Expr::cust("COUNT(*)"), "uploads")
        // As a sum of whole numbers it could overflow.
        .column_as(Expr::cust(bytes), "bytes")
        .filter(session::Column::Owner.eq(owner))
        .filter(session::Column::Status.is_not_in(ended))
        // One past its life counts no more, whether or not the janitor has been by.
        .filter(
            Condition::any()
                .add(session::Column::ExpiresAt.gt(now))
                .add(session::Column::Status.eq(Status::PendingAssembly)),
        )
        .into_model::<UnderWay>()
        .one(tx)
        .await?;
    let Some(under_way) = under_way else { return Ok(None) };
    Ok(if quota.uploads.is_some_and(|most| under_way.uploads > most) {
        Some(Created::TooManyUploads)
    } else if quota.bytes.is_some_and(|most| under_way.bytes > most as f64) {
        Some(Created::TooManyBytes)
    } else {
        None
    })
}
