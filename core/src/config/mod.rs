//! Settings: sections of flags and environment variables that the programs flatten into their command
//! lines. Every value is read as text and checked in one go, so that all faults are told at once, each
//! by the name of its variable.

mod app;
mod database;
mod faults;
mod limits;
mod metrics;
mod queue;
mod storage;

pub use app::{AppArgs, AppSettings, Logging, init_logging};
pub use database::{DatabaseArgs, DatabaseSettings};
pub use faults::{Faults, NotConfigured};
pub use limits::{Limits, LimitsArgs};
pub use metrics::{MetricsArgs, MetricsError, MetricsSettings};
pub use queue::{QueueArgs, QueueSettings};
pub use storage::{StaticCredentials, StorageArgs, StorageSettings};

/// What API and worker share.
#[derive(Debug, clap::Args)]
pub struct SharedArgs {
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub storage: StorageArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub limits: LimitsArgs,
}

/// The checked settings of a program.
#[derive(Debug, Clone)]
pub struct Settings {
    pub app: AppSettings,
    pub database: DatabaseSettings,
    pub storage: StorageSettings,
    pub queue: QueueSettings,
    pub limits: Limits,
}

impl SharedArgs {
    /// Checks every section; the faults of all of them go to `faults`.
    pub fn check(self, faults: &mut Faults) -> Option<Settings> {
        let app = self.app.check(faults);
        let database = self.database.check(faults);
        let storage = self.storage.check(faults);
        let queue = self.queue.check(faults);
        let limits = self.limits.check(faults);
        Some(Settings {
            app: app?,
            database: database?,
            storage: storage?,
            queue: queue?,
            limits: limits?,
        })
    }
}

/// Reads `.env` in the working directory into the environment, where there is one. Variables that are
/// set already win.
pub fn load_dotenv() -> Result<(), NotConfigured> {
    match dotenvy::from_path(".env") {
        Ok(()) => Ok(()),
        Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            let mut faults = Faults::default();
            // The parser's text repeats the line, which may hold a secret.
            let problem = match error {
                dotenvy::Error::LineParse(_, at) => {
                    format!(
                        "has a line that is not NAME=value (near character {at} of it); quote values with spaces or #"
                    )
                }
                _ => "cannot be read: check that it is a text file this user may read".to_owned(),
            };
            faults.add(".env", problem);
            faults.end(Some(())).map(drop)
        }
    }
}
