//! `upflow-api`: the HTTP API as a process of its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use upflow_api::config::{ApiArgs, listen};
use upflow_core::Context;
use upflow_core::config::{self, Faults, MetricsArgs, SharedArgs};
use upflow_core::{health, program, shutdown};

/// Where Prometheus finds the metrics unless told otherwise.
const METRICS_PORT: u16 = 9464;

/// The HTTP API of UpFlow
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    shared: SharedArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default)
    Serve,
    /// Print openapi.yaml
    Openapi,
    /// Ask the API that runs with these settings whether it is ready; for health checks of containers
    Health,
    /// Make an API key: prints the key, which is kept nowhere, and its entry for UPFLOW_API_KEYS
    Key {
        /// The owner of what is uploaded with it; another key of the same name is the same owner's
        name: String,
        /// For operators: may see and do everything, with the uploads of all owners
        #[arg(long)]
        admin: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    program::run("upflow-api", run()).await
}

async fn run() -> anyhow::Result<()> {
    config::load_dotenv()?;
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Openapi) => {
            print!("{}", upflow_api::openapi_yaml());
            return Ok(());
        }
        Some(Command::Key { name, admin }) => {
            let (key, entry) = upflow_api::auth::new_key(&name, admin)?;
            println!("key    {key}\nentry  {entry}");
            return Ok(());
        }
        // What else the server was told is none of its business.
        Some(Command::Health) => {
            let mut faults = Faults::default();
            let address = cli.api.address(&mut faults);
            let (host, port) = faults.end(address)?;
            return health::check((host, port).into(), "/health/ready").await;
        }
        Some(Command::Serve) | None => {}
    }
    let mut faults = Faults::default();
    let production = cli.shared.app.is_production();
    let (api, settings) = (cli.api.check(production, &mut faults), cli.shared.check(&mut faults));
    let metrics = cli.metrics.check(METRICS_PORT, &mut faults);
    let ((api, settings), metrics) = faults.end(api.zip(settings).zip(metrics))?;
    let logging = config::init_logging(&settings.app, "upflow-api");
    let listener = listen(api.host, api.port, "--port", "UPFLOW_PORT")?;
    let metrics = metrics.listen()?;
    let ctx = Context::connect(&settings).await?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone());
    let (app, address) = (settings.app.name, listener.local_addr()?);
    match &api.serve.access.keys {
        Some(keys) => tracing::info!(app, %address, ?keys, "the API serves; it asks for keys"),
        None => tracing::warn!(app, %address, "the API serves; it is OPEN: no keys are set"),
    }
    if let Some(metrics) = metrics {
        tokio::spawn(upflow_core::metrics::serve(ctx.clone(), metrics, stop.clone()));
    }
    upflow_api::serve(ctx, api.serve, listener, stop).await?;
    tracing::info!("the API has stopped");
    logging.end().await;
    Ok(())
}
