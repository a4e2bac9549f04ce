//! Any number of programs may migrate one database at once. PostgreSQL needs a lock for that, held on
//! a connection of its own, since every migration has its own transaction; SQLite locks by itself.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, TransactionTrait,
};

use crate::{Migrator, legacy};

/// "upflow" in ASCII: what the lock is known by to PostgreSQL.
const LOCK: i64 = 0x7570_666c_6f77;

/// Brings the schema up to date. The connection's pool must allow two connections.
pub async fn up(db: &DatabaseConnection) -> Result<(), DbErr> {
    let lock = match db.get_database_backend() {
        DbBackend::Postgres => {
            let tx = db.begin().await?;
            // Others may take as long as their migrations take.
            tx.execute_unprepared("SET LOCAL statement_timeout = 0").await?;
            tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
            Some(tx)
        }
        _ => None,
    };
    legacy::refuse(db).await?;
    let migrated = Migrator::up(db, None).await;
    if let Some(lock) = lock {
        lock.rollback().await?;
    }
    migrated
}
