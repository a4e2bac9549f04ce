//! `upflow doctor`: tries what the programs of production need, with their own settings, and says of each thing
//! in a line how it is and what to do. It leaves nothing behind: what it tries, it tries with objects that no
//! upload can have, and deletes.

mod bucket;
mod pages;
mod servers;

use std::fmt;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use upflow_core::config::{Faults, Settings, SharedArgs, init_logging};
use upflow_core::metrics::Metrics;
use upflow_core::storage::Storage;
use upflow_worker::{WorkerArgs, WorkerSettings};

use crate::upload::words::{printable, say};

const BAD_SETTINGS: u8 = 2;

/// Check bucket, database and Redis, with the settings of upflow-api and upflow-worker
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 nothing has failed (there may be warnings), 1 something has, 2 the settings are not complete.")]
pub struct DoctorArgs {
    /// A page that is to send files, as in https://app.example; can be given several times
    #[arg(long, env = "UPFLOW_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    origin: Vec<String>,
    /// Add what is missing of the bucket's CORS and lifecycle rules, after showing it
    #[arg(long)]
    fix: bool,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    shared: SharedArgs,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// It works, and could be better.
    Warning,
    Failed,
    /// It could not be tried.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn new(
        name: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name, verdict, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warning, found, remedy)
    }

    fn failed(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, Verdict::Failed, found, remedy)
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Skipped, found: why.into(), remedy: None }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        // However many lines an error has.
        let line = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        write!(f, "{verdict:8} {:18} {}", self.name, line(&self.found))?;
        match &self.remedy {
            Some(remedy) => write!(f, " -> {}", line(remedy)),
            None => Ok(()),
        }
    }
}

/// What the checks look at.
struct Patient {
    settings: Settings,
    worker: WorkerSettings,
    storage: Storage,
    http: reqwest::Client,
    origins: Vec<String>,
    json: bool,
}

impl Patient {
    /// Shows what is about to be changed; not among the JSON.
    fn show(&self, text: &str) {
        if self.json {
            eprintln!("{}", printable(text));
        } else {
            say(&printable(text));
        }
    }
}

/// Tells each check as soon as it is done.
struct Report {
    json: bool,
    checks: Vec<Check>,
}

impl Report {
    fn tell(&mut self, check: Check) {
        if !self.json {
            say(&printable(&check.to_string()));
        }
        self.checks.push(check);
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// The last line.
    fn end(self) -> ExitCode {
        let failed = self.count(Verdict::Failed);
        if self.json {
            let healthy = failed == 0;
            let report = serde_json::json!({ "healthy": healthy, "checks": self.checks });
            say(&report.to_string());
        } else {
            say(&format!(
                "\n{} ok, {} warnings, {failed} failed, {} skipped",
                self.count(Verdict::Ok),
                self.count(Verdict::Warning),
                self.count(Verdict::Skipped)
            ));
        }
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

pub async fn run(args: DoctorArgs) -> ExitCode {
    let (fix, json) = (args.fix, args.json);
    let patient = match patient(args).await {
        Ok(patient) => patient,
        Err(error) => {
            eprintln!("upflow: {}", printable(&error.to_string()));
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    let mut report = Report { json, checks: Vec::new() };
    if bucket::reached(&patient, &mut report).await {
        bucket::calls(&patient, &mut report).await;
        bucket::integrity(&patient, &mut report).await;
        pages::clients(&patient, &mut report).await;
        for origin in &patient.origins {
            report.tell(pages::cors(&patient, origin, fix).await);
        }
        if patient.origins.is_empty() {
            let found = "not tried: no page was named";
            let remedy = "name those that send files with --origin https://app.example";
            report.tell(Check::new("cors", Verdict::Skipped, found, remedy));
        }
        report.tell(bucket::lifecycle(&patient, fix).await);
    } else {
        let why = "the bucket cannot be used, see above";
        report.tell(Check::skipped("objects and rules", why));
    }
    servers::database(&patient, &mut report).await;
    servers::redis(&patient, &mut report).await;
    report.tell(servers::lease(&patient));
    report.end()
}

async fn patient(args: DoctorArgs) -> anyhow::Result<Patient> {
    let mut faults = Faults::default();
    let origins: Vec<String> = args
        .origin
        .iter()
        .map(|origin| origin.trim().to_owned())
        .filter(|o| !o.is_empty())
        .collect();
    for origin in origins.iter().filter(|origin| !upflow_api::auth::is_origin(origin)) {
        faults.add("--origin", format!("must be like https://app.example, not {origin:?}"));
    }
    let worker = args.worker.check(&mut faults);
    let settings = args.shared.check(&mut faults);
    let (worker, mut settings) = faults.end(worker.zip(settings))?;
    // What it finds is its report; the log of the parts would tell it again.
    settings.app.log = "off".to_owned();
    init_logging(&settings.app, "upflow-doctor").end().await;
    let storage = Storage::connect(&settings.storage, &Metrics::default()).await;
    Ok(Patient {
        http: pages::http(settings.storage.timeout)?,
        settings,
        worker,
        storage,
        origins,
        json: args.json,
    })
}
