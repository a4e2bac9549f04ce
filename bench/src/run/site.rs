//! An UpFlow in production, on one of the S3 servers: PostgreSQL, Redis, one API and one worker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::programs::{Programs, Running};
use crate::server::{Place, Server, variable};
use crate::uploads::{Api, Upload};

const LOOK: Duration = Duration::from_millis(20);
/// How long a question may wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// The S3 servers that everything is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Seaweedfs,
    Embedded,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Seaweedfs => "SeaweedFS",
            Kind::Embedded => "embedded store",
        }
    }

    /// A server with an empty bucket. What was deleted takes space in SeaweedFS until its bucket is.
    pub async fn server(self, folder: &Path, name: &str) -> anyhow::Result<Server> {
        match self {
            Kind::Embedded => Server::upflow(&folder.join(name).join("s3")).await,
            Kind::Seaweedfs => {
                let bucket = format!("bench-{name}-{}", std::process::id());
                let endpoint = variable("TEST_S3_ENDPOINT")?;
                let server = Server::of_the_environment_by(&endpoint, &bucket)?;
                server.client.create_bucket().bucket(&bucket).send().await?;
                Ok(server)
            }
        }
    }
}

/// What a site is to be like.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub eager: bool,
    /// Where clients send chunks, if not straight to S3.
    pub public_endpoint: Option<String>,
    /// More variables of both programs.
    pub settings: Vec<(&'static str, String)>,
}

pub struct Site {
    pub kind: Kind,
    pub server: Server,
    pub programs: Programs,
    pub api: Api,
    pub url: String,
    pub api_process: Running,
    pub worker: Running,
    pub database: PgPool,
    pub folder: PathBuf,
}

impl Site {
    pub async fn start(
        kind: Kind,
        folder: &Path,
        name: &str,
        wishes: Wishes,
    ) -> anyhow::Result<Site> {
        let server = kind.server(folder, name).await?;
        Site::on(kind, server, folder, name, wishes).await
    }

    pub async fn on(
        kind: Kind,
        server: Server,
        folder: &Path,
        name: &str,
        wishes: Wishes,
    ) -> anyhow::Result<Site> {
        let folder = std::path::absolute(folder.join(name))?;
        let assembly = if wishes.eager { "eager" } else { "on_complete" };
        let mut programs = Programs::new(&folder, &server.place, assembly)?;
        // The rate of requests is measured here, not bounded.
        programs.set("UPFLOW_REQUESTS_PER_SECOND", "0");
        let public = wishes.public_endpoint.unwrap_or_else(|| server.place.endpoint.clone());
        programs.set("S3_PUBLIC_ENDPOINT_URL", public);
        for (name, value) in wishes.settings {
            programs.set(name, value);
        }
        programs.migrate().await?;
        let endpoint = server.place.endpoint.clone();
        let (api_process, url) = programs.api(&endpoint).await?;
        let worker = programs.worker(&endpoint, Vec::new()).await?;
        let api = Api::new(url.clone());
        let options = PgPoolOptions::new().max_connections(4).acquire_timeout(PATIENCE);
        let database = options.connect(&variable("TEST_DATABASE_URL")?).await?;
        Ok(Site { kind, server, programs, api, url, api_process, worker, database, folder })
    }

    pub fn place(&self) -> &Place {
        &self.server.place
    }

    /// The processor time of API and worker so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.api_process.cpu()? + self.worker.cpu()?)
    }

    /// Waits until the chunks of a completed upload are gone, and removes its final object.
    pub async fn removed(&self, upload: &Upload) -> anyhow::Result<()> {
        let (client, bucket) = (&self.server.client, &self.server.bucket);
        loop {
            let list = client.list_objects_v2().bucket(bucket).prefix(upload.prefix());
            if list.max_keys(1).send().await?.contents().is_empty() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let made = self.api.get(upload).await?;
        let key = made["final_s3_key"].as_str().context("no final_s3_key")?;
        self.server.delete(key).await
    }

    /// Waits until every upload that was completed is cleaned up, but for the look once its URLs have ended.
    pub async fn cleaned_up(&self) -> anyhow::Result<()> {
        // The time of that look is set by the end of the first one.
        let due = "SELECT count(*) FROM upload_sessions
                   WHERE status = 'completed' AND chunks_deleted_at IS NULL
                       AND (lease_id IS NOT NULL OR lease_until IS NULL)";
        while sqlx::query_scalar::<_, i64>(due).fetch_one(&self.database).await? > 0 {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends the programs, and removes the bucket with all that is in it. The rows, too: they would be due for another
    /// look half an hour later, whatever is measured then.
    pub async fn end(self) -> anyhow::Result<()> {
        self.worker.end().await?;
        self.api_process.end().await?;
        sqlx::query("TRUNCATE upload_sessions CASCADE").execute(&self.database).await?;
        self.database.close().await;
        self.server.empty().await?;
        if self.kind == Kind::Seaweedfs {
            self.server.client.delete_bucket().bucket(&self.server.bucket).send().await?;
        }
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}
