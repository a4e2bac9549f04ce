//! The local S3 store against SeaweedFS: how fast bytes go in and out, and how long it takes to make one
//! object of many.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::report::{self, Line, Unit};
use crate::server::{Assembled, Body, Server};

const MIB: usize = 1024 * 1024;
/// As UpFlow's chunks are.
const CHUNK: usize = 8 * MIB;
const SMALL: usize = 64 * 1024;
const AT_ONCE: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often everything is done on each server, in turns
    #[arg(long, default_value = "3")]
    rounds: usize,
    /// Chunks of 8 MiB that one object is made of
    #[arg(long, default_value = "128")]
    chunks: usize,
    /// Objects of 64 KiB
    #[arg(long, default_value = "1000")]
    small: usize,
    /// Where the store's data go; on the file system that SeaweedFS has too
    #[arg(long)]
    dir: std::path::PathBuf,
    /// Ends everything after so many seconds, whatever is done by then
    #[arg(long, default_value = "540")]
    seconds: u64,
}

/// What one round took on one server.
struct Round {
    put_small: Duration,
    get_small: Duration,
    put: Duration,
    get: Duration,
    copy: Duration,
    complete: Duration,
    get_whole: Duration,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let limit = Duration::from_secs(args.seconds);
    tokio::time::timeout(limit, measure(&args))
        .await
        .with_context(|| format!("not done in {limit:?}"))?
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let ours = Server::upflow(&args.dir.join("upflow")).await?;
    let theirs = Server::of_the_environment()?;
    let (body, small) = (Body::noise(CHUNK), Body::noise(SMALL));
    let bytes = (args.chunks * CHUNK) as u64;
    let count = args.small;
    let mut lines = [
        Line::new("PUT of 64 KiB", Unit::Requests { count }),
        Line::new("GET of 64 KiB", Unit::Requests { count }),
        Line::new("PUT of 8 MiB", Unit::Throughput { bytes }),
        Line::new("GET of 8 MiB", Unit::Throughput { bytes }),
        Line::new(format!("{} part copies of 8 MiB", args.chunks), Unit::Time),
        Line::new(format!("Complete of {} x 8 MiB", args.chunks), Unit::Time),
        Line::new("GET of the whole, one stream", Unit::Throughput { bytes }),
    ];
    for number in 1..=args.rounds {
        eprintln!("round {number} of {} ...", args.rounds);
        let [our, their] = [
            round(&ours, args, &body, &small).await.context("upflow s3")?,
            round(&theirs, args, &body, &small).await.context("SeaweedFS")?,
        ]
        .map(Round::times);
        for (line, (our, their)) in lines.iter_mut().zip(our.into_iter().zip(their)) {
            line.ours.push(our);
            line.theirs.push(their);
        }
    }
    let floor = write_and_sync(&args.dir, args.chunks, &body)?;
    println!("{AT_ONCE} requests at once, but for the last two lines.\n");
    report::print("upflow s3", "SeaweedFS", &lines);
    println!(
        "The disk alone takes {:.0} MiB/s in synced files of 8 MiB, one after the other.",
        (bytes as f64 / MIB as f64) / floor.as_secs_f64()
    );
    Ok(())
}

impl Round {
    /// In the order of the lines.
    fn times(self) -> [Duration; 7] {
        [
            self.put_small,
            self.get_small,
            self.put,
            self.get,
            self.copy,
            self.complete,
            self.get_whole,
        ]
    }
}

async fn round(s3: &Server, args: &Args, body: &Body, small: &Body) -> anyhow::Result<Round> {
    let chunk = |number: usize| format!("bench/chunk/{number}");
    let tiny = |number: usize| format!("bench/small/{number}");
    let put_small = timed(args.small, |number| async move { s3.put(&tiny(number), small).await });
    let put_small = put_small.await?;
    let get_small = timed(args.small, |number| read(s3, tiny(number), SMALL)).await?;
    let put =
        timed(args.chunks, |number| async move { s3.put(&chunk(number), body).await }).await?;
    let get = timed(args.chunks, |number| read(s3, chunk(number), CHUNK)).await?;
    let whole = "bench/whole";
    let sources: Vec<String> = (0..args.chunks).map(chunk).collect();
    let Assembled { copies: copy, complete, .. } = s3.assemble(whole, &sources, AT_ONCE).await?;
    let began = Instant::now();
    read(s3, whole.to_owned(), args.chunks * CHUNK).await?;
    let get_whole = began.elapsed();
    s3.delete(whole).await?;
    timed(args.chunks, |number| async move { s3.delete(&chunk(number)).await }).await?;
    timed(args.small, |number| async move { s3.delete(&tiny(number)).await }).await?;
    Ok(Round { put_small, get_small, put, get, copy, complete, get_whole })
}

/// Does it for each number, so many at once, and answers how long all took.
async fn timed<F>(count: usize, work: impl Fn(usize) -> F) -> anyhow::Result<Duration>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let began = Instant::now();
    stream::iter(0..count).map(work).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(began.elapsed())
}

async fn read(s3: &Server, key: String, length: usize) -> anyhow::Result<()> {
    let found = s3.get(&key).await?;
    ensure!(found == length, "{key} has {found} bytes instead of {length}");
    Ok(())
}

/// What a store that syncs cannot be faster than, one body after the other.
fn write_and_sync(dir: &Path, count: usize, body: &Body) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir_in(dir)?;
    let began = Instant::now();
    for number in 0..count {
        let file = std::fs::File::create(folder.path().join(number.to_string()))?;
        std::io::Write::write_all(&mut &file, &body.bytes)?;
        file.sync_data()?;
    }
    Ok(began.elapsed())
}
