//! Load: two hundred uploads at once through one API and one worker, and the same through two APIs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::plot::{Bar, SHADES};
use super::rows::{Goal, Row, Unit, median, percentile};
use super::site::{Kind, Site, Wishes};
use super::{KIB, MIB, Scale};
use crate::server::Body;
use crate::uploads::Api;

const UPLOADS: usize = 200;
const CHUNKS: usize = 32;
const SMALL: usize = 64 * KIB;
/// Chunks that a client sends at once.
const PUTS: usize = 4;

/// The times of each call, in milliseconds.
type Times = BTreeMap<&'static str, Vec<f64>>;

struct Clients<'a> {
    apis: Vec<&'a Api>,
    body: &'a Body,
    times: Mutex<Times>,
}

/// What a load has shown: rows, and bars for a plot.
pub async fn load(
    kind: Kind,
    folder: &Path,
    scale: &Scale,
) -> anyhow::Result<(Vec<Row>, Vec<Bar>)> {
    let site = Site::start(kind, folder, "load", Wishes::default()).await?;
    let body = Body::noise(SMALL);
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let one = Clients::new(vec![&site.api], &body);
    let mut memory = Vec::new();
    // The first wave fills pools and caches; memory is to stay from then on.
    for wave in 0..=scale.rounds {
        eprintln!("{}: {UPLOADS} uploads at once, wave {wave} ...", kind.name());
        one.wave().await.with_context(|| site.api_process.log())?;
        memory.push((mib(site.api_process.memory()?), mib(site.worker.memory()?)));
    }
    let times = one.times.into_inner().unwrap_or_default();
    let (second, url) = site.programs.api(&site.place().endpoint).await?;
    let other = Api::new(url);
    // The connections of the second are open, too, before it is measured.
    Clients::new(vec![&other], &body).control_plane().await?;
    let (mut rates, mut alone) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        eprintln!("{}: one API against two, round {} ...", kind.name(), round + 1);
        for both in [round % 2 == 0, round % 2 != 0] {
            let apis = if both { vec![&site.api, &other] } else { vec![&site.api] };
            let rate = Clients::new(apis, &body).control_plane().await?;
            if both { rates.push(rate) } else { alone.push(rate) }
        }
    }
    let on = kind.name();
    let mut rows: Vec<Row> = Vec::new();
    let mut bars = Vec::new();
    for (call, mut times) in times {
        for (share, shade) in [(0.5, 0), (0.95, 1), (0.99, 2)] {
            let time = percentile(&mut times, share);
            let name = format!("{call}, p{:.0}", share * 100.0);
            rows.push(Row::new(
                format!("{UPLOADS} uploads of {CHUNKS} chunks: {name}"),
                on,
                Unit::Milliseconds,
                time,
            ));
            let (text, colour) = (format!("{time:.1} ms"), SHADES[shade]);
            bars.push(Bar { name: format!("{name}, {on}"), length: time, text, colour });
        }
    }
    for (program, which) in [("API", 0), ("worker", 1)] {
        let of = |(api, worker): &(f64, f64)| if which == 0 { *api } else { *worker };
        let (first, last) = (of(&memory[0]), memory.last().map(of).unwrap_or_default());
        rows.push(
            Row::new(
                format!("memory of the {program} after the last wave of uploads"),
                on,
                Unit::Mebibytes,
                last,
            )
            .against("after the first", first)
            .goal(Goal::TimesFloor(1.25)),
        );
    }
    rows.push(
        Row::of("calls of the control plane, two APIs", on, Unit::PerSecond, &rates)
            .by_rounds("one API", &rates, &alone)
            .goal(Goal::OfFloor(0.95)),
    );
    rows.push(Row::new("calls of the control plane, one API", on, Unit::PerSecond, median(&alone)));
    second.end().await?;
    site.end().await?;
    Ok((rows, bars))
}

impl<'a> Clients<'a> {
    fn new(apis: Vec<&'a Api>, body: &'a Body) -> Self {
        Self { apis, body, times: Mutex::default() }
    }

    async fn timed<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let done = work.await?;
        let time = began.elapsed().as_secs_f64() * 1_000.0;
        if let Ok(mut times) = self.times.lock() {
            times.entry(call).or_default().push(time);
        }
        Ok(done)
    }

    async fn wave(&self) -> anyhow::Result<()> {
        stream::iter(0..UPLOADS)
            .map(|number| self.upload(self.apis[number % self.apis.len()]))
            .buffer_unordered(UPLOADS)
            .try_collect()
            .await
    }

    /// As a client does that confirms each chunk by itself.
    async fn upload(&self, api: &Api) -> anyhow::Result<()> {
        let upload = self.timed("init_upload", api.init(CHUNKS, SMALL)).await?;
        let indexes: Vec<usize> = (0..CHUNKS).collect();
        let presign = api.presign(&upload, &indexes, &self.body.checksum);
        let urls = self.timed("presign_chunks (32)", presign).await?;
        let (half, _) = indexes.split_at(CHUNKS / 2);
        stream::iter(indexes.iter().zip(&urls))
            .map(|(index, url)| {
                let upload = &upload;
                async move {
                    self.timed("PUT to S3", api.put(url, self.body)).await?;
                    if *index < CHUNKS / 2 {
                        return Ok(());
                    }
                    self.timed("confirm_chunk", api.confirm_one(upload, *index)).await
                }
            })
            .buffer_unordered(PUTS)
            .try_collect::<()>()
            .await?;
        self.timed("confirm_chunks (16)", api.confirm(&upload, half)).await?;
        self.timed("get_upload", api.get(&upload)).await?;
        let path = format!("/uploads/{}/complete", upload.id);
        let complete = api.call(reqwest::Method::POST, &path, None);
        self.timed("complete_upload", complete).await?;
        self.timed("complete until completed", api.completed(&upload)).await
    }

    /// Calls that go to nothing but the API and the database, at sixteen at once: so many a second.
    async fn control_plane(&self) -> anyhow::Result<f64> {
        const ROUNDS: usize = 300;
        let began = Instant::now();
        stream::iter(0..ROUNDS)
            .map(|number| {
                let api = self.apis[number % self.apis.len()];
                async move {
                    let upload = api.init(CHUNKS, SMALL).await?;
                    let indexes: Vec<usize> = (0..CHUNKS).collect();
                    api.presign(&upload, &indexes, &self.body.checksum).await?;
                    // Nothing that a worker would be busy with afterwards.
                    api.get(&upload).await?;
                    api.get(&upload).await.map(drop)
                }
            })
            .buffer_unordered(16)
            .try_collect::<()>()
            .await?;
        Ok(4.0 * ROUNDS as f64 / began.elapsed().as_secs_f64())
    }
}
