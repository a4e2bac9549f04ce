//! UpFlow as it runs in production: its programs of this build, as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::{Child, Command};

use crate::server::{Place, variable};

/// How long a program may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Where the programs are, and what they are told.
pub struct Programs {
    /// Their logs, and nothing else: they find no `.env` in it.
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// A program that runs; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Programs {
    /// On the database and Redis that `scripts/lib/services.sh` started, and this bucket.
    pub fn new(folder: &Path, place: &Place, assembly: &str) -> anyhow::Result<Programs> {
        std::fs::create_dir_all(folder)?;
        let folder = std::path::absolute(folder)?;
        let environment = vec![
            ("APP_ENV", "production".to_owned()),
            ("DATABASE_URL", variable("TEST_DATABASE_URL")?),
            ("REDIS_URL", variable("TEST_REDIS_URL")?),
            ("REDIS_STREAM", format!("bench:{}", folder.display())),
            ("AWS_REGION", place.region.clone()),
            ("AWS_S3_BUCKET", place.bucket.clone()),
            ("AWS_ACCESS_KEY_ID", place.key.clone()),
            ("AWS_SECRET_ACCESS_KEY", place.secret.clone()),
            ("UPFLOW_ASSEMBLY", assembly.to_owned()),
        ];
        Ok(Programs { folder, environment })
    }

    /// One more variable for all of them.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.push((name, value.into()));
    }

    /// Makes the tables, where they are not there yet.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let mut command = self.command("upflow-migration")?;
        let ended = tokio::time::timeout(PATIENCE, command.arg("up").output()).await??;
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        Ok(())
    }

    /// The API, and where it is.
    pub async fn api(&self, s3: &str) -> anyhow::Result<(Running, String)> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let mut command = self.command("upflow-api")?;
        command.env("S3_ENDPOINT_URL", s3).args(["--port", &port]);
        let api = self.start(&format!("api-{port}"), command).await?;
        api.says("the API serves").await?;
        Ok((api, format!("http://127.0.0.1:{port}")))
    }

    pub async fn worker(
        &self,
        s3: &str,
        settings: Vec<(String, String)>,
    ) -> anyhow::Result<Running> {
        let mut command = self.command("upflow-worker")?;
        command.env("S3_ENDPOINT_URL", s3);
        command.envs(settings);
        let worker = self.start("worker", command).await?;
        worker.says("the worker runs").await?;
        Ok(worker)
    }

    fn command(&self, name: &str) -> anyhow::Result<Command> {
        let program = std::env::current_exe()?.with_file_name(name);
        ensure!(program.exists(), "{} is not there: use bench/assembly", program.display());
        let mut command = Command::new(program);
        // Nothing of our own environment could be meant for them.
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    async fn start(&self, name: &str, mut command: Command) -> anyhow::Result<Running> {
        let log = self.folder.join(format!("{name}.log"));
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
        Ok(Running {
            child: command.spawn().with_context(|| format!("{name} does not start"))?,
            log,
        })
    }
}

impl Running {
    async fn says(&self, text: &str) -> anyhow::Result<()> {
        let said = async {
            loop {
                let log = std::fs::read_to_string(&self.log)?;
                if log.contains(text) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(PATIENCE, said).await {
            Ok(said) => said,
            Err(_) => anyhow::bail!("it has not said {text:?}: {}", self.log()),
        }
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory that it has had resident so far, in bytes.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        self.memory_of("VmHWM:")
    }

    /// The memory that it has resident now, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        self.memory_of("VmRSS:")
    }

    fn memory_of(&self, name: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("no such line: this needs Linux")?.trim().parse::<u64>()? * 1024)
    }

    /// The processor time that it has taken so far, in steps of 10 ms.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&self.id()?.to_string(), Whose::Its)
    }

    pub fn id(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("it has ended: {}", self.log()))
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Whose processor time is meant.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    Its,
    /// Of its children that have ended.
    Childrens,
}

/// The processor time of a process, in steps of 10 ms. `self` is this one.
pub fn cpu_of(process: &str, whose: Whose) -> anyhow::Result<Duration> {
    let fields = fields(process)?;
    let first = match whose {
        Whose::Its => 11,
        Whose::Childrens => 13,
    };
    let ticks: u64 = fields
        .get(first..first + 2)
        .context("too short")?
        .iter()
        .map(|f| f.parse::<u64>())
        .sum::<Result<u64, _>>()?;
    // Linux shows hundredths of a second, whatever its own clock.
    Ok(Duration::from_millis(ticks * 10))
}

/// The servers that `bench/run` has started, each with its name.
pub fn servers() -> anyhow::Result<Vec<(String, u32)>> {
    let servers = variable("BENCH_SERVERS")?;
    let server = |server: &str| {
        let (process, name) = server.split_once('=')?;
        Some((name.to_owned(), process.parse().ok()?))
    };
    servers.split_whitespace().map(|text| server(text).context("BENCH_SERVERS")).collect()
}

/// The processor time of a process and of those that it has started: PostgreSQL has one for each connection.
pub fn cpu_of_family(process: u32) -> anyhow::Result<Duration> {
    let parent = process.to_string();
    let mut sum = cpu_of(&parent, Whose::Its)? + cpu_of(&parent, Whose::Childrens)?;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        // One that ends meanwhile counts as one that has ended, the next time.
        if fields(child).is_ok_and(|fields| fields.get(1) == Some(&parent)) {
            sum += cpu_of(child, Whose::Its).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// What stands behind the name of a process in `/proc/pid/stat`: its state, its parent and so on, see proc(5).
fn fields(process: &str) -> anyhow::Result<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("an unknown /proc/pid/stat")?;
    Ok(fields.split(' ').map(str::to_owned).collect())
}
