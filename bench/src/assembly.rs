//! The worker against the fewest requests that make the same object: how much longer it takes, how many bytes
//! go through it, and how much memory it has.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::programs::{Programs, Running};
use crate::relay::{Passed, Relay};
use crate::report::{Unit, median, spread};
use crate::server::{Assembled, Body, Server, variable};
use crate::uploads::{Api, Took, Upload};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// As UpFlow's chunks are.
const CHUNK: usize = 8 * MIB;
/// The smallest that UpFlow takes: such chunks are not copied, but pass through the worker.
const SMALL: usize = 64 * KIB;
/// What a worker does first, so that connections are open and it has tried what the storage enforces.
const WARM_UP: usize = 16;
/// Copies at once, of the worker and of the floor.
const COPIES: usize = 16;
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often everything is done; 0 measures the memory alone
    #[arg(long, default_value = "3")]
    rounds: usize,
    /// Chunks of 8 MiB in a file
    #[arg(long, default_value = "128")]
    chunks: usize,
    /// Chunks of 64 KiB in the file that is streamed
    #[arg(long, default_value = "10000")]
    small: usize,
    /// A setting of the worker, as NAME=VALUE
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Where logs go
    #[arg(long)]
    dir: PathBuf,
    /// Ends everything after so many seconds, whatever is done by then
    #[arg(long, default_value = "900")]
    seconds: u64,
}

/// The servers and programs of one pass, in a bucket of its own: what was deleted takes space in SeaweedFS
/// until its bucket is.
struct Pass {
    server: Server,
    /// Between the worker and S3.
    relay: Relay,
    api: Api,
    api_process: Running,
    worker: Running,
}

/// What the rounds of a pass took.
#[derive(Default)]
struct Times {
    worker: Vec<Duration>,
    client: Vec<Duration>,
    passed: Vec<Passed>,
}

/// What the rounds of the floor took.
#[derive(Default)]
struct Floor {
    whole: Vec<Duration>,
    create: Vec<Duration>,
    copies: Vec<Duration>,
    complete: Vec<Duration>,
    passed: Vec<Passed>,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let limit = Duration::from_secs(args.seconds);
    tokio::time::timeout(limit, measure(&args))
        .await
        .with_context(|| format!("not done in {limit:?}"))?
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let body = Body::noise(CHUNK);
    println!("Load of the machine before: {}", load()?);
    if args.rounds > 0 {
        let (ours, floor) = compare(args, &body).await?;
        let ahead = ahead(args, &body).await?;
        println!("Load after the rounds:      {}\n", load()?);
        print_times(args, &ours, &floor, &ahead);
        print_bytes(args, &ours, &floor);
    }
    println!(
        "\nPeak memory of the worker's process (VmHWM), a new one each (goal: at most 64 MiB)"
    );
    let small = Body::noise(SMALL);
    for (chunks, body) in [(1, &body), (args.chunks, &body), (args.small, &small)] {
        let peak = peak_memory(args, chunks, body).await?;
        println!("  {chunks:>6} x {:<8} {}", length(body.bytes.len()), mib(peak));
    }
    Ok(())
}

/// The worker and the floor in turns, each first in every other round.
async fn compare(args: &Args, body: &Body) -> anyhow::Result<(Times, Floor)> {
    let pass = Pass::start(args, "on-complete", "on_complete").await?;
    let relay = Relay::to(&variable("TEST_S3_ENDPOINT")?).await?;
    let bare = Server::of_the_environment_by(&relay.endpoint(), &pass.server.bucket)?;
    let (mut ours, mut floor) = (Times::default(), Floor::default());
    let warm_up = pass.api.send(WARM_UP, body).await?;
    copy_bare(&bare, &warm_up).await?;
    pass.complete(&warm_up).await?;
    for number in 1..=args.rounds {
        eprintln!("round {number} of {}: {} chunks of 8 MiB ...", args.rounds, args.chunks);
        let upload = pass.api.send(args.chunks, body).await?;
        // The worker removes the chunks that it has copied: where it is first, the floor has others.
        let others = match number % 2 {
            0 => Some(pass.api.send(args.chunks, body).await?),
            _ => None,
        };
        let copied = others.as_ref().unwrap_or(&upload);
        if others.is_some() {
            ours.add(&pass, &upload).await?;
            floor.add(&bare, &relay, copied).await?;
            pass.api.abort(copied).await?;
            pass.cleaned(copied).await?;
        } else {
            floor.add(&bare, &relay, copied).await?;
            ours.add(&pass, &upload).await?;
        }
    }
    pass.end().await?;
    Ok((ours, floor))
}

/// Uploads whose chunks were all copied while the client still sent.
async fn ahead(args: &Args, body: &Body) -> anyhow::Result<Times> {
    let pass = Pass::start(args, "eager", "eager").await?;
    let mut times = Times::default();
    let warm_up = pass.api.send(WARM_UP, body).await?;
    pass.complete(&warm_up).await?;
    for number in 1..=args.rounds {
        eprintln!("round {number} of {}, copied ahead ...", args.rounds);
        let upload = pass.api.send(args.chunks, body).await?;
        pass.api.copied_ahead(&upload).await?;
        times.add(&pass, &upload).await?;
    }
    pass.end().await?;
    Ok(times)
}

/// Of a worker that has done nothing but one upload.
async fn peak_memory(args: &Args, chunks: usize, body: &Body) -> anyhow::Result<u64> {
    eprintln!("memory: {chunks} chunks of {} ...", length(body.bytes.len()));
    let name = format!("memory-{chunks}");
    let pass = Pass::start(args, &name, "on_complete").await?;
    let upload = pass.api.send(chunks, body).await?;
    pass.complete(&upload).await?;
    let peak = pass.worker.peak_memory()?;
    pass.end().await?;
    Ok(peak)
}

impl Pass {
    async fn start(args: &Args, name: &str, assembly: &str) -> anyhow::Result<Pass> {
        let s3 = variable("TEST_S3_ENDPOINT")?;
        let bucket = format!("bench-{name}");
        let server = Server::of_the_environment_by(&s3, &bucket)?;
        server.client.create_bucket().bucket(&bucket).send().await?;
        let relay = Relay::to(&s3).await?;
        let programs = Programs::new(&args.dir.join(name), &server.place, assembly)?;
        programs.migrate().await?;
        let (api_process, url) = programs.api(&s3).await?;
        let mut settings = vec![("UPFLOW_COPIES".to_owned(), COPIES.to_string())];
        settings.extend(args.settings.iter().cloned());
        let worker = programs.worker(&relay.endpoint(), settings).await?;
        Ok(Pass { server, relay, api: Api::new(url), api_process, worker })
    }

    /// Makes the final object, waits until its chunks are gone, and removes it.
    async fn complete(&self, upload: &Upload) -> anyhow::Result<Took> {
        let took = self.api.complete(upload).await.with_context(|| self.worker.log())?;
        self.cleaned(upload).await?;
        self.server.delete(&format!("uploads/{}/final/bench.bin", upload.id)).await?;
        Ok(took)
    }

    async fn cleaned(&self, upload: &Upload) -> anyhow::Result<()> {
        let (client, bucket) = (&self.server.client, &self.server.bucket);
        loop {
            let list = client.list_objects_v2().bucket(bucket).prefix(upload.prefix());
            if list.max_keys(1).send().await?.contents().is_empty() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn end(self) -> anyhow::Result<()> {
        self.worker.end().await?;
        self.api_process.end().await?;
        self.server.client.delete_bucket().bucket(&self.server.bucket).send().await?;
        Ok(())
    }
}

impl Times {
    async fn add(&mut self, pass: &Pass, upload: &Upload) -> anyhow::Result<()> {
        pass.relay.take();
        let took = pass.complete(upload).await?;
        self.worker.push(took.worker);
        self.client.push(took.client);
        self.passed.push(pass.relay.take());
        Ok(())
    }
}

impl Floor {
    async fn add(&mut self, bare: &Server, relay: &Relay, upload: &Upload) -> anyhow::Result<()> {
        relay.take();
        let Assembled { create, copies, complete } = copy_bare(bare, upload).await?;
        self.passed.push(relay.take());
        self.whole.push(create + copies + complete);
        self.create.push(create);
        self.copies.push(copies);
        self.complete.push(complete);
        Ok(())
    }
}

fn setting(text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text.split_once('=').context("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The object that is made is removed again.
async fn copy_bare(bare: &Server, upload: &Upload) -> anyhow::Result<Assembled> {
    let key = "bench/whole";
    let took = bare.assemble(key, &upload.chunk_keys(), COPIES).await?;
    bare.delete(key).await?;
    Ok(took)
}

fn print_times(args: &Args, ours: &Times, floor: &Floor, ahead: &Times) {
    let (chunks, rounds) = (args.chunks, args.rounds);
    println!("{chunks} chunks of 8 MiB, {COPIES} copies at once; medians of {rounds} rounds");
    println!("{:<52}{:>12}{:>8}   spread", "", "time", "ratio");
    let line = |name: &str, times: &[Duration], against: &[Duration]| {
        let Some(time) = median(times) else { return };
        // Of each round by itself: what slows the machine down lasts longer than a round.
        let ratios = times.iter().zip(against).map(|(ours, floor)| ours.div_duration_f64(*floor));
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = ratios.get(ratios.len() / 2).map(|ratio| format!("{ratio:.2}"));
        let range = match (ratios.first(), ratios.last()) {
            (Some(least), Some(most)) => format!(", ratio {least:.2} to {most:.2}"),
            _ => String::new(),
        };
        println!(
            "{name:<52}{:>12}{:>8}   {}{range}",
            Unit::Time.show(time),
            ratio.unwrap_or_default(),
            spread(Unit::Time, times)
        );
    };
    line("floor: Create, bare UploadPartCopy, Complete", &floor.whole, &[]);
    line("  its Create", &floor.create, &[]);
    line("  its copies", &floor.copies, &[]);
    line("  its Complete", &floor.complete, &[]);
    line("worker: pending_assembly to completed (goal: 1.10)", &ours.worker, &floor.whole);
    line("client: complete to the answer that it is", &ours.client, &floor.whole);
    line("worker, all copied ahead", &ahead.worker, &[]);
    line("client, all copied ahead", &ahead.client, &[]);
}

fn print_bytes(args: &Args, ours: &Times, floor: &Floor) {
    let file = (args.chunks * CHUNK) as u64;
    println!("\nBytes through the worker for a file of {} (goal: none of it)", mib(file));
    let most = |passed: &[Passed], of: fn(&Passed) -> u64| passed.iter().map(of).max().unwrap_or(0);
    for (name, passed) in
        [("worker, its clean-up included", &ours.passed), ("floor", &floor.passed)]
    {
        let (sent, received) = (most(passed, |it| it.sent), most(passed, |it| it.received));
        println!(
            "  {name:<32}{:>10} sent{:>10} received: {:.3} % of the file",
            length(sent as usize),
            length(received as usize),
            100.0 * (sent + received) as f64 / file as f64
        );
    }
}

fn length(bytes: usize) -> String {
    match bytes {
        MIB.. => format!("{} MiB", bytes / MIB),
        _ => format!("{} KiB", bytes.div_ceil(KIB)),
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

/// Programs that ran or wanted to, on average of the last minute; above the number of processors, figures
/// are about something else too.
fn load() -> anyhow::Result<String> {
    let averages = std::fs::read_to_string("/proc/loadavg")?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!("{} on {processors} processors", averages.split(' ').next().unwrap_or_default()))
}
