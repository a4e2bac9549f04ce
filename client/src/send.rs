//! Sends the chunks that are missing. One task decides and holds all state; others do the waiting:
//! at most one gets checksums and URLs for the chunks ahead, at most one confirms what is in S3, and
//! up to `parallel` send. Dropping [`Sending`] stops them all.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, CHUNKS_PER_CALL};
use crate::checksum::Algorithm;
use crate::confirm::Stand;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::http::Http;
use crate::prepare::{Window, prepare};
use crate::problem::CallError;
use crate::progress::{ChunkState, Event, Meter};
use crate::put::{Ready, Sent, put};
use crate::retry::Retry;
use crate::storage::StorageError;
use crate::wire::Confirmed;

/// Tries with another URL, when S3 refused the first.
const REFUSALS: u32 = 2;
/// Tries with another URL, when they keep expiring.
const EXPIRIES: u32 = 10;
/// Times a chunk is sent again because the server did not find it in S3 as it should be.
const RESENDS: u32 = 3;

/// What all tasks of one upload share.
#[derive(Debug)]
pub(crate) struct Job {
    pub http: Http,
    pub api: Api,
    pub upload_id: String,
    pub path: PathBuf,
    pub geometry: Geometry,
    pub algorithm: Algorithm,
    pub meter: Arc<Meter>,
    /// Cancelled when the upload is dropped; for blocking tasks, which nothing else stops.
    pub stop: CancellationToken,
}

impl Job {
    pub fn client(&self) -> &reqwest::Client {
        &self.http.client
    }

    pub fn retry(&self) -> Retry {
        self.http.options.retry
    }

    pub fn stall_timeout(&self) -> Duration {
        self.http.options.stall_timeout
    }

    pub fn chunk(&self, chunk_index: u32, state: ChunkState) {
        self.meter.listener.tell(Event::Chunk { chunk_index, state });
    }
}

/// A chunk that is to be sent, and what went wrong with it so far.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub chunk_index: u32,
    /// Known once it was read; forgotten when it seems to be wrong.
    pub checksum: Option<String>,
    pub failures: u32,
    refusals: u32,
    expiries: u32,
    resends: u32,
}

impl Item {
    pub fn new(chunk_index: u32) -> Self {
        Self { chunk_index, checksum: None, failures: 0, refusals: 0, expiries: 0, resends: 0 }
    }
}

enum Done {
    Prepared(Result<Vec<Ready>, Error>),
    Put(Item, Sent),
    Confirmed(Vec<Item>, Result<Confirmed, CallError>),
}

pub(crate) struct Sending {
    job: Arc<Job>,
    tasks: JoinSet<Done>,
    /// In need of a URL, and of a checksum if they have none.
    todo: VecDeque<Item>,
    ready: VecDeque<Ready>,
    began: Instant,
    /// In S3, not confirmed.
    sent: Vec<Item>,
    sent_since: Instant,
    window: Window,
    /// So many chunks; at most one call is under way.
    preparing: usize,
    putting: usize,
    confirming: bool,
    /// Batches of URLs that expired unused since a URL was used.
    unused: u32,
}

impl Sending {
    /// `ready` are chunks that have a URL already, `todo` the indexes of the others.
    pub fn new(job: Arc<Job>, todo: impl IntoIterator<Item = u32>, ready: Vec<Ready>) -> Self {
        let parallel = job.http.options.parallel;
        Self {
            window: Window::new(parallel, job.geometry.chunk_size),
            job,
            tasks: JoinSet::new(),
            todo: todo.into_iter().map(Item::new).collect(),
            ready: ready.into(),
            began: Instant::now(),
            sent: Vec::new(),
            sent_since: Instant::now(),
            preparing: 0,
            putting: 0,
            confirming: false,
            unused: 0,
        }
    }

    /// Returns when every chunk is in S3. The last few may be unconfirmed: completing confirms them.
    pub async fn run(mut self) -> Result<(), Error> {
        loop {
            self.start_puts()?;
            self.start_preparing();
            self.start_confirming();
            let due = self.confirm_at();
            let done = tokio::select! {
                done = self.tasks.join_next() => done,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
            };
            let Some(done) = done else { return Ok(()) };
            match done.map_err(Error::Internal)? {
                Done::Prepared(ready) => {
                    self.preparing = 0;
                    self.ready.extend(ready?);
                }
                Done::Put(item, sent) => {
                    self.putting -= 1;
                    self.after_put(item, sent)?;
                }
                Done::Confirmed(items, answer) => {
                    self.confirming = false;
                    self.after_confirming(items, &answer?)?;
                }
            }
        }
    }

    fn start_puts(&mut self) -> Result<(), Error> {
        let mut expired = None;
        while self.putting < self.job.http.options.parallel
            && let Some(ready) = self.ready.pop_front()
        {
            if Instant::now() >= ready.good_until {
                expired = Some((ready.item.chunk_index, ready.host()));
                self.todo.push_back(ready.item);
                continue;
            }
            expired = None;
            self.unused = 0;
            self.putting += 1;
            let job = self.job.clone();
            self.tasks.spawn(async move {
                let (item, sent) = put(job, ready).await;
                Done::Put(item, sent)
            });
        }
        if let Some((chunk_index, host)) = expired {
            self.unused += 1;
            if self.unused > EXPIRIES {
                return Err(always_expired(chunk_index, host, self.unused));
            }
        }
        Ok(())
    }

    fn start_preparing(&mut self) {
        if self.preparing > 0
            || self.todo.is_empty()
            || self.ready.len() >= self.window.refill_below()
        {
            return;
        }
        let count = self.window.next(Instant::now()).min(self.todo.len());
        let items: Vec<Item> = self.todo.drain(..count).collect();
        let job = self.job.clone();
        self.preparing = count;
        self.tasks.spawn(async move { Done::Prepared(prepare(&job, items).await) });
    }

    /// When the chunks that were sent are to be confirmed; `None` where others have to end first, or completing
    /// confirms them.
    fn confirm_at(&self) -> Option<Instant> {
        let stand = Stand {
            total: self.job.geometry.total_chunks as usize,
            to_begin: self.preparing + self.todo.len() + self.ready.len(),
            sending: self.putting,
            parallel: self.job.http.options.parallel,
            sent: self.sent.len(),
        };
        if self.confirming { None } else { stand.confirm_at(self.began, self.sent_since) }
    }

    fn start_confirming(&mut self) {
        if self.confirm_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let items = self.sent.split_off(self.sent.len().saturating_sub(CHUNKS_PER_CALL));
        let job = self.job.clone();
        self.confirming = true;
        self.tasks.spawn(async move {
            let indexes: Vec<u32> = items.iter().map(|item| item.chunk_index).collect();
            let answer = job.api.confirm_chunks(&job.upload_id, &indexes).await;
            Done::Confirmed(items, answer)
        });
    }

    fn after_put(&mut self, mut item: Item, sent: Sent) -> Result<(), Error> {
        match sent {
            Sent::Taken => {
                self.job.chunk(item.chunk_index, ChunkState::Sent);
                if self.sent.is_empty() {
                    self.sent_since = Instant::now();
                }
                self.sent.push(item);
                return Ok(());
            }
            Sent::Failed(error) => return Err(error),
            Sent::Expired { host } => {
                item.expiries += 1;
                if item.expiries > EXPIRIES {
                    return Err(always_expired(item.chunk_index, host, item.expiries));
                }
            }
            Sent::Refused(error) => {
                item.refusals += 1;
                if item.refusals > REFUSALS {
                    return Err(error.into());
                }
                tracing::debug!(%error, "asking for another URL");
                // It may have been the checksum that was refused.
                item.checksum = None;
            }
        }
        self.job.chunk(item.chunk_index, ChunkState::Again);
        self.todo.push_front(item);
        Ok(())
    }

    fn after_confirming(&mut self, items: Vec<Item>, answer: &Confirmed) -> Result<(), Error> {
        for chunk_index in &answer.confirmed {
            self.job.chunk(*chunk_index, ChunkState::Confirmed);
        }
        for mut item in items {
            let chunk_index = item.chunk_index;
            let rejected = answer.rejected.iter().find(|r| r.chunk_index == chunk_index);
            let Some(rejected) = rejected else { continue };
            item.resends += 1;
            if !rejected.can_be_sent_again() || item.resends > RESENDS {
                let (code, detail) = (rejected.code.clone(), rejected.detail.clone());
                return Err(Error::Rejected { chunk_index, code, detail });
            }
            tracing::debug!(chunk = chunk_index, code = rejected.code, "sending it again");
            item.checksum = None;
            self.job.meter.back(self.job.geometry.len(chunk_index));
            self.job.chunk(chunk_index, ChunkState::Again);
            self.todo.push_back(item);
        }
        Ok(())
    }
}

fn always_expired(chunk_index: u32, host: String, tries: u32) -> Error {
    StorageError::AlwaysExpired { chunk_index, host, tries }.into()
}
