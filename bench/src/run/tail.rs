//! What is left to do at the end: from the confirmation of the last chunk to `completed`, over a line that
//! gives the worker time to copy ahead. It should not depend on the size of the file.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;

use super::file::{noise, upload};
use super::rows::{Goal, Row, Unit, median};
use super::site::{Kind, Site, Wishes};
use super::{MIB, Scale};
use crate::relay::Relay;
use crate::server::variable;

/// 400 Mbit/s.
const LINE: u64 = 50_000_000;

pub async fn tail(kind: Kind, folder: &Path, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let server = kind.server(folder, "tail").await?;
    let relay = Relay::limited(&server.place.endpoint, Some(LINE)).await?;
    let wishes =
        Wishes { eager: true, public_endpoint: Some(relay.endpoint()), ..Wishes::default() };
    let site = Site::on(kind, server, folder, "tail", wishes).await?;
    let sizes = [scale.tail_mib, 8 * scale.tail_mib];
    let mut tails = [Vec::new(), Vec::new()];
    upload(&site, &noise(folder, 32 * MIB)?, 8 * MIB).await?;
    site.removed(&site.api.latest().await?).await?;
    for round in 0..scale.tail_rounds {
        for (size, tails) in sizes.iter().zip(&mut tails) {
            eprintln!("{}: {size} MiB at 400 Mbit/s, round {} ...", kind.name(), round + 1);
            upload(&site, &noise(folder, size * MIB)?, 8 * MIB).await?;
            let latest = site.api.latest().await?;
            let (_, finished) = site.api.assembled_at(&latest).await?;
            let since = finished - last_confirmed(&latest.id).await?;
            tails.push(since.to_std()?.as_secs_f64() * 1_000.0);
            site.removed(&latest).await?;
        }
    }
    site.end().await?;
    let on = format!("{}, eager", kind.name());
    let row = |size: usize, tails: &[f64]| {
        let what = format!("last chunk confirmed to completed, {size} MiB at 400 Mbit/s");
        Row::of(what, &on, Unit::Milliseconds, tails)
    };
    let (small, large) = (median(&tails[0]), median(&tails[1]));
    let (least, most) = (small.min(large), small.max(large));
    Ok(vec![
        row(sizes[0], &tails[0]).goal(Goal::AtMost(300.0)),
        row(sizes[1], &tails[1]).goal(Goal::AtMost(300.0)),
        Row::new("the longer of both", &on, Unit::Milliseconds, most)
            .against("the shorter", least)
            .goal(Goal::TimesFloor(1.2)),
    ])
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
    chrono::DateTime::from_timestamp_millis((last * 1_000.0).round() as i64).context("no time")
}
