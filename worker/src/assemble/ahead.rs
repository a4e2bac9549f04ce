//! Copying while the client still sends: a part is made as soon as all of its chunks are confirmed, so that little
//! is left once the client says that all is sent. It costs no call to S3 more, and gives way to uploads that
//! wait for their end. Nothing depends on it: what is not copied ahead, or fails to be, is copied then; so is a part
//! of which one chunk was sent anew after it was made of several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;
use upflow_core::db::now;
use upflow_core::plan::Part;
use upflow_core::queue::Delivery;
use upflow_core::storage::Multipart;
use upflow_core::uploads::{self, Chunk, LetGo, Upload};
use uuid::Uuid;

use super::stopped::{Setback, Stopped};
use super::{Assembly, settle, to_the_end};
use crate::lease::{self, Lease};
use crate::worker::{JobError, Worker};

/// The most chunks that are begun in one go.
const PORTION: u64 = 1_000;
/// Once one of the last so many parts of a file can be made, the rest is waited for,
const LAST_PARTS: usize = 16;
/// and looked for so soon while copies are under way; each time that nothing has come, after twice as long.
const LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// After which an upload that had to give way is looked at again.
const GIVEN_WAY: Duration = Duration::from_secs(1);

/// The least pause after an error.
const SET_BACK: Duration = Duration::from_secs(10);

/// Copies what is confirmed, if nobody else does, until nothing is left to copy. `Some(delay)`: it is to be
/// looked at again after that.
pub(crate) async fn run(
    worker: &Arc<Worker>,
    id: Uuid,
    delivery: &Delivery,
    consumer: &str,
) -> Result<Option<Duration>, JobError> {
    let db = &worker.ctx.db;
    loop {
        let (lease, life) = (Uuid::new_v4(), worker.settings.lease);
        let claimed = worker.ask(uploads::claim_ahead(db, id, lease, life, now())).await?;
        let Some(upload) = claimed else { return Ok(None) };
        let lease = Lease::hold(worker, id, lease);
        let ended = tokio::select! {
            ended = copy(worker, &upload, lease.id) => ended,
            () = lease.lost.cancelled() => Err(Stopped::LeaseLost),
            () = worker.out_of_patience() => Err(Stopped::Halted),
            never = lease::keep(delivery, consumer) => match never {},
        };
        match ended {
            Ok(()) => {}
            Err(Stopped::Halted) if worker.stop.is_cancelled() => {
                worker.ask(uploads::let_go(db, id, lease.id)).await?;
                return Ok(None);
            }
            Err(Stopped::Halted) => {}
            Err(stopped) => return set_back(worker, &upload, &lease, stopped).await,
        }
        match worker.ask(uploads::let_go(db, id, lease.id)).await? {
            LetGo::Pending(upload) => {
                return to_the_end(worker, *upload, lease, delivery, consumer).await;
            }
            LetGo::Lost => return Ok(None),
            LetGo::Free if worker.has_urgent_work() => return Ok(Some(GIVEN_WAY)),
            LetGo::Free => {}
        }
        // A confirm that saw the lease has told nobody.
        if next(worker, &upload, &BTreeSet::new()).await?.parts.is_empty() {
            return Ok(None);
        }
    }
}

/// Copies what is confirmed until nothing is left to copy. What comes while copies are under way joins them
/// once some have ended, and near the end of the file at once: the end shall not wait for two copies, one
/// after the other.
async fn copy(worker: &Worker, upload: &Upload, lease: Uuid) -> Result<(), Stopped> {
    let halted = AtomicBool::new(false);
    let go_on = || {
        !halted.load(Ordering::Relaxed) && !worker.stop.is_cancelled() && !worker.has_urgent_work()
    };
    let places = Arc::new(Semaphore::new(worker.settings.copies));
    let (mut multipart, mut under_way) = (None, BTreeSet::new());
    let (mut near_the_end, mut pause) = (false, LOOK);
    let mut rounds = FuturesUnordered::new();
    loop {
        let next = next(worker, upload, &under_way).await?;
        match next.parts.last() {
            Some(_) if !go_on() && rounds.is_empty() => return Err(Stopped::Halted),
            Some(last) if go_on() => {
                near_the_end |= last.number as usize + LAST_PARTS > upload.plan().parts().count();
                pause = LOOK;
                let mut assembly = Assembly::new(worker, upload, lease, next.rows)?;
                assembly.places = places.clone();
                let to = match &multipart {
                    Some(multipart) => Multipart::clone(multipart),
                    None => multipart.insert(assembly.multipart().await?.0).clone(),
                };
                under_way.extend(assembly.chunks.keys());
                rounds.push(round(assembly, to, next.parts, &go_on));
            }
            _ => {}
        }
        let ended = tokio::select! {
            ended = rounds.next() => ended,
            () = tokio::time::sleep(pause), if near_the_end => {
                pause = (2 * pause).min(LONGEST_LOOK);
                continue;
            }
        };
        match ended {
            None => return Ok(()),
            Some((indexes, Ok(()))) => under_way.retain(|index| !indexes.contains(index)),
            Some((_, Err(stopped))) => {
                halted.store(true, Ordering::Relaxed);
                // They end what is under way, and write it down.
                while rounds.next().await.is_some() {}
                return Err(stopped);
            }
        }
    }
}

/// Parts that can be made now, and their chunks.
struct Next {
    parts: Vec<Part>,
    rows: Vec<Chunk>,
}

/// What is confirmed and in no part, where it is a whole part.
async fn next(
    worker: &Worker,
    upload: &Upload,
    under_way: &BTreeSet<i32>,
) -> Result<Next, uploads::Error> {
    let uncopied = uploads::uncopied(&worker.ctx.db, upload.upload_id, PORTION);
    let mut uncopied: BTreeMap<i32, Chunk> =
        worker.ask(uncopied).await?.into_iter().map(|row| (row.chunk_index, row)).collect();
    uncopied.retain(|index, _| !under_way.contains(index));
    let whole = |part: &Part| part.chunks.clone().all(|index| uncopied.contains_key(&index));
    let parts: Vec<Part> = upload.plan().parts().filter(whole).collect();
    let chunks = parts.iter().flat_map(|part| part.chunks.clone());
    let rows = chunks.filter_map(|index| uncopied.remove(&index)).collect();
    Ok(Next { parts, rows })
}

/// Makes these parts of the chunks of this assembly, and says which these were.
async fn round(
    assembly: Assembly<'_>,
    to: Multipart,
    parts: Vec<Part>,
    go_on: impl Fn() -> bool,
) -> (BTreeSet<i32>, Result<(), Stopped>) {
    let copied = assembly.copy_parts(&to, parts, go_on).await.map(drop);
    (assembly.chunks.into_keys().collect(), copied)
}

async fn set_back(
    worker: &Worker,
    upload: &Upload,
    lease: &Lease,
    stopped: Stopped,
) -> Result<Option<Duration>, JobError> {
    let (db, id) = (&worker.ctx.db, upload.upload_id);
    let setback = match stopped {
        Stopped::LeaseLost | Stopped::Halted => return Ok(None),
        Stopped::Uploads(error) => return Err(error.into()),
        // The client may still send them anew, whatever the upload has come to meanwhile.
        Stopped::ChunksLost(_) => return settle::settle(worker, upload, lease, stopped).await,
        Stopped::MultipartGone(why) => {
            let anew = uploads::set_multipart(db, id, lease.id, None, Uuid::new_v4());
            worker.ask(anew).await?;
            Setback { why, retry_after: None, outage: false }
        }
        Stopped::Refused(failure) => {
            Setback { why: failure.detail, retry_after: None, outage: false }
        }
        Stopped::Transient(setback) => setback,
    };
    tracing::debug!(upload.id = %id, why = setback.why, "not copied ahead");
    let pause = SET_BACK.max(setback.retry_after.unwrap_or_default());
    let handed = uploads::hand_back(db, id, lease.id, now() + pause, setback.why, true, now());
    worker.ask(handed).await?;
    Ok(Some(pause))
}
