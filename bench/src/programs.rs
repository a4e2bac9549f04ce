//! UpFlow as it runs in production: its programs of this build, as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::{Child, Command};

use crate::server::variable;

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
    /// On the servers that `scripts/lib/services.sh` started, in this bucket.
    pub fn new(folder: &Path, bucket: &str, assembly: &str) -> anyhow::Result<Programs> {
        std::fs::create_dir_all(folder)?;
        let environment = vec![
            ("APP_ENV", "production".to_owned()),
            ("DATABASE_URL", variable("TEST_DATABASE_URL")?),
            ("REDIS_URL", variable("TEST_REDIS_URL")?),
            ("REDIS_STREAM", format!("bench:{bucket}")),
            ("AWS_REGION", variable("TEST_S3_REGION")?),
            ("AWS_S3_BUCKET", bucket.to_owned()),
            ("AWS_ACCESS_KEY_ID", variable("TEST_S3_ACCESS_KEY_ID")?),
            ("AWS_SECRET_ACCESS_KEY", variable("TEST_S3_SECRET_ACCESS_KEY")?),
            ("UPFLOW_ASSEMBLY", assembly.to_owned()),
        ];
        Ok(Programs { folder: folder.to_owned(), environment })
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
        let api = self.start("api", command).await?;
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
        let id = self.child.id().with_context(|| format!("it has ended: {}", self.log()))?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmHWM: this needs Linux")?.trim().parse::<u64>()? * 1024)
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
