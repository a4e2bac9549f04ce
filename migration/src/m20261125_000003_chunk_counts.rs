//! How many chunks of each upload are confirmed, kept by the database itself: to count the rows with every
//! confirm would cost more with every chunk. PostgreSQL only; SQLite counts.
//!
//! One row for each upload and slot, a slot for each sixteenth of the connections, so that parallel confirms
//! seldom wait for one another. The sum is what counts; one slot alone may be below nothing.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: [&str; 6] = [
    // Room in each page, so that an update stays in its own.
    "CREATE TABLE upload_counts (
        upload_id uuid NOT NULL REFERENCES upload_sessions (upload_id) ON DELETE CASCADE,
        slot smallint NOT NULL,
        confirmed integer NOT NULL,
        PRIMARY KEY (upload_id, slot)
    ) WITH (fillfactor = 50)",
    // What older programs confirm meanwhile waits, and is counted by the triggers.
    "LOCK TABLE upload_chunks IN SHARE ROW EXCLUSIVE MODE",
    "INSERT INTO upload_counts (upload_id, slot, confirmed)
     SELECT upload_id, 0, count(*) FROM upload_chunks WHERE confirmed_at IS NOT NULL GROUP BY upload_id",
    "CREATE FUNCTION upload_chunks_counted() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         IF TG_OP = 'INSERT' THEN
             INSERT INTO upload_counts AS counts (upload_id, slot, confirmed)
             SELECT upload_id, pg_backend_pid() % 16, count(*) FROM new_rows
             WHERE confirmed_at IS NOT NULL GROUP BY upload_id
             ON CONFLICT (upload_id, slot) DO UPDATE SET confirmed = counts.confirmed + excluded.confirmed;
         ELSE
             INSERT INTO upload_counts AS counts (upload_id, slot, confirmed)
             SELECT upload_id, pg_backend_pid() % 16, sum(change) FROM (
                 SELECT upload_id, 1 AS change FROM new_rows WHERE confirmed_at IS NOT NULL
                 UNION ALL SELECT upload_id, -1 FROM old_rows WHERE confirmed_at IS NOT NULL
             ) changes GROUP BY upload_id HAVING sum(change) <> 0
             ON CONFLICT (upload_id, slot) DO UPDATE SET confirmed = counts.confirmed + excluded.confirmed;
         END IF;
         RETURN NULL;
     END $$",
    "CREATE TRIGGER upload_chunks_inserted AFTER INSERT ON upload_chunks
     REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION upload_chunks_counted()",
    "CREATE TRIGGER upload_chunks_updated AFTER UPDATE ON upload_chunks
     REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
     FOR EACH STATEMENT EXECUTE FUNCTION upload_chunks_counted()",
];

const DOWN: [&str; 4] = [
    "DROP TRIGGER upload_chunks_updated ON upload_chunks",
    "DROP TRIGGER upload_chunks_inserted ON upload_chunks",
    "DROP FUNCTION upload_chunks_counted",
    "DROP TABLE upload_counts",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &DOWN).await
    }
}

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    if manager.get_database_backend() == DbBackend::Postgres {
        for statement in statements {
            manager.get_connection().execute_unprepared(statement).await?;
        }
    }
    Ok(())
}
