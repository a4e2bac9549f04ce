//! `upflow-worker`: the worker as a process of its own. Any number of them may run.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use upflow_core::Context;
use upflow_core::config::{self, Faults, MetricsArgs, SharedArgs};
use upflow_core::{health, program, shutdown};
use upflow_worker::WorkerArgs;
use upflow_worker::commands::{self, Command};

/// Where Prometheus finds the metrics unless told otherwise.
const METRICS_PORT: u16 = 9465;

/// Assembles uploaded files and cleans up
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    shared: SharedArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    program::run("upflow-worker", run()).await
}

async fn run() -> anyhow::Result<()> {
    config::load_dotenv()?;
    let cli = Cli::parse();
    let mut faults = Faults::default();
    // What else the worker was told is none of its business.
    if let Some(Command::Health) = cli.command {
        let metrics = cli.metrics.check(METRICS_PORT, &mut faults);
        let metrics = faults.end(metrics)?;
        let address = metrics.address().context("UPFLOW_METRICS_ADDR is off: nothing to ask")?;
        return health::check(address, "/metrics").await;
    }
    let (worker, settings) = (cli.worker.check(&mut faults), cli.shared.check(&mut faults));
    let metrics = cli.metrics.check(METRICS_PORT, &mut faults);
    let ((worker, settings), metrics) = faults.end(worker.zip(settings).zip(metrics))?;
    let logging = config::init_logging(&settings.app, "upflow-worker");
    let ctx = Context::connect(&settings).await?;
    match cli.command {
        None | Some(Command::Run | Command::Health) => {}
        Some(Command::Janitor { .. }) => return Ok(commands::dry_run(&ctx, &worker).await?),
        Some(Command::Orphans { delete, older_than }) => {
            return Ok(commands::orphans(&ctx, delete, older_than).await?);
        }
    }
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone());
    if let Some(metrics) = metrics.listen()? {
        tokio::spawn(upflow_core::metrics::serve(ctx.clone(), metrics, stop.clone()));
    }
    tracing::info!(app = settings.app.name, jobs = worker.jobs, "the worker runs");
    upflow_worker::run(ctx, worker, stop).await;
    tracing::info!("the worker has stopped");
    logging.end().await;
    Ok(())
}
