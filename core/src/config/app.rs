//! Who this program is, and what it logs.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};
use url::Url;

use super::Faults;
use crate::trace;

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
    /// Where traces go: the address of an OpenTelemetry collector that takes OTLP over HTTP, as in
    /// http://localhost:4318; nowhere by default
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

#[derive(Debug, Clone)]
pub struct AppSettings {
    pub name: String,
    pub production: bool,
    pub log: String,
    pub json_logs: bool,
    /// The collector of traces, without `/v1/traces`.
    pub collector: Option<Url>,
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
        let collector = match self.otlp_endpoint.filter(|url| !url.trim().is_empty()) {
            None => None,
            Some(url) => match Url::parse(url.trim()) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
                _ => {
                    let problem = "must be an address like http://localhost:4318";
                    faults.add("OTEL_EXPORTER_OTLP_ENDPOINT", problem);
                    return None;
                }
            },
        };
        Some(AppSettings { name: self.app_name, production, log: self.log, json_logs, collector })
    }
}

/// The log of a program, and its traces where they are wanted.
#[must_use = "the last traces are lost unless it is ended"]
#[derive(Debug)]
pub struct Logging(Option<trace::Exporter>);

impl Logging {
    /// Sends the last traces.
    pub async fn end(self) {
        if let Some(exporter) = self.0 {
            // It blocks, and what it waits for runs in this runtime.
            let _ = tokio::task::spawn_blocking(move || exporter.end()).await;
        }
    }
}

/// Sends log lines to standard error, and traces of `program` to the collector. Later calls in one process
/// change nothing.
pub fn init_logging(settings: &AppSettings, program: &'static str) -> Logging {
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let fmt = if settings.json_logs {
        fmt.json().flatten_event(true).with_filter(lines(&settings.log)).boxed()
    } else {
        let ansi = std::io::stderr().is_terminal();
        fmt.with_target(false).with_ansi(ansi).with_filter(lines(&settings.log)).boxed()
    };
    let started = settings.collector.as_ref().map(|url| trace::start(url, program, &settings.name));
    let (exporter, failed) = match started {
        None => (None, None),
        Some(Ok(exporter)) => (Some(exporter), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let spans = exporter
        .as_ref()
        .map(|exporter| trace::layer(exporter).with_filter(spans_of_traces()).boxed());
    let layers: Vec<_> = [Some(fmt), spans].into_iter().flatten().collect();
    // An error means that a subscriber is set already: the embedding program has its own.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    if let Some(error) = failed {
        tracing::error!(%error, "there will be no traces");
    }
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("something that is no text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Within the request or the job that it happened in.
        tracing::error!(place, "a panic, which is a bug: {what}");
    }));
    Logging(exporter)
}

// Each filter says up to which level it lets anything pass. If one does not, `log` is told `trace`, and a library like
// fred formats each line before it is thrown away.

/// The lines of the log. Spans of traces are none.
fn lines(log: &str) -> impl Filter<Registry> + use<> {
    let others = filter_fn(|meta| meta.target() != trace::TARGET);
    // A directive that names a span lets it through above its own level, of which EnvFilter does not say anything.
    let others = match log.contains('[') {
        true => others,
        false => others.with_max_level_hint(LevelFilter::TRACE),
    };
    EnvFilter::new(log).and(others)
}

/// The spans of traces, which all are of this level.
fn spans_of_traces() -> impl Filter<Registry> {
    let ours = filter_fn(|meta| meta.is_span() && meta.target() == trace::TARGET);
    ours.with_max_level_hint(LevelFilter::INFO)
}

#[cfg(test)]
mod tests {
    use tracing::Subscriber as _;

    use super::*;

    #[test]
    fn the_log_says_up_to_which_level_it_goes() {
        let most = |log: &str, traces: bool| {
            let lines = tracing_subscriber::fmt::layer().with_filter(lines(log)).boxed();
            let traces = traces
                .then(|| tracing_subscriber::fmt::layer().with_filter(spans_of_traces()).boxed());
            let layers: Vec<_> = [Some(lines), traces].into_iter().flatten().collect();
            tracing_subscriber::registry().with(layers).max_level_hint()
        };
        assert_eq!(most(DEFAULT_LOG, false), Some(LevelFilter::INFO));
        assert_eq!(most(DEFAULT_LOG, true), Some(LevelFilter::INFO));
        assert_eq!(most("warn", false), Some(LevelFilter::WARN));
        assert_eq!(most("warn", true), Some(LevelFilter::INFO), "spans are of this level");
        assert_eq!(most("warn,upflow_worker=debug", true), Some(LevelFilter::DEBUG));
        assert_eq!(most("trace", false), Some(LevelFilter::TRACE));
        assert_eq!(most("error,[request]=warn", false), None, "the span is of a level above");
    }
}
