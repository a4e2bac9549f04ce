//! Where in which trace an upload began. Programs that do not know the column go on as before.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = "ALTER TABLE upload_sessions ADD COLUMN traceparent text";
        manager.get_connection().execute_unprepared(column).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = "ALTER TABLE upload_sessions DROP COLUMN traceparent";
        manager.get_connection().execute_unprepared(column).await.map(drop)
    }
}
