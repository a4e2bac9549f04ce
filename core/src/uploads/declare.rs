//! What clients declare of chunks when they ask for URLs: the checksum that is signed into them.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, LockType, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    QueryFilter, Statement,
};
use serde::Serialize;
use uuid::Uuid;

use super::at_once::{columns, is_one_of};
use super::{Error, Upload, lock};
use crate::checksum::Checksum;
use crate::db::{self, Db, DbErr};
use crate::entity::{chunk, session};
use crate::lifecycle::Event;

/// The checksum that a client wants signed into the URL of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    pub index: i32,
    pub checksum: Option<Checksum>,
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
    if db.get_database_backend() == DbBackend::Postgres
        && let Some(upload) = declare_at_once(db, id, declared, url_life, life, now).await?
    {
        return Ok(upload);
    }
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
    if declared.is_empty() {
        return Ok(());
    }
    if tx.get_database_backend() == DbBackend::Postgres {
        let sql = format!("{INSERT} json_to_recordset($2::json) {}", *ON_CONFLICT);
        let values = [id.into(), as_json(declared)?.into()];
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
        return Ok(());
    }
    let rows = declared.iter().map(|declared| chunk::ActiveModel {
        upload_id: Set(id),
        chunk_index: Set(declared.index),
        declared_checksum: Set(declared.checksum.map(|checksum| checksum.to_string())),
        ..Default::default()
    });
    chunk::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([chunk::Column::UploadId, chunk::Column::ChunkIndex])
                .update_column(chunk::Column::DeclaredChecksum)
                .value(chunk::Column::ConfirmedAt, Expr::cust(STILL_CONFIRMED))
                .action_and_where(Expr::cust(CHANGES))
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

#[derive(Serialize)]
struct Row {
    chunk_index: i32,
    checksum: Option<String>,
}

/// The parameter of [`INSERT`].
pub(super) fn as_json(declared: &[Declared]) -> Result<String, DbErr> {
    let row = |declared: &Declared| Row {
        chunk_index: declared.index,
        checksum: declared.checksum.map(|checksum| checksum.to_string()),
    };
    let rows: Vec<Row> = declared.iter().map(row).collect();
    serde_json::to_string(&rows).map_err(|error| DbErr::Json(error.to_string()))
}

/// One text for any number of chunks, and one value for all of them: of a thousand rows, three thousand parameters
/// take longer than to sign a thousand URLs. A chunk without a checksum gets its row, too: what was declared of it
/// before is taken back also where that became known only while this waited.
const INSERT: &str = "
    INSERT INTO upload_chunks (upload_id, chunk_index, declared_checksum)
    SELECT $1, declared.chunk_index, declared.checksum FROM";
static ON_CONFLICT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "AS declared (chunk_index integer, checksum text)
        ON CONFLICT (upload_id, chunk_index) DO UPDATE SET
            declared_checksum = excluded.declared_checksum, confirmed_at = {STILL_CONFIRMED}
        WHERE {CHANGES}"
    )
});

/// Who declares other bytes means to send them: what was confirmed is not it.
const STILL_CONFIRMED: &str = "CASE WHEN excluded.declared_checksum IS NULL
    OR upload_chunks.checksum = excluded.declared_checksum THEN upload_chunks.confirmed_at END";

/// A row is not written anew only to say that its chunk still has no checksum.
const CHANGES: &str =
    "upload_chunks.declared_checksum IS NOT NULL OR excluded.declared_checksum IS NOT NULL";

/// The transaction of [`declare`] as one statement, and so one round trip instead of five. The session's row is
/// locked before any chunk is written, since these come out of it.
static AT_ONCE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH session AS (
            UPDATE upload_sessions SET
                expires_at = GREATEST(expires_at, $3), urls_expire_at = GREATEST(urls_expire_at, $4),
                updated_at = $5
            WHERE upload_id = $1 AND {takes_chunks} AND expires_at > $5
            RETURNING *
        ), declared AS (
            {INSERT} session, json_to_recordset($2::json) {on_conflict}
        )
        SELECT {columns} FROM session",
        takes_chunks = is_one_of("status", Event::ConfirmChunk.from()),
        on_conflict = *ON_CONFLICT,
        columns = columns::<session::Entity>("session")
    )
});

/// `None`: the upload takes no chunks.
async fn declare_at_once(
    db: &Db,
    id: Uuid,
    declared: &[Declared],
    url_life: Duration,
    life: Duration,
    now: DateTime<Utc>,
) -> Result<Option<Upload>, Error> {
    let (life, url_life) = (now + life, now + url_life);
    let values = [id.into(), as_json(declared)?.into(), life.into(), url_life.into(), now.into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, AT_ONCE.as_str(), values);
    Ok(session::Entity::find().from_raw_sql(statement).one(db).await?)
}
