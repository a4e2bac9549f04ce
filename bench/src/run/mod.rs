//! All figures that the project promises, each against its floor in the same run, on both S3 servers, with
//! and without copying ahead. Writes a table as markdown and JSON, and two plots.

mod bare;
mod confirm;
mod file;
mod files;
mod load;
mod parts;
mod plot;
mod processor_time;
mod rows;
mod sign;
mod site;
mod small;
mod tail;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use rows::Row;
use site::Kind;

pub use bare::{Args as BareArgs, run as bare};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Section {
    /// Presigned URLs, idle memory, the requests of a small file
    Sign,
    /// Confirming, and looking at an upload of 10,000 chunks
    Confirm,
    /// Two hundred uploads at once; two APIs
    Load,
    /// Many files of one chunk
    Files,
    /// 10,000 chunks of 64 KiB
    Small,
    /// A file of 1 GiB
    File,
    /// What is left at the end, over a line of 400 Mbit/s
    Tail,
    /// Assembly alone
    Assembly,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure; all of it where nothing is said
    sections: Vec<Section>,
    /// On which S3 servers
    #[arg(long, value_delimiter = ',', default_values = ["seaweedfs", "embedded"])]
    on: Vec<Kind>,
    #[command(flatten)]
    scale: Scale,
    /// Where table, JSON and plots go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where data and logs go
    #[arg(long)]
    dir: PathBuf,
    /// Ends everything after so many seconds, whatever is done by then
    #[arg(long, default_value = "5400")]
    seconds: u64,
}

/// How much is done. The defaults are what the promises are about.
#[derive(Debug, clap::Args)]
pub struct Scale {
    /// Rounds, ours and the floor in turns
    #[arg(long, default_value = "3")]
    rounds: usize,
    /// MiB of the file
    #[arg(long, default_value = "1024")]
    file_mib: usize,
    /// Files of one chunk
    #[arg(long, default_value = "2000")]
    files: usize,
    /// Chunks of 64 KiB
    #[arg(long, default_value = "10000")]
    small: usize,
    /// Rounds with these over a line of 200 Mbit/s
    #[arg(long, default_value = "2")]
    line_rounds: usize,
    /// MiB of the smaller file over the slow line; the other has eight times as much
    #[arg(long, default_value = "256")]
    tail_mib: usize,
    #[arg(long, default_value = "3")]
    tail_rounds: usize,
    /// Chunks of 5 MiB that SeaweedFS copies
    #[arg(long, default_value = "1000")]
    copies: usize,
    /// Chunks of 5 MiB that the embedded store links
    #[arg(long, default_value = "10000")]
    linked: usize,
    #[arg(long, default_value = "2")]
    assembly_rounds: usize,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let limit = Duration::from_secs(args.seconds);
    tokio::time::timeout(limit, measure(&args))
        .await
        .with_context(|| format!("not done in {limit:?}"))?
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let (scale, dir) = (&args.scale, args.dir.as_path());
    let wanted = |section| args.sections.is_empty() || args.sections.contains(&section);
    let mut report = Report::new(&args.out)?;
    if wanted(Section::Sign) {
        report.add(sign::url(scale).await?)?;
        let kind = args.on[0];
        report.add(sign::thousand(kind, dir, scale).await?)?;
        report.add(sign::idle(kind, dir).await?)?;
        report.add(sign::one_chunk(kind, dir).await?)?;
    }
    for &kind in &args.on {
        let dir = dir.join(kind.name().replace(' ', "-"));
        std::fs::create_dir_all(&dir)?;
        if wanted(Section::Confirm) {
            report.add(confirm::confirm(kind, &dir, scale).await?)?;
        }
        // The embedded store syncs each of thousands of objects to disk: such loads would measure the disk.
        if wanted(Section::Load) && kind == Kind::Seaweedfs {
            let (rows, bars) = load::load(kind, &dir, scale).await?;
            report.bars.extend(bars);
            report.add(rows)?;
        }
        if wanted(Section::Files) && kind == Kind::Seaweedfs {
            report.add(files::files(kind, &dir, scale).await?)?;
        }
        if wanted(Section::Small) {
            for eager in [true, false] {
                report.add(small::loopback(kind, eager, &dir, scale).await?)?;
                report.add(small::line(kind, eager, &dir, scale).await?)?;
            }
        }
        if wanted(Section::File) {
            for eager in [true, false] {
                report.add(file::large(kind, eager, &dir, scale).await?)?;
            }
        }
        if wanted(Section::Tail) {
            report.add(tail::tail(kind, &dir, scale).await?)?;
        }
        if wanted(Section::Assembly) {
            report.add(parts::assembly(kind, &dir, scale).await?)?;
        }
    }
    println!("{}", report.markdown());
    Ok(())
}

/// What was found so far; written anew with every section, so that a run that is cut short has left what it
/// knows.
struct Report {
    folder: PathBuf,
    machine: String,
    rows: Vec<Row>,
    bars: Vec<plot::Bar>,
}

impl Report {
    fn new(folder: &Path) -> anyhow::Result<Report> {
        std::fs::create_dir_all(folder)?;
        let processors = std::thread::available_parallelism()?;
        let machine = format!("{processors} processors; load before: {}", load_average()?);
        Ok(Report { folder: folder.to_owned(), machine, rows: Vec::new(), bars: Vec::new() })
    }

    fn add(&mut self, rows: Vec<Row>) -> anyhow::Result<()> {
        eprint!("{}", rows::markdown(&rows));
        self.rows.extend(rows);
        let write = |name: &str, text: String| std::fs::write(self.folder.join(name), text);
        write("results.md", self.markdown())?;
        let json = serde_json::json!({ "machine": self.machine, "rows": self.rows });
        write("results.json", serde_json::to_string_pretty(&json)?)?;
        write("goals.svg", plot::goals(&self.rows))?;
        if !self.bars.is_empty() {
            let most = self.bars.iter().map(|bar| bar.length).fold(1.0, f64::max);
            let title = "Times of each call with 200 uploads at once";
            write("latencies.svg", plot::draw(title, &self.bars, most, None))?;
        }
        Ok(())
    }

    fn markdown(&self) -> String {
        let met = self.rows.iter().filter(|row| row.met == Some(true)).count();
        let asked = self.rows.iter().filter(|row| row.met.is_some()).count();
        let load = load_average().unwrap_or_default();
        format!(
            "{}; after: {load}. {met} of {asked} goals are met.\n\n{}",
            self.machine,
            rows::markdown(&self.rows)
        )
    }
}

/// Programs that ran or wanted to, on average of the last minute.
fn load_average() -> anyhow::Result<String> {
    let averages = std::fs::read_to_string("/proc/loadavg")?;
    Ok(averages.split(' ').next().unwrap_or_default().to_owned())
}
