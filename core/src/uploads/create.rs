//! A new upload, or the one that the same idempotency key has made before.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, TryInsertResult};
use uuid::Uuid;

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
}

#[derive(Debug)]
pub enum Created {
    New(Upload),
    /// The key has made this upload before, from the same request.
    Replayed(Upload),
    /// The key has made another upload before.
    KeyReused,
}

/// Inserts the upload. Of any number of calls with one idempotency key, exactly one makes a row.
pub async fn create(
    db: &Db,
    new: NewUpload,
    now: DateTime<Utc>,
    life: Duration,
) -> Result<Created, Error> {
    let (key, hash) = new.idempotency.clone().unzip();
    let row = session::ActiveModel {
        upload_id: Set(new.upload_id),
        filename: Set(new.filename),
        file_size: Set(new.plan.file_size),
        chunk_size: Set(new.plan.chunk_size),
        total_chunks: Set(new.plan.total_chunks),
        content_type: Set(new.content_type),
        metadata: Set(new.metadata),
        status: Set(Status::Initialized),
        checksum_algorithm: Set(new.algorithm),
        checksum: Set(new.checksum.map(|checksum| checksum.to_string())),
        final_s3_key: Set(new.final_s3_key),
        attempts: Set(0),
        owner: Set(new.owner.clone()),
        expires_at: Set(now + life),
        // Nothing is signed yet.
        urls_expire_at: Set(now),
        idempotency_key: Set(key.clone()),
        request_hash: Set(hash.clone()),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    let tx = db::begin(db).await?;
    let insert = session::Entity::insert(row)
        .on_conflict_do_nothing_on([session::Column::Owner, session::Column::IdempotencyKey]);
    if let TryInsertResult::Inserted(upload) = insert.exec_with_returning(&tx).await? {
        record(&tx, new.upload_id, "initialized", None, None, now).await?;
        tx.commit().await.map_err(Error::from)?;
        return Ok(Created::New(upload));
    }
    let before = session::Entity::find()
        .filter(session::Column::Owner.eq(new.owner))
        .filter(session::Column::IdempotencyKey.eq(key))
        .one(&tx)
        .await?
        .ok_or(Error::NotFound)?;
    tx.commit().await?;
    if before.request_hash == hash { Ok(Created::Replayed(before)) } else { Ok(Created::KeyReused) }
}
