//! The database, Redis, and the times that depend on one another.

use upflow_core::db;
use upflow_core::queue::Queue;

use super::{Check, Patient, Report};

/// The versions that the tests run on, and those that have what is used.
const OLDEST_POSTGRES: i32 = 13;
const OLDEST_REDIS: u32 = 7;
/// Heartbeats in the life of a lease, as the worker has it.
const HEARTBEATS: u32 = 4;

pub async fn database(patient: &Patient, report: &mut Report) {
    let remedy = "check DATABASE_URL, and that the server runs and is reached from here";
    let found = async {
        let db = db::connect(&patient.settings.database).await?;
        let version = db::version(&db).await?;
        Ok::<_, db::DbErr>((db, version))
    };
    let (db, version) = match found.await {
        Ok(found) => found,
        Err(error) => {
            report.tell(Check::failed("database", error.to_string(), remedy));
            report.tell(Check::skipped("migrations", "the database does not answer"));
            return;
        }
    };
    report.tell(match version {
        Some(version) if version < OLDEST_POSTGRES => {
            let found = format!("PostgreSQL {version}");
            Check::failed("database", found, format!("update it to {OLDEST_POSTGRES} or newer"))
        }
        Some(version) => Check::ok("database", format!("PostgreSQL {version} answers")),
        None => {
            let remedy = "use PostgreSQL where there is more than one process";
            Check::warning("database", "SQLite", remedy)
        }
    });
    report.tell(match upflow_migration::difference(&db).await {
        Ok(difference) if !difference.missing.is_empty() => {
            let missing = difference.missing.join(", ");
            let remedy = "run `upflow-migration up`; it may run at any time";
            Check::failed("migrations", format!("missing: {missing}"), remedy)
        }
        Ok(difference) if !difference.unknown.is_empty() => {
            let unknown = difference.unknown.join(", ");
            let remedy = "update this program as well; the older one goes on working meanwhile";
            Check::warning("migrations", format!("newer than this program: {unknown}"), remedy)
        }
        Ok(_) => Check::ok("migrations", "up to date"),
        Err(error) => Check::failed("migrations", error.to_string(), remedy),
    });
    if let Err(error) = db.close().await {
        tracing::debug!(%error, "the database was not closed");
    }
}

pub async fn redis(patient: &Patient, report: &mut Report) {
    let asked = async { Queue::redis(&patient.settings.queue).await?.server().await };
    let server = match asked.await {
        Ok(Some(server)) => server,
        Ok(None) => return,
        Err(error) => {
            let remedy = "check REDIS_URL, or REDIS_HOST and REDIS_PORT, and that the server runs";
            report.tell(Check::failed("redis", error.to_string(), remedy));
            report.tell(Check::skipped("redis persistence", "Redis does not answer"));
            return;
        }
    };
    let major = server.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    report.tell(match major {
        Some(major) if major >= OLDEST_REDIS => {
            Check::ok("redis", format!("Redis {} answers", server.version))
        }
        _ => Check::failed(
            "redis",
            format!("Redis {}", server.version),
            format!("update it to {OLDEST_REDIS} or newer"),
        ),
    });
    report.tell(if server.append_only {
        Check::ok("redis persistence", "there is an append-only file: a restart loses no jobs")
    } else {
        let found = "there is no append-only file: a restart loses the jobs, and the janitor announces them after UPFLOW_LEASE";
        Check::warning("redis persistence", found, "set `appendonly yes`")
    });
    report.tell(match (server.eviction.as_str(), server.memory_limit) {
        ("noeviction", _) => {
            Check::ok("redis eviction", "noeviction: no job goes for want of memory")
        }
        (policy, Some(0)) => {
            let found = format!("{policy}, but there is no limit of memory");
            Check::warning("redis eviction", found, "set `maxmemory-policy noeviction`")
        }
        (policy, _) => Check::failed(
            "redis eviction",
            format!("{policy}: the stream of jobs goes when the memory is full"),
            "set `maxmemory-policy noeviction`, or use a Redis of its own",
        ),
    });
}

/// A heartbeat asks the database once; if that may take longer than the time between two, a slow database costs
/// leases, and the work is done twice.
pub fn lease(patient: &Patient) -> Check {
    let (lease, timeout) = (patient.worker.lease, patient.settings.database.timeout);
    let beat = lease / HEARTBEATS;
    if timeout <= beat {
        let found = format!("{lease:?}: a heartbeat each {beat:?}, a query ends after {timeout:?}");
        return Check::ok("lease", found);
    }
    let least = timeout * HEARTBEATS;
    Check::warning(
        "lease",
        format!("{lease:?} has a heartbeat each {beat:?}, and a query may take {timeout:?}"),
        format!("set UPFLOW_LEASE to {least:?} or more, or DATABASE_TIMEOUT to {beat:?} or less"),
    )
}
