//! Benchmarks, one file each. Each compares with something else in the same run and prints the ratio: a figure
//! of one machine on one day says little. The scripts beside `src` bring what they need.

mod assembly;
mod programs;
mod relay;
mod report;
mod run;
mod server;
mod store;
mod uploads;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Benchmarks of UpFlow; bench/README.md says how to read them")]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// All figures that the project promises, each against its floor: a table, JSON and plots
    Run(run::Args),
    /// The floor of an upload; `run` starts it
    #[command(hide = true)]
    Bare(run::BareArgs),
    /// The worker against bare part copies, its bytes and its memory
    Assembly(assembly::Args),
    /// The local S3 store against SeaweedFS: PUT, GET, part copies and Complete
    Store(store::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().benchmark {
        Benchmark::Run(args) => run::run(args).await,
        Benchmark::Bare(args) => run::bare(args).await,
        Benchmark::Assembly(args) => assembly::run(args).await,
        Benchmark::Store(args) => store::run(args).await,
    }
}
