//! The floor of an upload: the least requests to S3 that bring a file there, by a program of its own, so that
//! its processor time can be told. It needs no API: it was given every URL.

use std::path::PathBuf;

use anyhow::Context as _;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::server::{Place, Server};

const COPIES: usize = 16;
/// Of S3, for all parts but the last.
const LEAST_PART: usize = 5 * 1024 * 1024;
/// Parts that are made of smaller pieces at once, and reads for each of them: as the worker does it.
const PARTS: usize = 2;
const READS: usize = 8;
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
    /// URLs to read the pieces by, where they are read.
    pub reads: Vec<String>,
    pub then: Then,
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    pub key: String,
    pub secret: String,
}

/// What becomes of the pieces once they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    Nothing,
    /// One object is made of copies of them, and they are deleted.
    Copy,
    /// The same where they are too small for that: read, and sent again as parts of S3's least size.
    Resend,
}

impl Plan {
    /// A plan for this file, with URLs that are signed now.
    pub async fn make(
        server: &Server,
        file: PathBuf,
        length: usize,
        chunk: usize,
        at_once: usize,
        then: Then,
    ) -> anyhow::Result<Plan> {
        let keys: Vec<String> =
            (0..length.div_ceil(chunk)).map(|index| format!("floor/chunks/{index}")).collect();
        let mut urls = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            urls.push(server.presigned(key, chunk.min(length - index * chunk)).await?);
        }
        let mut reads = Vec::new();
        for key in keys.iter().filter(|_| then == Then::Resend) {
            reads.push(server.readable(key).await?);
        }
        let Place { endpoint, bucket, region, key, secret } = server.place.clone();
        Ok(Plan {
            file,
            length,
            chunk,
            at_once,
            urls,
            keys,
            reads,
            then,
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
    if plan.then == Then::Nothing {
        return Ok(());
    }
    let (bucket, region) = (plan.bucket.clone(), plan.region.clone());
    let (endpoint, key) = (plan.endpoint.clone(), plan.key.clone());
    let secret = plan.secret.clone();
    let server = Server::at(Place { endpoint, bucket, region, key, secret });
    match plan.then {
        Then::Resend => resend(&server, http, plan).await?,
        _ => drop(server.assemble(FINAL_KEY, &plan.keys, COPIES).await?),
    }
    for keys in plan.keys.chunks(1_000) {
        server.delete_together(keys).await?;
    }
    Ok(())
}

/// Makes one object of pieces that are too small to be parts.
async fn resend(server: &Server, http: &reqwest::Client, plan: &Plan) -> anyhow::Result<()> {
    let (client, bucket) = (&server.client, &server.bucket);
    let created = client.create_multipart_upload().bucket(bucket).key(FINAL_KEY).send().await?;
    let id = created.upload_id().context("no upload id")?;
    let groups = plan.reads.chunks(LEAST_PART.div_ceil(plan.chunk));
    let parts = stream::iter(groups.zip(1..)).map(|(urls, part)| async move {
        let reads = stream::iter(urls).map(|url| async move {
            let answer = http.get(url).send().await?.error_for_status().context("a GET")?;
            anyhow::Ok(answer.bytes().await?)
        });
        let pieces: Vec<Bytes> = reads.buffered(READS).try_collect().await?;
        let sent = client.upload_part().bucket(bucket).key(FINAL_KEY).upload_id(id);
        let sent = sent.part_number(part).body(pieces.concat().into()).send().await?;
        let etag = sent.e_tag.context("no ETag of the part")?;
        anyhow::Ok(CompletedPart::builder().part_number(part).e_tag(etag).build())
    });
    let parts: Vec<CompletedPart> = parts.buffered(PARTS).try_collect().await?;
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket(bucket).key(FINAL_KEY);
    complete.upload_id(id).multipart_upload(parts).send().await?;
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
