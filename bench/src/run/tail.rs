//! What is left to do at the end: from the confirmation of the last chunk to `completed`, over a line that
//! gives the worker time to copy ahead. It should not depend on the size of the file; S3's Complete does, on the number
//! of parts, so that is measured too.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;

use super::file::{noise, upload};
use super::rows::{Goal, Row, Unit, median};
use super::site::{Kind, Site, Wishes};
use super::{MIB, Scale};
use crate::relay::Relay;
use crate::server::{Body, Server, variable};

/// 400 Mbit/s.
const LINE: u64 = 50_000_000;
const CHUNK: usize = 8 * MIB;
/// Bytes of the parts of a bare Complete: S3's least.
const PART: usize = 5 * MIB;
const COPIES: usize = 4;

pub async fn tail(kind: Kind, folder: &Path, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let server = kind.server(folder, "tail").await?;
    let relay = Relay::limited(&server.place.endpoint, Some(LINE)).await?;
    let wishes =
        Wishes { eager: true, public_endpoint: Some(relay.endpoint()), ..Wishes::default() };
    let site = Site::on(kind, server, folder, "tail", wishes).await?;
    let sizes = [scale.tail_mib, 8 * scale.tail_mib];
    let (mut tails, mut completes) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    site.server.put("floor/part", &Body::noise(PART)).await?;
    upload(&site, &noise(folder, 32 * MIB)?, CHUNK).await?;
    site.removed(&site.api.latest().await?).await?;
    for round in 0..scale.tail_rounds {
        for (nth, size) in sizes.iter().enumerate() {
            eprintln!("{}: {size} MiB at 400 Mbit/s, round {} ...", kind.name(), round + 1);
            upload(&site, &noise(folder, size * MIB)?, CHUNK).await?;
            let latest = site.api.latest().await?;
            let (_, finished) = site.api.assembled_at(&latest).await?;
            let since = finished - last_confirmed(&latest.id).await?;
            tails[nth].push(since.to_std()?.as_secs_f64() * 1_000.0);
            site.removed(&latest).await?;
            completes[nth].push(bare_complete(&site.server, (size * MIB).div_ceil(CHUNK)).await?);
        }
    }
    site.end().await?;
    let on = format!("{}, eager", kind.name());
    let row = |nth: usize| {
        let what = format!("last chunk confirmed to completed, {} MiB at 400 Mbit/s", sizes[nth]);
        let (tails, completes) = (&tails[nth], &completes[nth]);
        let row = Row::of(what, &on, Unit::Milliseconds, tails);
        row.by_rounds("a bare Complete of as many parts", tails, completes)
            .goal(Goal::AtMost(300.0))
    };
    let longer = |what: &str, [small, large]: [f64; 2]| {
        let (least, most) = (small.min(large), small.max(large));
        Row::new(what, &on, Unit::Milliseconds, most).against("the shorter", least)
    };
    let both = [median(&tails[0]), median(&tails[1])];
    let without = [both[0] - median(&completes[0]), both[1] - median(&completes[1])];
    Ok(vec![
        row(0),
        row(1),
        longer("the longer of both", both).goal(Goal::TimesFloor(1.2)),
        longer("the longer of both, each less the bare Complete", without),
    ])
}

/// CompleteMultipartUpload by itself, in milliseconds.
async fn bare_complete(server: &Server, parts: usize) -> anyhow::Result<f64> {
    let keys = vec!["floor/part".to_owned(); parts];
    let took = server.assemble("floor/whole", &keys, COPIES).await?;
    server.delete("floor/whole").await?;
    Ok(took.complete.as_secs_f64() * 1_000.0)
}

async fn last_confirmed(id: &str) -> anyhow::Result<chrono::DateTime<chrono::Utc>> {
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(10));
    let pool = options.connect(&variable("TEST_DATABASE_URL")?).await?;
    let last: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM max(confirmed_at))::float8 FROM upload_chunks WHERE upload_id = $1::uuid",
    )
    .bind(id)
    .fetch_one(&pool)
    .await?;
    pool.close().await;
    let last = last.context("no chunk was confirmed")?;
    chrono::DateTime::from_timestamp_micros((last * 1e6).round() as i64).context("no time")
}
