//! The floor of an upload: the least requests to S3 that bring a file there, by a program of its own, so that
//! its processor time can be told. It needs no API: it was given every URL.

use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::server::{Place, Server};

const COPIES: usize = 16;
const FINAL_KEY: &str = "floor/whole";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do, as the benchmark has written it
    plan: PathBuf,
}

/// A file, and where its pieces go.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub file: PathBuf,
    pub length: usize,
    pub chunk: usize,
    pub at_once: usize,
    pub urls: Vec<String>,
    pub keys: Vec<String>,
    /// Whether one object is made of the pieces, which are deleted then.
    pub assemble: bool,
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    pub key: String,
    pub secret: String,
}

impl Plan {
    /// A plan for this file, with URLs that are signed now.
    pub async fn make(
        server: &Server,
        file: PathBuf,
        length: usize,
        chunk: usize,
        at_once: usize,
        assemble: bool,
    ) -> anyhow::Result<Plan> {
        let keys: Vec<String> =
            (0..length.div_ceil(chunk)).map(|index| format!("floor/chunks/{index}")).collect();
        let mut urls = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            urls.push(server.presigned(key, chunk.min(length - index * chunk)).await?);
        }
        let Place { endpoint, bucket, region, key, secret } = server.place.clone();
        Ok(Plan {
            file,
            length,
            chunk,
            at_once,
            urls,
            keys,
            assemble,
            endpoint,
            bucket,
            region,
            key,
            secret,
        })
    }
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    // An error only says that somebody was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plan: Plan = serde_json::from_slice(&std::fs::read(&args.plan)?)?;
    let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let (plan, http) = (&plan, &http);
    stream::iter(plan.urls.iter().enumerate())
        .map(|(index, url)| async move {
            let body = read(plan, index).await?;
            http.put(url).body(body).send().await?.error_for_status().context("a PUT")?;
            anyhow::Ok(())
        })
        .buffer_unordered(plan.at_once)
        .try_collect::<()>()
        .await?;
    if plan.assemble {
        let (bucket, region) = (plan.bucket.clone(), plan.region.clone());
        let (endpoint, key) = (plan.endpoint.clone(), plan.key.clone());
        let secret = plan.secret.clone();
        let server = Server::at(Place { endpoint, bucket, region, key, secret });
        server.assemble(FINAL_KEY, &plan.keys, COPIES).await?;
        for keys in plan.keys.chunks(1_000) {
            server.delete_together(keys).await?;
        }
    }
    Ok(())
}

async fn read(plan: &Plan, index: usize) -> anyhow::Result<Bytes> {
    let start = index * plan.chunk;
    let mut bytes = vec![0; plan.chunk.min(plan.length - start)];
    let mut file = tokio::fs::File::open(&plan.file).await?;
    file.seek(std::io::SeekFrom::Start(start as u64)).await?;
    file.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}
