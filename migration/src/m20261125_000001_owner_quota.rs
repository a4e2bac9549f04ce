//! An index of the uploads under way by owner: `init` counts them.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index = "CREATE INDEX upload_sessions_under_way ON upload_sessions (owner, file_size)
            WHERE status NOT IN ('completed', 'aborted', 'expired')";
        manager.get_connection().execute_unprepared(index).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index = "DROP INDEX upload_sessions_under_way";
        manager.get_connection().execute_unprepared(index).await.map(drop)
    }
}
