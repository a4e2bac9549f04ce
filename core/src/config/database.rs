//! Where the truth is kept.

use std::time::Duration;

use super::Faults;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// postgres://user:password@host:5432/name
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Connections this process keeps at most
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value = "20")]
    pub database_max_connections: String,
    /// How long a query or the wait for a connection may take
    #[arg(long, env = "DATABASE_TIMEOUT", default_value = "10s")]
    pub database_timeout: String,
}

#[derive(Clone)]
pub struct DatabaseSettings {
    pub url: String,
    pub max_connections: u32,
    pub timeout: Duration,
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseSettings(..)")
    }
}

impl DatabaseSettings {
    pub fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }
}

impl DatabaseArgs {
    pub fn check(self, faults: &mut Faults) -> Option<DatabaseSettings> {
        let what = "postgres://user:password@host:5432/name";
        let url = faults.required("DATABASE_URL", self.database_url, what);
        let url = url.and_then(|url| match normalize(&url) {
            Ok(url) => Some(url),
            Err(problem) => {
                faults.add("DATABASE_URL", problem);
                None
            }
        });
        let max_connections =
            faults.number("DATABASE_MAX_CONNECTIONS", &self.database_max_connections, 2..=10_000);
        let timeout = faults.duration(
            "DATABASE_TIMEOUT",
            &self.database_timeout,
            Duration::from_millis(100)..=Duration::from_secs(300),
        );
        Some(DatabaseSettings { url: url?, max_connections: max_connections?, timeout: timeout? })
    }
}

/// Drops the driver that SQLAlchemy puts behind the scheme (`postgresql+psycopg2://`), and refuses
/// what is neither PostgreSQL nor SQLite. The URL itself is never repeated: it holds a password.
fn normalize(url: &str) -> Result<String, String> {
    let wrong = "must start with postgres:// (or sqlite://)";
    let (scheme, rest) = url.trim().split_once(':').ok_or(wrong)?;
    let scheme = scheme.split('+').next().unwrap_or(scheme);
    match scheme {
        "postgres" | "postgresql" if rest.starts_with("//") => {
            let url = format!("postgres:{rest}");
            url::Url::parse(&url).map_err(|error| {
                format!("is no URL ({error}); percent-encode special characters of the password")
            })?;
            Ok(url)
        }
        "sqlite" => Ok(format!("sqlite:{rest}")),
        _ => Err(wrong.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn the_driver_of_the_python_system_is_dropped() {
        assert_eq!(
            normalize("postgresql+psycopg2://u:p@db:5432/up?sslmode=require").unwrap(),
            "postgres://u:p@db:5432/up?sslmode=require"
        );
        assert_eq!(normalize("postgresql+asyncpg://u@h/d").unwrap(), "postgres://u@h/d");
        assert_eq!(normalize("sqlite:///tmp/a.db").unwrap(), "sqlite:///tmp/a.db");
    }

    #[test]
    fn other_databases_are_refused_without_repeating_the_password() {
        for url in ["mysql://u:secret@h/d", "secret", "postgres://u:sec ret@h:port/d"] {
            assert!(!normalize(url).unwrap_err().contains("sec"), "{url}");
        }
    }
}
