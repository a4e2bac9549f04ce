//! Copying while the client still sends: a part is made as soon as all of its chunks are confirmed, so that little
//! is left once the client says that all is sent. It costs no call to S3 more but for what is sent anew, and gives
//! way to uploads that wait for their end. Nothing depends on it: what is not copied ahead, or fails to be, is copied
//! then; so is a part of which one chunk was sent anew after it was made of several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore, broadcast};
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::plan::Part;
use upflow_core::queue::Delivery;
use upflow_core::storage::Multipart;
use upflow_core::uploads::{self, Chunk, LetGo, ToCopy, Upload};
use uuid::Uuid;

use super::stopped::{Setback, Stopped};
use super::{Assembly, settle, to_the_end};
use crate::lease::{self, Lease};
use crate::worker::{JobError, Worker};

/// The most chunks of the parts that are begun in one go.
const PORTION: i32 = 1_000;
/// While copies are under way, it is looked for more so often,
const LOOK: Duration = Duration::from_secs(1);
/// and once one of the last so many parts of a file can be made, at least this often,
const LAST_PARTS: usize = 16;
/// or more seldom, after a tenth of the time in which nothing has come.
const LAST_LOOK: Duration = Duration::from_millis(50);
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
            Ok(()) | Err(Stopped::Halted) => {}
            Err(stopped) => return set_back(worker, &upload, &lease, stopped).await,
        }
        match worker.ask(uploads::let_go(db, id, lease.id)).await? {
            LetGo::Pending(upload) => {
                return to_the_end(worker, *upload, lease, delivery, consumer).await;
            }
            LetGo::Lost => return Ok(None),
            LetGo::Free if worker.stop.is_cancelled() => return Ok(None),
            LetGo::Free if worker.has_urgent_work() => return Ok(Some(GIVEN_WAY)),
            LetGo::Free => {}
        }
        // A confirm that saw the lease has told nobody.
        if worker.ask(uploads::to_copy(db, id, &upload.plan(), 1)).await?.chunks.is_empty() {
            return Ok(None);
        }
    }
}

/// Copies what is confirmed until nothing is left to copy. What comes while copies are under way joins them: near
/// the end of the file at once, since the end shall not wait for two copies, one after the other. From when its
/// client waits for the end it is urgent like any other that is waited for.
async fn copy(worker: &Worker, upload: &Upload, lease: Uuid) -> Result<(), Stopped> {
    let (halted, pending) = (AtomicBool::new(false), AtomicBool::new(false));
    let go_on = || {
        let gives_way = worker.has_urgent_work() && !pending.load(Ordering::Relaxed);
        !halted.load(Ordering::Relaxed) && !worker.stop.is_cancelled() && !gives_way
    };
    let places = Arc::new(Semaphore::new(worker.settings.copies));
    let (mut under_way, mut pace) = (UnderWay::default(), Pace::new(upload));
    let (mut multipart, mut urgent) = (None, None);
    let mut rounds = FuturesUnordered::new();
    let watcher = Watcher { at_once: Notify::new(), asking: AtomicBool::new(false) };
    watcher.at_once.notify_one();
    let mut looking = Box::pin(watcher.look(worker, upload, LOOK, worker.awaited.subscribe()));
    loop {
        let (awaited, looked) = tokio::select! {
            Some(round) = rounds.next() => {
                let (indexes, done): Round = round;
                if let Err(stopped) = done {
                    halted.store(true, Ordering::Relaxed);
                    // They end what is under way, and write it down.
                    while rounds.next().await.is_some() {}
                    return Err(stopped);
                }
                let asking = watcher.asking.load(Ordering::Relaxed);
                under_way.end(indexes, asking);
                if !asking {
                    watcher.at_once.notify_one();
                }
                continue;
            }
            looked = &mut looking => looked,
        };
        let looked = looked?;
        if looked.status == Status::PendingAssembly && urgent.is_none() {
            urgent = Some(worker.urgent());
            pending.store(true, Ordering::Relaxed);
        }
        let next = whole_parts(upload, looked.chunks, &under_way.chunks);
        match next.parts.last() {
            Some(_) if !go_on() && rounds.is_empty() => return Err(Stopped::Halted),
            Some(last) if go_on() => {
                pace.begun(last);
                let mut assembly = Assembly::new(worker, upload, lease, next.rows)?;
                assembly.places = places.clone();
                let to = match &multipart {
                    Some(multipart) => Multipart::clone(multipart),
                    None => multipart.insert(assembly.multipart().await?.0).clone(),
                };
                under_way.chunks.extend(assembly.chunks.keys());
                rounds.push(round(assembly, to, next.parts, &go_on));
            }
            _ if rounds.is_empty() && under_way.ended.is_empty() => return Ok(()),
            _ => {}
        }
        if under_way.looked() {
            watcher.at_once.notify_one();
        }
        looking = Box::pin(watcher.look(worker, upload, pace.pause(), awaited));
    }
}

/// The chunks of copies that are under way.
#[derive(Default)]
struct UnderWay {
    chunks: BTreeSet<i32>,
    /// Those of copies that have ended during a look. They stay under way for it: it may have seen how things stood
    /// before.
    ended: BTreeSet<i32>,
}

impl UnderWay {
    fn end(&mut self, chunks: BTreeSet<i32>, during_a_look: bool) {
        match during_a_look {
            true => self.ended.extend(chunks),
            false => self.chunks.retain(|index| !chunks.contains(index)),
        }
    }

    /// A look has ended. True if copies ended during it: then another look is due at once.
    fn looked(&mut self) -> bool {
        let ended = std::mem::take(&mut self.ended);
        self.chunks.retain(|index| !ended.contains(index));
        !ended.is_empty()
    }
}

/// How often it is looked for more while copies are under way.
struct Pace {
    parts: usize,
    near_the_end: bool,
    /// When something came last.
    came: Instant,
}

impl Pace {
    fn new(upload: &Upload) -> Self {
        let parts = upload.plan().parts().count();
        Self { parts, near_the_end: false, came: Instant::now() }
    }

    /// Parts up to this one can be made.
    fn begun(&mut self, last: &Part) {
        self.near_the_end |= last.number as usize + LAST_PARTS > self.parts;
        self.came = Instant::now();
    }

    fn pause(&self) -> Duration {
        match self.near_the_end {
            true => (self.came.elapsed() / 10).clamp(LAST_LOOK, LOOK),
            false => LOOK,
        }
    }
}

/// Watches how an upload stands, beside the copies that are under way.
struct Watcher {
    /// The next look does not wait for its pause.
    at_once: Notify,
    /// The database is being asked: what happens from here on, this look may not see.
    asking: AtomicBool,
}

impl Watcher {
    /// Looks after a pause, or before that where it is to be at once, or where this worker hears that the client of
    /// this upload waits for its end.
    async fn look(
        &self,
        worker: &Worker,
        upload: &Upload,
        pause: Duration,
        mut awaited: broadcast::Receiver<Uuid>,
    ) -> (broadcast::Receiver<Uuid>, Result<ToCopy, uploads::Error>) {
        let (db, id, plan) = (&worker.ctx.db, upload.upload_id, upload.plan());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.at_once.notified() => {}
            () = is_awaited(&mut awaited, id) => {}
        }
        self.asking.store(true, Ordering::Relaxed);
        let most = (PORTION / plan.chunks_per_part()).max(1).unsigned_abs().into();
        let looked = worker.ask(uploads::to_copy(db, id, &plan, most)).await;
        self.asking.store(false, Ordering::Relaxed);
        (awaited, looked)
    }
}

/// Until this worker hears that the client of this upload waits for its end, or may have missed it.
async fn is_awaited(awaited: &mut broadcast::Receiver<Uuid>, id: Uuid) {
    loop {
        match awaited.recv().await {
            Ok(other) if other != id => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// Parts that can be made now, and their chunks.
struct Next {
    parts: Vec<Part>,
    rows: Vec<Chunk>,
}

/// The whole parts of these chunks, without those that are under way.
fn whole_parts(upload: &Upload, chunks: Vec<Chunk>, under_way: &BTreeSet<i32>) -> Next {
    let mut chunks: BTreeMap<i32, Chunk> =
        chunks.into_iter().map(|row| (row.chunk_index, row)).collect();
    chunks.retain(|index, _| !under_way.contains(index));
    let whole = |part: &Part| part.chunks.clone().all(|index| chunks.contains_key(&index));
    let parts: Vec<Part> = upload.plan().parts().filter(whole).collect();
    let indexes = parts.iter().flat_map(|part| part.chunks.clone());
    let rows = indexes.filter_map(|index| chunks.remove(&index)).collect();
    Next { parts, rows }
}

/// Which chunks it was of, and how it ended.
type Round = (BTreeSet<i32>, Result<(), Stopped>);

/// Makes these parts of the chunks of this assembly, and says which these were.
async fn round(
    assembly: Assembly<'_>,
    to: Multipart,
    parts: Vec<Part>,
    go_on: impl Fn() -> bool,
) -> Round {
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
    let current = worker.ask(uploads::find(db, id)).await?;
    if current.lease_id != Some(lease.id) {
        // Somebody else's, or ended.
        return Ok(None);
    }
    if current.status == Status::PendingAssembly {
        return settle::settle(worker, &current, lease, stopped).await;
    }
    let mut again = true;
    let setback = match stopped {
        Stopped::LeaseLost | Stopped::Halted => return Ok(None),
        Stopped::Uploads(error) => return Err(error.into()),
        // The client may still send them anew, whatever the upload has come to meanwhile.
        Stopped::ChunksLost(_) => return settle::settle(worker, upload, lease, stopped).await,
        Stopped::MultipartGone(why) => {
            let anew = uploads::set_multipart(db, id, lease.id, None, Uuid::new_v4());
            worker.ask(anew).await?;
            // Not before the next confirm: it could go on like this as long as the client is there.
            again = false;
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
    Ok(Some(pause).filter(|_| again))
}
