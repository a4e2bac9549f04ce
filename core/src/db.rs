//! The connection to PostgreSQL or SQLite, and what is particular to either.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::sqlx::error::Error as SqlxError;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseTransaction, DbBackend, RuntimeErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};

pub use sea_orm::{DatabaseConnection as Db, DbErr};

use crate::config::DatabaseSettings;

/// A connection that was used so lately is taken to be alive. If it is not, its query fails, and the next one
/// gets another.
const TRUSTED: Duration = Duration::from_secs(5);

/// The time now, to the millisecond: what the database keeps is what the API says.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

/// Connects. The pool opens its connections lazily, so a database that goes away later is a failed
/// query and not a dead program; one that is not there at the start is an error at once.
pub async fn connect(settings: &DatabaseSettings) -> Result<Db, DbErr> {
    let mut options = ConnectOptions::new(settings.url.clone());
    options
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.timeout)
        .connect_timeout(settings.timeout)
        .idle_timeout(Duration::from_secs(600))
        // By a round trip; before every query it would double them all.
        .test_before_acquire_if_idle_for(TRUSTED)
        .sqlx_logging(false);
    if settings.is_sqlite() {
        options.map_sqlx_sqlite_opts(|options| {
            use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
            options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // A confirmed chunk must outlive a power cut; NORMAL may lose the last commits.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(10))
                .foreign_keys(true)
        });
    } else {
        let statement_timeout = settings.timeout.as_millis().to_string();
        options.map_sqlx_postgres_opts(move |options| {
            options
                .application_name("upflow")
                // No statement here is one that would be faster for being compiled first.
                .options([("statement_timeout", statement_timeout.as_str()), ("jit", "off")])
        });
    }
    Database::connect(options).await
}

/// Begins a transaction that may write. On SQLite it takes the write lock at once: a reader that turns
/// writer half-way would fail with "database is locked" whatever the busy timeout.
pub async fn begin(db: &Db) -> Result<DatabaseTransaction, DbErr> {
    db.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    })
    .await
}

/// The connections that this process has to the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pool {
    pub open: i64,
    pub idle: i64,
    pub most: i64,
}

pub fn pool(db: &Db) -> Pool {
    let (open, idle, most) = match db.get_database_backend() {
        DbBackend::Postgres => {
            let pool = db.get_postgres_connection_pool();
            (pool.size(), pool.num_idle(), pool.options().get_max_connections())
        }
        _ => {
            let pool = db.get_sqlite_connection_pool();
            (pool.size(), pool.num_idle(), pool.options().get_max_connections())
        }
    };
    // The two are read one after the other.
    let idle = i64::try_from(idle).unwrap_or_default().min(open.into());
    Pool { open: open.into(), idle, most: most.into() }
}

/// The major version of a PostgreSQL; `None` of SQLite, which is part of this program.
pub async fn version(db: &Db) -> Result<Option<i32>, DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(None);
    }
    let asked = Statement::from_string(
        DbBackend::Postgres,
        "SELECT CAST(current_setting('server_version_num') AS integer) AS version",
    );
    let row = db.query_one_raw(asked).await?;
    row.map(|row| row.try_get::<i32>("", "version").map(|number| number / 10_000)).transpose()
}

/// Answers whether the database is there and has our tables.
pub async fn ping(db: &Db) -> Result<(), DbErr> {
    db.execute_unprepared("SELECT 1 FROM upload_sessions WHERE 1 = 0").await.map(drop)
}

/// The database cannot serve now and may later: the caller should be told to try again.
pub fn is_unavailable(error: &DbErr) -> bool {
    let source = match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => return true,
        DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => e,
        _ => return false,
    };
    match source.as_ref() {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::Protocol(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => true,
        SqlxError::Database(e) => e.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    }
}

fn is_passing(code: &str) -> bool {
    match code.len() {
        // PostgreSQL's classes 08 connection, 40 rollback (deadlock), 53 resources, 57 operator
        // intervention (shutdown, statement timeout); read-only (a demoted primary), lock not available.
        5 => ["08", "40", "53", "57", "25006", "55P03"].iter().any(|class| code.starts_with(class)),
        // SQLite's extended codes: busy and locked in the last byte.
        _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_passing;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        assert!(
            ["40P01", "57P01", "57014", "25006", "5", "261", "517"].into_iter().all(is_passing)
        );
        assert!(!["23505", "42P01", "19", "2067"].into_iter().any(is_passing));
    }
}
