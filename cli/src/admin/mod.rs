//! `upflow admin`: what people do who run a server, all of it through the API, so it needs an address and a
//! key and no access to database or bucket. What it prints is in [`show`].

mod orphans;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use upflow_client::{Api, CallError, ListQuery, Options, Status, Upload};

use crate::upload::words::{printable, say};

const BAD_USAGE: u8 = 2;
/// As many as one page of the API holds.
const PAGE: u32 = 100;

/// Look after the uploads of a server: of all owners, with a key that has the admin flag
#[derive(Debug, Args)]
#[command(after_help = "\
The API key, one with the admin flag unless the server is open, is taken from the environment variable
UPFLOW_API_KEY only: arguments can be seen by others.
Exit codes: 0 it is done, 1 it is not, 2 wrong usage.")]
pub struct AdminArgs {
    /// The server's address
    #[arg(
        long,
        global = true,
        env = "UPFLOW_SERVER",
        default_value = "http://127.0.0.1:8000",
        value_name = "URL"
    )]
    server: String,
    /// Print JSON, one object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List uploads, newest first
    List {
        /// Only those of this status, as in `failed`
        #[arg(long, value_parser = status)]
        status: Option<Status>,
        /// Only those of this owner: the name of the API key that they were begun with
        #[arg(long)]
        owner: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show one upload, and what happened to it when
    Show { upload_id: String },
    /// Assemble an upload again that has failed
    Retry { upload_id: String },
    /// End an upload; what was sent of it is removed
    Abort { upload_id: String },
    /// Tell the workers of an upload again, and end its pause after an error
    Requeue { upload_id: String },
    /// Count uploads and the bytes that unfinished ones hold in the bucket, and say what those cost
    Stats {
        /// What a GB costs a month; by default as S3 Standard in us-east-1, in USD
        #[arg(
            long,
            env = "UPFLOW_PRICE_PER_GB_MONTH",
            default_value_t = 0.023,
            value_name = "PRICE"
        )]
        price: f64,
    },
    /// Look for chunks in the bucket that the server's database does not know
    Orphans {
        /// Remove them. They may be another deployment's that uses the same bucket and prefix!
        #[arg(long, requires = "older_than")]
        delete: bool,
        /// Only those of which nothing was written for so long, as in 14d
        #[arg(long, value_name = "AGE", value_parser = age)]
        older_than: Option<Duration>,
    },
}

/// What keeps a command from its end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Refused(String),
}

pub async fn run(args: AdminArgs) -> ExitCode {
    let api = match api(&args.server) {
        Ok(api) => api,
        Err(error) => {
            eprintln!("upflow: {}", printable(&error.to_string()));
            return ExitCode::from(BAD_USAGE);
        }
    };
    match execute(&api, args.command, args.json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upflow: {}", printable(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn api(server: &str) -> Result<Api, upflow_client::Error> {
    let mut options = Options::new(server)?;
    options.api_key = std::env::var("UPFLOW_API_KEY").ok().filter(|key| !key.is_empty());
    // A person waits: the first answer that helps nobody is told.
    Ok(Api::new(options)?.briefly())
}

async fn execute(api: &Api, command: Command, json: bool) -> Result<(), Stopped> {
    match command {
        Command::List { status, owner, limit } => {
            let uploads = list(api, status, owner, limit).await?;
            print(json, &uploads, || show::list(&uploads));
        }
        Command::Show { upload_id } => {
            let upload = api.get(&upload_id).await?;
            let events = api.events(&upload_id).await?;
            let both = serde_json::json!({ "upload": upload, "events": events });
            print(json, &both, || show::upload(&upload, &events));
        }
        Command::Retry { upload_id } => {
            let upload = api.get(&upload_id).await?;
            if upload.status != Status::Failed {
                return Err(Stopped::Refused(not_failed(&upload)));
            }
            let upload = api.complete(&upload_id).await?;
            print(json, &upload, || format!("{upload_id} is {} again", upload.status));
        }
        Command::Abort { upload_id } => {
            let upload = api.abort(&upload_id).await?;
            print(json, &upload, || format!("{upload_id} is {}", upload.status));
        }
        Command::Requeue { upload_id } => {
            let upload = api.requeue(&upload_id).await?;
            let told =
                || format!("the workers are told of {upload_id}, which is {}", upload.status);
            print(json, &upload, told);
        }
        Command::Stats { price } => {
            let stats = api.stats().await?;
            let costs = show::Costs::of(&stats, price);
            let both = serde_json::json!({ "stats": stats, "unfinished": costs });
            print(json, &both, || show::stats(&stats, &costs));
        }
        Command::Orphans { delete, older_than } => {
            let report = orphans::report(api, delete, older_than).await?;
            print(json, &report, || report.to_string());
            if !report.kept.is_empty() {
                let kept = report.kept.len();
                return Err(Stopped::Refused(format!("{kept} were not removed")));
            }
        }
    }
    Ok(())
}

async fn list(
    api: &Api,
    status: Option<Status>,
    owner: Option<String>,
    limit: u32,
) -> Result<Vec<Upload>, CallError> {
    let mut query = ListQuery { status, owner, ..ListQuery::default() };
    let mut uploads = Vec::new();
    loop {
        let left = limit.saturating_sub(uploads.len() as u32);
        query.limit = Some(left.min(PAGE));
        let page = api.list(&query).await?;
        uploads.extend(page.uploads);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() || uploads.len() as u32 >= limit {
            return Ok(uploads);
        }
    }
}

fn not_failed(upload: &Upload) -> String {
    let id = &upload.upload_id;
    match upload.status {
        Status::PendingAssembly => {
            format!("{id} is being assembled: `upflow admin requeue {id}` tells the workers again")
        }
        status => format!("{id} is {status}: only one that has failed is tried again"),
    }
}

/// JSON for scripts, `text` for people.
fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) {
    match serde_json::to_string(value) {
        Ok(line) if json => say(&line),
        _ => say(&printable(&text())),
    }
}

fn status(text: &str) -> Result<Status, String> {
    let known =
        serde_json::from_value(text.into()).ok().filter(|status| *status != Status::Unknown);
    known.ok_or_else(|| {
        "must be initialized, uploading, pending_assembly, completed, failed, aborted or expired"
            .to_owned()
    })
}

fn age(text: &str) -> Result<Duration, String> {
    let age = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let whole = age.as_secs() >= 1;
    whole.then_some(age).ok_or_else(|| "must be a second or more, as in 14d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_that_there_is() {
        assert_eq!(status("pending_assembly"), Ok(Status::PendingAssembly));
        assert!(status("unknown").is_err() && status("done").is_err() && status("").is_err());
    }

    #[test]
    fn an_age_is_at_least_a_second() {
        assert_eq!(age("14d"), Ok(Duration::from_secs(14 * 24 * 3600)));
        assert!(age("0s").is_err() && age("a while").is_err());
    }
}
