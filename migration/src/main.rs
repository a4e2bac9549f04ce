//! `upflow-migration up`: brings the database schema up to date.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sea_orm_migration::MigratorTrait as _;
use upflow_core::config::{self, AppArgs, DatabaseArgs, Faults};
use upflow_core::program;
use upflow_migration::Migrator;

/// Keeps the database schema of UpFlow up to date
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Apply what is missing; safe to run at any time, also by several at once
    Up,
    /// Say which migrations the database has
    Status,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    program::run("upflow-migration", run()).await
}

async fn run() -> anyhow::Result<()> {
    config::load_dotenv()?;
    let cli = Cli::parse();
    let mut faults = Faults::default();
    let (app, database) = (cli.app.check(&mut faults), cli.database.check(&mut faults));
    let (app, database) = faults.end(app.zip(database))?;
    let logging = config::init_logging(&app, "upflow-migration");
    let db = upflow_core::db::connect(&database)
        .await
        .context("the database (DATABASE_URL) cannot be used")?;
    match cli.command {
        Command::Up => {
            upflow_migration::up(&db).await?;
            say("the database is up to date");
        }
        Command::Status => {
            for migration in Migrator::get_migration_with_status(&db).await? {
                say(&format!("{}  {}", migration.name(), migration.status()));
            }
        }
    }
    logging.end().await;
    Ok(())
}

/// Prints a line. Whoever reads may have stopped reading, as `head` does: that undoes nothing.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
