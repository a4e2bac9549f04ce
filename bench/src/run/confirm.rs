//! Confirming, and looking at an upload, at ten thousand chunks.

use std::path::Path;
use std::time::Instant;

use aws_sdk_s3::types::ChecksumMode;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::processor_time::ProcessorTime;
use super::rows::{Goal, Row, Unit};
use super::site::{Kind, Site, Wishes};
use super::{KIB, MIB, Scale};
use crate::programs::{Whose, cpu_of};
use crate::server::Body;
use crate::uploads::Upload;

const AT_ONCE: usize = 16;
const SMALL: usize = 64 * KIB;
/// Chunks that the bare loop takes.
const LOOP: usize = 2_000;
const LOOKS: usize = 60;

struct Confirms<'a> {
    site: &'a Site,
    upload: &'a Upload,
}

pub async fn confirm(kind: Kind, folder: &Path, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let calls = ("UPFLOW_S3_CALLS_PER_REQUEST", AT_ONCE.to_string());
    let wishes = Wishes { settings: vec![calls], ..Wishes::default() };
    let site = Site::start(kind, folder, "confirm", wishes).await?;
    let pool = &site.database;
    sqlx::query("DROP TABLE IF EXISTS bench_floor").execute(pool).await?;
    sqlx::query("CREATE TABLE bench_floor (id uuid, chunk int, size bigint, etag text, checksum text, at timestamptz, PRIMARY KEY (id, chunk))")
        .execute(pool)
        .await?;
    let body = Body::noise(SMALL);
    eprintln!("{}: sending {} chunks to be confirmed ...", kind.name(), scale.small);
    let upload = site.api.send_unconfirmed(scale.small, &body).await?;
    let few = site.api.send(10, &body).await?;
    let confirms = Confirms { site: &site, upload: &upload };
    let rows = confirms.measure(kind.name(), &few, scale).await;
    sqlx::query("DROP TABLE bench_floor").execute(pool).await?;
    site.end().await?;
    rows
}

impl Confirms<'_> {
    async fn measure(&self, on: &str, few: &Upload, scale: &Scale) -> anyhow::Result<Vec<Row>> {
        let chunks = self.upload.chunks;
        let all: Vec<usize> = (0..chunks).collect();
        let mut found = Found::default();
        let mut time = ProcessorTime::of(self.site)?;
        for round in 0..scale.rounds {
            eprintln!("{on}: confirming, round {} ...", round + 1);
            self.reset().await?;
            let (before, began) = (self.site.api_process.cpu()?, Instant::now());
            for batch in all.chunks(1_000) {
                let one = Instant::now();
                self.site.api.confirm(self.upload, batch).await?;
                found.calls.push(one.elapsed().as_secs_f64() * 1_000.0);
            }
            found.batch_rate.push(chunks as f64 / began.elapsed().as_secs_f64());
            let cpu = self.site.api_process.cpu()? - before;
            found.cpu.push(cpu.as_secs_f64() * 1e6 / chunks as f64);
            let last = found.calls.split_off(0);
            found.batches.push(last[last.len() - 1] / last[0]);

            found.loop_cpu.push(self.bare_loop().await?);
            found.head_rate.push(self.heads(chunks.min(4_000)).await?);

            self.reset().await?;
            let (first, rest) = all.split_at(1_000.min(chunks / 2));
            let (middle, last) = rest.split_at(rest.len() - first.len());
            time.begin()?;
            found.first.push(self.singles(first).await?);
            time.end(first.len())?;
            for batch in middle.chunks(1_000) {
                self.site.api.confirm(self.upload, batch).await?;
            }
            found.last.push(self.singles(last).await?);
        }
        for _ in 0..LOOKS {
            for (upload, times) in [(self.upload, &mut found.look), (few, &mut found.look_few)] {
                let began = Instant::now();
                self.site.api.get(upload).await?;
                times.push(began.elapsed().as_secs_f64() * 1_000.0);
            }
        }
        let memory = self.site.api_process.peak_memory()? as f64 / MIB as f64;
        let mut rows = found.rows(on, chunks, memory);
        rows.extend(time.rows("confirms by confirm_chunk", on));
        Ok(rows)
    }

    /// Takes all confirmations back.
    async fn reset(&self) -> anyhow::Result<()> {
        let clear = "UPDATE upload_chunks SET confirmed_at = NULL, size = NULL, etag = NULL, checksum = NULL
                     WHERE upload_id = $1::uuid";
        sqlx::query(clear).bind(&self.upload.id).execute(&self.site.database).await?;
        sqlx::query("VACUUM ANALYZE upload_chunks").execute(&self.site.database).await?;
        Ok(())
    }

    /// One call for each chunk, so many a second.
    async fn singles(&self, indexes: &[usize]) -> anyhow::Result<f64> {
        let began = Instant::now();
        stream::iter(indexes)
            .map(|index| self.site.api.confirm_one(self.upload, *index))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(indexes.len() as f64 / began.elapsed().as_secs_f64())
    }

    async fn head(&self, key: &str) -> anyhow::Result<()> {
        let head = self.site.server.client.head_object().bucket(&self.site.server.bucket).key(key);
        head.checksum_mode(ChecksumMode::Enabled).send().await?;
        Ok(())
    }

    /// HEADs a second.
    async fn heads(&self, count: usize) -> anyhow::Result<f64> {
        let keys = self.upload.chunk_keys();
        let began = Instant::now();
        stream::iter(keys.iter().take(count))
            .map(|key| self.head(key))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(count.min(keys.len()) as f64 / began.elapsed().as_secs_f64())
    }

    /// A HEAD and an INSERT for each chunk, one after the other: processor time of one, in microseconds.
    async fn bare_loop(&self) -> anyhow::Result<f64> {
        sqlx::query("TRUNCATE bench_floor").execute(&self.site.database).await?;
        let keys = self.upload.chunk_keys();
        let keys = &keys[..LOOP.min(keys.len())];
        let before = cpu_of("self", Whose::Its)?;
        for (index, key) in (0..).zip(keys) {
            self.head(key).await?;
            let insert = "INSERT INTO bench_floor VALUES ($1::uuid, $2, $3, $4, $5, now())";
            sqlx::query(insert)
                .bind(&self.upload.id)
                .bind(index)
                .bind(SMALL as i64)
                .bind("0123456789abcdef0123456789abcdef")
                .bind("AAAAAAAAAAA=")
                .execute(&self.site.database)
                .await?;
        }
        let cpu = cpu_of("self", Whose::Its)? - before;
        Ok(cpu.as_secs_f64() * 1e6 / keys.len() as f64)
    }
}

#[derive(Default)]
struct Found {
    calls: Vec<f64>,
    cpu: Vec<f64>,
    loop_cpu: Vec<f64>,
    batch_rate: Vec<f64>,
    head_rate: Vec<f64>,
    batches: Vec<f64>,
    first: Vec<f64>,
    last: Vec<f64>,
    look: Vec<f64>,
    look_few: Vec<f64>,
}

impl Found {
    fn rows(&self, on: &str, chunks: usize, memory: f64) -> Vec<Row> {
        let heads = "HEADs at the same concurrency";
        vec![
            Row::of(
                "confirm_chunks, processor time of the API for a chunk",
                on,
                Unit::Microseconds,
                &self.cpu,
            )
            .by_rounds("a HEAD and an INSERT in a loop", &self.cpu, &self.loop_cpu)
            .goal(Goal::TimesFloor(1.5)),
            Row::of(
                "confirms by confirm_chunks, 16 HEADs at once",
                on,
                Unit::PerSecond,
                &self.batch_rate,
            )
            .by_rounds(heads, &self.batch_rate, &self.head_rate)
            .goal(Goal::OfFloor(0.7)),
            Row::of(
                "confirms by confirm_chunk, 16 calls at once",
                on,
                Unit::PerSecond,
                &self.first,
            )
            .by_rounds(heads, &self.first, &self.head_rate)
            .goal(Goal::OfFloor(0.7)),
            // Times are held against each other: of rates, the first against the last.
            Row::of(
                format!("first thousand confirms of {chunks}, by confirm_chunk"),
                on,
                Unit::PerSecond,
                &self.first,
            )
            .by_rounds("last thousand", &self.first, &self.last)
            .goal(Goal::TimesFloor(1.1)),
            Row::of(
                format!("last call of confirm_chunks, of {chunks}, against the first: times"),
                on,
                Unit::Requests,
                &self.batches,
            )
            .goal(Goal::AtMost(1.1)),
            Row::of(format!("get_upload at {chunks} chunks"), on, Unit::Milliseconds, &self.look)
                .against("at 10 chunks", super::rows::median(&self.look_few))
                .goal(Goal::AboveFloor(3.0)),
            Row::new("memory of the API meanwhile, at its peak", on, Unit::Mebibytes, memory),
        ]
    }
}
