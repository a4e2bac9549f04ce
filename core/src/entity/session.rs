//! A row of `upload_sessions`: one upload. Its columns are explained where they are used, in `uploads`.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::checksum::Algorithm;
use crate::lifecycle::Status;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload_id: Uuid,
    pub filename: String,
    pub file_size: i64,
    pub chunk_size: i64,
    pub total_chunks: i32,
    pub content_type: String,
    pub metadata: Json,
    pub status: Status,
    pub checksum_algorithm: Algorithm,
    pub checksum: Option<String>,
    pub integrity_level: Option<String>,
    pub integrity_value: Option<String>,
    pub final_s3_key: String,
    pub multipart_upload_id: Option<String>,
    pub assembly_id: Option<Uuid>,
    pub attempts: i32,
    pub lease_id: Option<Uuid>,
    pub lease_until: Option<DateTimeUtc>,
    pub failure: Option<Failure>,
    pub owner: String,
    pub expires_at: DateTimeUtc,
    pub urls_expire_at: DateTimeUtc,
    pub chunks_deleted_at: Option<DateTimeUtc>,
    pub idempotency_key: Option<String>,
    pub request_hash: Option<String>,
    /// Where in which trace the upload began.
    pub traceparent: Option<String>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// Why the upload is not further than it is; cleared by the next request to complete it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Failure {
    pub code: String,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunk_indexes: Vec<i32>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
