//! Chunks of 64 KiB, which are too small to be copied: the worker reads them and sends them again.

use std::path::Path;

use super::bare::Then;
use super::file::{bare, noise, of, upload, warm_up};
use super::rows::{Goal, Row, Unit};
use super::site::{Kind, Site, Wishes};
use super::{KIB, MIB, Scale};
use crate::relay::Relay;
use crate::server::{Place, Server};

const CHUNK: usize = 64 * KIB;
/// 200 Mbit/s.
const LINE: u64 = 25_000_000;

/// On loopback, where S3 and all else share the processors.
pub async fn loopback(
    kind: Kind,
    eager: bool,
    folder: &Path,
    scale: &Scale,
) -> anyhow::Result<Vec<Row>> {
    let wishes = Wishes { eager, ..Wishes::default() };
    let site = Site::start(kind, folder, &format!("small-{eager}"), wishes).await?;
    let file = noise(folder, scale.small * CHUNK)?;
    warm_up(&site, folder).await?;
    let (mut ours, mut floor, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    let mut whole_floor = Vec::new();
    for round in 0..scale.rounds {
        let (on, chunks) = (kind.name(), scale.small);
        eprintln!("{on}, eager {eager}: {chunks} chunks of 64 KiB, round {} ...", round + 1);
        for ours_now in [round % 2 == 0, round % 2 != 0] {
            if ours_now {
                let ran = upload(&site, &file, CHUNK).await?;
                let upload = site.api.latest().await?;
                let (requested, finished) = site.api.assembled_at(&upload).await?;
                sent.push(ran.wall - (finished - requested).to_std()?.as_secs_f64());
                ours.push(ran);
                site.removed(&upload).await?;
            } else {
                let (server, folder) = (&site.server, &site.folder);
                floor.push(bare(server, folder, &file, CHUNK, Then::Nothing).await?);
                server.empty().await?;
                whole_floor.push(bare(server, folder, &file, CHUNK, Then::Resend).await?);
                server.empty().await?;
            }
        }
    }
    let on = format!("{}, {}", kind.name(), if eager { "eager" } else { "on complete" });
    let what = format!("upload of {} chunks of 64 KiB", scale.small);
    let walls = (of(&ours, |ran| ran.wall), of(&floor, |ran| ran.wall));
    let until_sent =
        Row::of(format!("{what}, until all is sent and confirmed"), &on, Unit::Seconds, &sent)
            .by_rounds("bare PUTs", &sent, &walls.1);
    let until_completed =
        || Row::of(format!("{what}, until completed"), &on, Unit::Seconds, &walls.0);
    let memory = |whose: &str, peak: u64| {
        let what = format!("memory of the {whose} meanwhile, at its peak");
        Row::new(what, format!("{on}, 64 KiB chunks"), Unit::Mebibytes, peak as f64 / MIB as f64)
    };
    let rows = vec![
        // Ahead, the worker reads while the client sends.
        if eager { until_sent } else { until_sent.goal(Goal::TimesFloor(1.3)) },
        until_completed().by_rounds("bare PUTs", &walls.0, &walls.1).goal(Goal::TimesFloor(1.3)),
        until_completed().by_rounds(
            "bare PUTs, GETs, larger parts, delete",
            &walls.0,
            &of(&whole_floor, |ran| ran.wall),
        ),
        memory("API", site.api_process.peak_memory()?).goal(Goal::AtMost(40.0)),
        memory("worker", site.worker.peak_memory()?).goal(Goal::AtMost(64.0)),
    ];
    site.end().await?;
    Ok(rows)
}

/// Over a line that leaves the processors time to make parts meanwhile.
pub async fn line(
    kind: Kind,
    eager: bool,
    folder: &Path,
    scale: &Scale,
) -> anyhow::Result<Vec<Row>> {
    let name = format!("small-line-{eager}");
    let server = kind.server(folder, &name).await?;
    let relay = Relay::limited(&server.place.endpoint, Some(LINE)).await?;
    let by_line = Server::at(Place { endpoint: relay.endpoint(), ..server.place.clone() });
    let wishes = Wishes { eager, public_endpoint: Some(relay.endpoint()), ..Wishes::default() };
    let site = Site::on(kind, server, folder, &name, wishes).await?;
    let file = noise(folder, scale.small * CHUNK)?;
    warm_up(&site, folder).await?;
    let (mut ours, mut floor, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..scale.line_rounds {
        let (on, chunks) = (kind.name(), scale.small);
        eprintln!("{on}, eager {eager}: {chunks} chunks at 200 Mbit/s, round {} ...", round + 1);
        for ours_now in [round % 2 == 0, round % 2 != 0] {
            if ours_now {
                ours.push(upload(&site, &file, CHUNK).await?);
                let upload = site.api.latest().await?;
                let (requested, finished) = site.api.assembled_at(&upload).await?;
                ends.push((finished - requested).to_std()?.as_secs_f64() * 1_000.0);
                site.removed(&upload).await?;
            } else {
                floor.push(bare(&by_line, &site.folder, &file, CHUNK, Then::Nothing).await?);
                site.server.empty().await?;
            }
        }
    }
    let on = format!("{}, {}", kind.name(), if eager { "eager" } else { "on complete" });
    let what = format!("upload of {} chunks of 64 KiB at 200 Mbit/s", scale.small);
    let walls = (of(&ours, |ran| ran.wall), of(&floor, |ran| ran.wall));
    let until_completed = Row::of(format!("{what}, until completed"), &on, Unit::Seconds, &walls.0)
        .by_rounds("bare PUTs", &walls.0, &walls.1);
    let end = Row::of(format!("{what}, complete to completed"), &on, Unit::Milliseconds, &ends);
    site.end().await?;
    // What is not done ahead is what it is compared with.
    Ok(match eager {
        true => vec![until_completed.goal(Goal::TimesFloor(1.3)), end.goal(Goal::AtMost(300.0))],
        false => vec![until_completed, end],
    })
}
