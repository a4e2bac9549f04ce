//! An upload together with its confirmed chunks, in one question and one row: ten thousand rows would take longer to
//! read than all the rest of an answer.

use std::collections::HashSet;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, QueryFilter,
    QueryResult, QuerySelect,
};
use uuid::Uuid;

use super::{Error, Upload};
use crate::db::Db;
use crate::entity::{chunk, session};

/// The confirmed chunks of an upload: their indexes in order, and how many are in parts of the final object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfirmedChunks {
    pub indexes: Vec<i32>,
    pub copied: i64,
}

#[derive(Debug, Clone)]
pub struct WithChunks {
    pub upload: Upload,
    pub chunks: ConfirmedChunks,
}

/// The column in which [`WithChunks`] are read.
const COLUMN: &str = "chunks";

/// A chunk that is in a part has this after its index.
const COPIED: char = '+';

pub async fn find_with_chunks(db: &Db, id: Uuid) -> Result<WithChunks, Error> {
    let chunks = of_upload(db.get_database_backend(), "upload_sessions.upload_id");
    session::Entity::find_by_id(id)
        .column_as(Expr::cust(chunks), COLUMN)
        .into_model::<WithChunks>()
        .one(db)
        .await?
        .ok_or(Error::NotFound)
}

pub async fn confirmed_chunks<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
) -> Result<ConfirmedChunks, Error> {
    let row = chunk::Entity::find()
        .select_only()
        .column_as(Expr::cust(list(db.get_database_backend())), COLUMN)
        .filter(chunk::Column::UploadId.eq(id))
        .filter(chunk::Column::ConfirmedAt.is_not_null())
        .into_model::<ConfirmedChunks>()
        .one(db)
        .await?;
    Ok(row.unwrap_or_default())
}

/// The same as a column of a statement, of the upload whose id is `id` there.
pub(super) fn of_upload(backend: DbBackend, id: &str) -> String {
    let list = list(backend);
    format!(
        "(SELECT {list} FROM upload_chunks WHERE upload_chunks.upload_id = {id} AND confirmed_at IS NOT NULL)"
    )
}

/// Of many chunks, one text.
fn list(backend: DbBackend) -> String {
    let list = match backend {
        DbBackend::Postgres => "string_agg",
        _ => "group_concat",
    };
    format!("{list}(chunk_index || CASE WHEN copied_etag = etag THEN '{COPIED}' ELSE '' END, ',')")
}

impl WithChunks {
    /// The chunks that are not confirmed, in order.
    pub fn missing(&self) -> Vec<i32> {
        let confirmed: HashSet<i32> = self.chunks.indexes.iter().copied().collect();
        (0..self.upload.total_chunks).filter(|index| !confirmed.contains(index)).collect()
    }
}

impl FromQueryResult for WithChunks {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let upload = Upload::from_query_result(row, prefix)?;
        Ok(Self { upload, chunks: ConfirmedChunks::from_query_result(row, prefix)? })
    }
}

impl FromQueryResult for ConfirmedChunks {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let list: Option<String> = row.try_get(prefix, COLUMN)?;
        Ok(list.as_deref().map(Self::parse).unwrap_or_default())
    }
}

impl ConfirmedChunks {
    fn parse(list: &str) -> Self {
        let mut chunks = Self::default();
        for chunk in list.split(',') {
            let index = chunk.strip_suffix(COPIED);
            chunks.copied += i64::from(index.is_some());
            chunks.indexes.extend(index.unwrap_or(chunk).parse::<i32>());
        }
        chunks.indexes.sort_unstable();
        chunks
    }
}
