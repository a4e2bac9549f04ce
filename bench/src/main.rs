//! Benchmarks, one file each. Each compares with something else in the same run and prints the ratio: a figure
//! of one machine on one day says little. The scripts beside `src` bring what they need.

mod assembly;
mod programs;
mod relay;
mod report;
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
    /// The worker against bare part copies, its bytes and its memory
    Assembly(assembly::Args),
    /// The local S3 store against SeaweedFS: PUT, GET, part copies and Complete
    Store(store::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().benchmark {
        Benchmark::Assembly(args) => assembly::run(args).await,
        Benchmark::Store(args) => store::run(args).await,
    }
}
