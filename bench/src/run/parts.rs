//! Assembly alone: the worker's copies against bare ones, at many chunks of 5 MiB.

use std::path::Path;

use anyhow::{Context as _, ensure};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::rows::{Goal, Row, Unit};
use super::site::{Kind, Site, Wishes};
use super::{MIB, Scale};
use crate::server::{Body, Server};
use crate::uploads::Upload;

const CHUNK: usize = 5 * MIB;
const COPIES: usize = 16;

pub async fn assembly(kind: Kind, folder: &Path, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let chunks = match kind {
        Kind::Seaweedfs => scale.copies,
        Kind::Embedded => scale.linked,
    };
    let body = Body::noise(CHUNK);
    let (mut ours, mut floor, mut told, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..scale.assembly_rounds {
        // A bucket of its own for each: what was deleted takes space in SeaweedFS until its bucket is.
        let name = format!("parts-{round}");
        let settings = vec![("UPFLOW_COPIES", COPIES.to_string())];
        let wishes = Wishes { settings, ..Wishes::default() };
        let site = Site::start(kind, folder, &name, wishes).await?;
        let warm_up = filled(kind, &site, 16, &body).await?;
        bare(&site.server, &warm_up).await?;
        site.api.complete(&warm_up).await?;
        site.removed(&warm_up).await?;
        eprintln!("{}: making {chunks} chunks of 5 MiB, round {} ...", kind.name(), round + 1);
        let first = filled(kind, &site, chunks, &body).await?;
        // The worker removes what it has copied: the floor goes first here, and gets chunks of its own else.
        if round % 2 == 0 {
            floor.push(bare(&site.server, &first).await?);
        }
        let took = site.api.complete(&first).await?;
        ours.push(took.worker.as_secs_f64());
        told.push((took.client.as_secs_f64() - took.worker.as_secs_f64()) * 1_000.0);
        site.removed(&first).await?;
        if round % 2 != 0 {
            let second = filled(kind, &site, chunks, &body).await?;
            floor.push(bare(&site.server, &second).await?);
        }
        peak = peak.max(site.worker.peak_memory()?);
        site.end().await?;
    }
    let what = format!("assembly of {chunks} x 5 MiB");
    Ok(vec![
        Row::of(&what, kind.name(), Unit::Seconds, &ours)
            .by_rounds("bare Create, UploadPartCopy, Complete", &ours, &floor)
            .goal(Goal::TimesFloor(1.1)),
        Row::new(
            format!("{what}, memory of the worker"),
            kind.name(),
            Unit::Mebibytes,
            peak as f64 / MIB as f64,
        )
        .goal(Goal::AtMost(64.0)),
        Row::of(
            format!("{what}, completed until the client knows, with its own call of complete"),
            kind.name(),
            Unit::Milliseconds,
            &told,
        )
        .goal(Goal::AtMost(100.0)),
    ])
}

async fn bare(server: &Server, upload: &Upload) -> anyhow::Result<f64> {
    let took = server.assemble("floor/whole", &upload.chunk_keys(), COPIES).await?;
    server.delete("floor/whole").await?;
    Ok((took.create + took.copies + took.complete).as_secs_f64())
}

/// An upload whose chunks are all there and confirmed. In the embedded store they are all linked from one
/// object, since ten thousand of them would fill the disk.
async fn filled(kind: Kind, site: &Site, chunks: usize, body: &Body) -> anyhow::Result<Upload> {
    if kind != Kind::Embedded {
        return site.api.send(chunks, body).await;
    }
    site.server.put("floor/one", body).await?;
    let upload = site.api.init(chunks, CHUNK).await?;
    let indexes: Vec<usize> = (0..chunks).collect();
    for batch in indexes.chunks(1_000) {
        site.api.presign(&upload, batch, &body.checksum).await?;
    }
    stream::iter(upload.chunk_keys())
        .map(|key| link(&site.server, key, &body.checksum))
        .buffer_unordered(COPIES)
        .try_collect::<()>()
        .await?;
    site.api.confirm_all(&upload).await?;
    Ok(upload)
}

/// Makes an object of the bytes of `floor/one`, which a part copy does without moving them.
async fn link(server: &Server, key: String, checksum: &str) -> anyhow::Result<()> {
    let (client, bucket) = (&server.client, &server.bucket);
    let create = client.create_multipart_upload().bucket(bucket).key(&key);
    let create = create.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
    let created = create.checksum_type(ChecksumType::FullObject).send().await?;
    let id = created.upload_id().context("no upload id")?;
    let copy = client.upload_part_copy().bucket(bucket).key(&key).upload_id(id).part_number(1);
    let copied = copy.copy_source(format!("{bucket}/floor/one")).send().await?;
    let copied = copied.copy_part_result().context("no result of the copy")?;
    ensure!(copied.checksum_crc64_nvme() == Some(checksum), "another checksum");
    let part = CompletedPart::builder().part_number(1).set_e_tag(copied.e_tag.clone()).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = client.complete_multipart_upload().bucket(bucket).key(&key).upload_id(id);
    complete.multipart_upload(parts).send().await?;
    Ok(())
}
