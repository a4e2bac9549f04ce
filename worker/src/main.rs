//! `upflow-worker`: the worker as a process of its own. Any number of them may run.

use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;
use upflow_core::Context;
use upflow_core::config::{self, Faults, SharedArgs};
use upflow_core::{program, shutdown};
use upflow_worker::WorkerArgs;
use upflow_worker::commands::{self, Command};

/// Assembles uploaded files and cleans up
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    shared: SharedArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    program::exit("upflow-worker", run().await)
}

async fn run() -> anyhow::Result<()> {
    config::load_dotenv()?;
    let cli = Cli::parse();
    let mut faults = Faults::default();
    let (worker, settings) = (cli.worker.check(&mut faults), cli.shared.check(&mut faults));
    let (worker, settings) = faults.end(worker.zip(settings))?;
    config::init_logging(&settings.app);
    let ctx = Context::connect(&settings).await?;
    match cli.command {
        None | Some(Command::Run) => {}
        Some(Command::Janitor { .. }) => return Ok(commands::dry_run(&ctx, &worker).await?),
        Some(Command::Orphans { delete, older_than }) => {
            return Ok(commands::orphans(&ctx, delete, older_than).await?);
        }
    }
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone());
    tracing::info!(app = settings.app.name, jobs = worker.jobs, "the worker runs");
    upflow_worker::run(ctx, worker, stop).await;
    tracing::info!("the worker has stopped");
    Ok(())
}
