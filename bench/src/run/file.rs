//! A whole file by `upflow upload`, against the least requests that bring it there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::process::Command;

use super::bare::{Plan, Then};
use super::rows::{Goal, Row, Unit};
use super::site::{Kind, Site, Wishes};
use super::{MIB, Scale};
use crate::programs::{Whose, cpu_of};
use crate::server::Server;

const AT_ONCE: usize = 8;

/// What a client took.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    pub wall: f64,
    pub cpu: f64,
}

/// 8 MiB chunks, eight at a time.
pub async fn large(
    kind: Kind,
    eager: bool,
    folder: &Path,
    scale: &Scale,
) -> anyhow::Result<Vec<Row>> {
    let (length, chunk) = (scale.file_mib * MIB, 8 * MIB);
    let wishes = Wishes { eager, ..Wishes::default() };
    let site = Site::start(kind, folder, &format!("file-{eager}"), wishes).await?;
    let file = noise(folder, length)?;
    warm_up(&site, folder).await?;
    let (mut ours, mut floor, mut served) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        let on = kind.name();
        eprintln!("{on}, eager {eager}: file of {} MiB, round {} ...", scale.file_mib, round + 1);
        for ours_now in [round % 2 == 0, round % 2 != 0] {
            if ours_now {
                let before = site.cpu()?;
                ours.push(upload(&site, &file, chunk).await?);
                // With what they do after the end.
                let upload = site.api.latest().await?;
                site.removed(&upload).await?;
                served.push((site.cpu()? - before).as_secs_f64());
            } else {
                floor.push(bare(&site.server, &site.folder, &file, chunk, Then::Copy).await?);
                site.server.delete("floor/whole").await?;
            }
        }
    }
    let on = format!("{}, {}", kind.name(), if eager { "eager" } else { "on complete" });
    let what = format!("upload of {} MiB in chunks of 8 MiB", scale.file_mib);
    let walls = (of(&ours, |ran| ran.wall), of(&floor, |ran| ran.wall));
    let cpus = (of(&ours, |ran| ran.cpu), of(&floor, |ran| ran.cpu));
    let gib = length as f64 / (1024 * MIB) as f64;
    let served: Vec<f64> = served.iter().map(|cpu| cpu / gib).collect();
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let rows = vec![
        Row::of(format!("{what}, until completed"), &on, Unit::Seconds, &walls.0)
            .by_rounds("bare PUTs, copies, delete", &walls.0, &walls.1)
            .goal(Goal::TimesFloor(1.05)),
        Row::of(format!("{what}, processor time of the client"), &on, Unit::Seconds, &cpus.0)
            .by_rounds("of the bare client", &cpus.0, &cpus.1)
            .goal(Goal::TimesFloor(1.3)),
        Row::of("processor time of API and worker for a GiB", &on, Unit::Seconds, &served)
            .goal(Goal::AtMost(0.15)),
        Row::new(
            "memory of the API meanwhile, at its peak",
            &on,
            Unit::Mebibytes,
            mib(site.api_process.peak_memory()?),
        )
        .goal(Goal::AtMost(40.0)),
        Row::new(
            "memory of the worker meanwhile, at its peak",
            &on,
            Unit::Mebibytes,
            mib(site.worker.peak_memory()?),
        )
        .goal(Goal::AtMost(40.0)),
    ];
    site.end().await?;
    Ok(rows)
}

pub fn of(ran: &[Ran], what: impl Fn(&Ran) -> f64) -> Vec<f64> {
    ran.iter().map(what).collect()
}

/// Connections are open, and the worker has tried what the storage enforces.
pub async fn warm_up(site: &Site, folder: &Path) -> anyhow::Result<()> {
    let file = noise(folder, 32 * MIB)?;
    upload(site, &file, 8 * MIB).await?;
    site.removed(&site.api.latest().await?).await
}

/// A file of so many bytes that no server can make smaller; made once.
pub fn noise(folder: &Path, length: usize) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(folder.join(format!("noise-{length}")))?;
    if !path.exists() {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&path)?;
        let mut block = vec![0; MIB];
        let mut left = length;
        while left > 0 {
            rand::RngCore::fill_bytes(&mut rand::rng(), &mut block);
            let part = left.min(MIB);
            file.write_all(&block[..part])?;
            left -= part;
        }
    }
    Ok(path)
}

/// `upflow upload`, until it ends.
pub async fn upload(site: &Site, file: &Path, chunk: usize) -> anyhow::Result<Ran> {
    let program = std::env::current_exe()?.with_file_name("upflow");
    let mut command = Command::new(program);
    command.env_clear().env("UPFLOW_STATE_DIR", site.folder.join("state"));
    command.arg("upload").arg(file).args(["--server", &site.url, "--quiet"]);
    command.args(["--parallel", &AT_ONCE.to_string(), "--chunk-size", &chunk.to_string()]);
    ran(command).await
}

/// The bare client, to this server.
pub async fn bare(
    server: &Server,
    folder: &Path,
    file: &Path,
    chunk: usize,
    then: Then,
) -> anyhow::Result<Ran> {
    let length = usize::try_from(std::fs::metadata(file)?.len())?;
    let plan = Plan::make(server, file.to_owned(), length, chunk, AT_ONCE, then).await?;
    let path = folder.join("plan.json");
    std::fs::write(&path, serde_json::to_vec(&plan)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").arg(path);
    ran(command).await
}

async fn ran(mut command: Command) -> anyhow::Result<Ran> {
    let (before, began) = (cpu_of("self", Whose::Childrens)?, Instant::now());
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let status = command.status().await?;
    let wall = began.elapsed();
    ensure!(status.success(), "{command:?}: {status}");
    let cpu: Duration = cpu_of("self", Whose::Childrens)? - before;
    Ok(Ran { wall: wall.as_secs_f64(), cpu: cpu.as_secs_f64() })
}
