//! A row of `upkeep`: a task that one worker does for all, now and then, and when it was begun last.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upkeep")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub task: String,
    pub begun_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
