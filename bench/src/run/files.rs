//! Files of one chunk, many at once: how many of them one instance takes a second, and what of each program's
//! processor time each of them takes.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::Method;

use super::processor_time::ProcessorTime;
use super::rows::{Goal, Row, Unit};
use super::site::{Kind, Site, Wishes};
use super::{KIB, Scale};
use crate::server::Body;
use crate::uploads::Api;

const SIZE: usize = 64 * KIB;
/// Clients, each of which has one file under way.
const CLIENTS: usize = 32;

pub async fn files(kind: Kind, folder: &Path, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let site = Site::start(kind, folder, "files", Wishes::default()).await?;
    let (second, url) = site.programs.api(&site.place().endpoint).await?;
    let other = Api::new(url);
    let body = Body::noise(SIZE);
    let mut time = ProcessorTime::of(&site)?;
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    // The first round fills pools and caches.
    for round in 0..=scale.rounds {
        for two in [round % 2 == 0, round % 2 != 0] {
            let apis = if two { vec![&site.api, &other] } else { vec![&site.api] };
            let many = format!("{} files of one chunk, APIs: {}", scale.files, apis.len());
            eprintln!("{}: {many}, round {round} ...", kind.name());
            time.begin()?;
            let rate = send(&apis, scale.files, &body).await.with_context(|| second.log())?;
            // What is cleaned up belongs to each of them.
            site.cleaned_up().await?;
            match (round, two) {
                (0, _) => {}
                (_, true) => both.push(rate),
                (_, false) => {
                    alone.push(rate);
                    time.end(scale.files)?;
                }
            }
            site.server.empty().await?;
        }
    }
    second.end().await?;
    site.end().await?;
    let (on, what) = (kind.name(), "files of one chunk of 64 KiB");
    let until = format!("{what}, {CLIENTS} at once, until completed");
    let mut rows = vec![
        Row::of(until.clone(), on, Unit::PerSecond, &alone),
        Row::of(format!("{until}, two APIs"), on, Unit::PerSecond, &both)
            .by_rounds("one API", &both, &alone)
            .goal(Goal::OfFloor(0.95)),
    ];
    rows.extend(time.rows(what, on));
    Ok(rows)
}

/// Sends so many files, and answers how many a second were completed.
async fn send(apis: &[&Api], files: usize, body: &Body) -> anyhow::Result<f64> {
    let began = Instant::now();
    stream::iter(0..files)
        .map(|number| file(apis[number % apis.len()], body))
        .buffer_unordered(CLIENTS)
        .try_collect::<()>()
        .await?;
    Ok(files as f64 / began.elapsed().as_secs_f64())
}

/// As our clients do it: nothing is confirmed before the end.
async fn file(api: &Api, body: &Body) -> anyhow::Result<()> {
    let (upload, url) = api.init_one(body).await?;
    api.put(&url, body).await?;
    let path = format!("/uploads/{}/complete", upload.id);
    api.call(Method::POST, &path, None).await?;
    api.completed(&upload).await
}
