//! `upflow-api`: the HTTP API as a process of its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use upflow_api::config::{ApiArgs, listen};
use upflow_core::Context;
use upflow_core::config::{self, Faults, SharedArgs};
use upflow_core::{program, shutdown};

/// The HTTP API of UpFlow
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    shared: SharedArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default)
    Serve,
    /// Print openapi.yaml
    Openapi,
}

#[tokio::main]
async fn main() -> ExitCode {
    program::exit("upflow-api", run().await)
}

async fn run() -> anyhow::Result<()> {
    config::load_dotenv()?;
    let cli = Cli::parse();
    if let Some(Command::Openapi) = cli.command {
        print!("{}", upflow_api::openapi_yaml());
        return Ok(());
    }
    let mut faults = Faults::default();
    let (api, settings) = (cli.api.check(&mut faults), cli.shared.check(&mut faults));
    let (api, settings) = faults.end(api.zip(settings))?;
    config::init_logging(&settings.app);
    let listener = listen(api.host, api.port, "--port", "UPFLOW_PORT")?;
    let ctx = Context::connect(&settings).await?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone());
    tracing::info!(app = settings.app.name, address = %listener.local_addr()?, "the API serves; it is open: no keys are set");
    upflow_api::serve(ctx, listener, stop).await?;
    tracing::info!("the API has stopped");
    Ok(())
}
