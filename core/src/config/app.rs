//! Who this program is, and what it logs.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::Faults;

/// The libraries have little to say that matters to those who run the service; s3s, of the local S3 server,
/// takes every refusal for an error.
const DEFAULT_LOG: &str = "warn,upflow=info,s3s=off";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Program")]
pub struct AppArgs {
    /// `development` or `production`; production logs JSON
    #[arg(long, env = "APP_ENV", default_value = "development")]
    pub app_env: String,
    /// The name of this deployment, in the line that each program logs at its start
    #[arg(long, env = "APP_NAME", default_value = "upflow")]
    pub app_name: String,
    /// What to log, as in `info` or `warn,upflow_worker=debug`
    #[arg(long, env = "UPFLOW_LOG", default_value = DEFAULT_LOG)]
    pub log: String,
    /// `human` or `json`; by default json in production, human elsewhere
    #[arg(long, env = "UPFLOW_LOG_FORMAT")]
    pub log_format: Option<String>,
}

#[derive(Debug, Clone)]
pub struct AppSettings {
    pub name: String,
    pub production: bool,
    pub log: String,
    pub json_logs: bool,
}

impl AppArgs {
    pub fn is_production(&self) -> bool {
        matches!(self.app_env.as_str(), "production" | "prod")
    }

    pub fn check(self, faults: &mut Faults) -> Option<AppSettings> {
        let production = self.is_production();
        let json_logs = match self.log_format.as_deref() {
            None | Some("") => production,
            Some("json") => true,
            Some("human") => false,
            Some(other) => {
                faults.add("UPFLOW_LOG_FORMAT", format!("must be human or json, not {other:?}"));
                return None;
            }
        };
        if let Err(error) = EnvFilter::try_new(&self.log) {
            faults.add("UPFLOW_LOG", format!("is no log filter ({error}); try info"));
            return None;
        }
        Some(AppSettings { name: self.app_name, production, log: self.log, json_logs })
    }
}

/// Sends log lines to standard error. Later calls in one process change nothing.
pub fn init_logging(settings: &AppSettings) {
    let filter = EnvFilter::new(&settings.log);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a subscriber is set already: the embedding program has its own.
    let _ = if settings.json_logs {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}
