//! The older Python system kept its state in a table of the same name. Its rows mean other things, so
//! a database that holds it is refused and left as it is.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseConnection;

/// Errors when `upload_sessions` is there and was not made by these migrations.
pub async fn refuse(db: &DatabaseConnection) -> Result<(), DbErr> {
    let manager = SchemaManager::new(db);
    if manager.has_table("upload_sessions").await?
        && !manager.has_column("upload_sessions", "assembly_id").await?
    {
        return Err(DbErr::Migration(
            "this database holds an upload_sessions table that UpFlow did not make (the older Python \
             system's?). Nothing was changed. Give UpFlow a database or a schema of its own in \
             DATABASE_URL, or rename the old table first"
                .to_owned(),
        ));
    }
    Ok(())
}
