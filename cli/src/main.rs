//! The `upflow` command: without a subcommand it runs everything in one process; `upflow upload` sends
//! files; `upflow admin` looks after a server; `upflow doctor` checks what it stands on; `upflow s3` serves the local S3 store alone.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use upflow::admin::{self, AdminArgs};
use upflow::doctor::{self, DoctorArgs};
use upflow::embedded::{self, EmbeddedArgs, S3Args};
use upflow::upload::{self, UploadArgs};
use upflow_core::{config, program};

/// Resumable uploads straight to S3. Without a command: API, worker, database and an S3 server in one
/// process, to try it and to develop against it
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    embedded: EmbeddedArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Send files through an UpFlow server; run it again to resume
    Upload(UploadArgs),
    /// Look after the uploads of a server
    Admin(AdminArgs),
    /// Check bucket, database and Redis of production, and say what to do
    Doctor(Box<DoctorArgs>),
    /// Serve the local S3 store alone, on this machine: a small S3 to test and develop against
    S3(S3Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Err(error) = config::load_dotenv() {
        eprintln!("upflow: {error}");
        return ExitCode::from(2);
    }
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Upload(args)) => upload::run(args).await,
        Some(Command::Admin(args)) => admin::run(args).await,
        Some(Command::Doctor(args)) => doctor::run(*args).await,
        Some(Command::S3(args)) => program::run("upflow", embedded::run_s3(args)).await,
        None => program::run("upflow", embedded::run(cli.embedded)).await,
    }
}
