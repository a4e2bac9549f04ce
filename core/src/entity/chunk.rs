//! A row of `upload_chunks`: what a client declared of a chunk, what S3 said of it at confirm, and what
//! became of it in the final object. A chunk is confirmed once `confirmed_at` is set.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_chunks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub chunk_index: i32,
    /// The checksum the client signed into its latest URL.
    pub declared_checksum: Option<String>,
    pub size: Option<i64>,
    pub etag: Option<String>,
    /// The checksum of what was confirmed: the one that S3 keeps, or, where it keeps none of the upload's
    /// algorithm, the one that was declared then.
    pub checksum: Option<String>,
    pub confirmed_at: Option<DateTimeUtc>,
    /// The `etag` whose bytes are in the part; another one in `etag` means: copy again.
    pub copied_etag: Option<String>,
    pub part_etag: Option<String>,
    pub part_checksum: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
