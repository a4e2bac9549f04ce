//! Long polls: requests that wait until an upload has moved on. Thousands may wait and none of them asks the
//! database meanwhile. One task for the whole process hears the news and wakes those whom they concern; news
//! may be lost, so it also looks at all awaited uploads together now and then, more often while it hears
//! nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use upflow_core::Context;
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::queue::{Listener, News};
use upflow_core::uploads::{self as rows, WithChunks};
use uuid::Uuid;

use crate::problem::Problem;
use crate::routes::State;

/// Between two looks at all awaited uploads while news come, for those that were lost on the way.
const LOOK: Duration = Duration::from_secs(5);
/// The same while none can come, and how often it is tried to hear some.
const LOOK_DEAF: Duration = Duration::from_secs(1);

/// Requests that may wait for one upload; one more is answered at once.
const SEATS: usize = 32;

/// The uploads that requests of this process wait for.
#[derive(Default)]
pub struct Waiting(Mutex<HashMap<Uuid, Awaited>>);

struct Awaited {
    moved: Arc<Notify>,
    seats: usize,
    /// As those who wait have seen it.
    seen: Option<Status>,
}

/// A place among those who wait for an upload; given up when dropped.
struct Seat<'a> {
    waiting: &'a Waiting,
    upload_id: Uuid,
    moved: Arc<Notify>,
}

impl Waiting {
    /// A seat, and whether there was one: too many get none to wait on.
    fn sit(&self, upload_id: Uuid) -> (Seat<'_>, bool) {
        let (moved, free) = self.with(|all| {
            let new = || Awaited { moved: Arc::default(), seats: 0, seen: None };
            let awaited = all.entry(upload_id).or_insert_with(new);
            awaited.seats += 1;
            (awaited.moved.clone(), awaited.seats <= SEATS)
        });
        (Seat { waiting: self, upload_id, moved }, free)
    }

    fn wake(&self, upload_id: Uuid) {
        self.with(|all| {
            if let Some(awaited) = all.get(&upload_id) {
                awaited.moved.notify_waiters();
            }
        });
    }

    /// Wakes those whose upload is not as they have seen it.
    async fn look(&self, ctx: &Context) -> Result<(), rows::Error> {
        let ids: Vec<Uuid> = self.with(|all| all.keys().copied().collect());
        let stand = rows::statuses(&ctx.db, &ids, now()).await?;
        self.wake_where_moved(&ids, &stand);
        Ok(())
    }

    fn wake_where_moved(&self, ids: &[Uuid], stand: &HashMap<Uuid, Status>) {
        self.with(|all| {
            for id in ids {
                if let Some(awaited) = all.get(id)
                    && awaited.seen != stand.get(id).copied()
                {
                    awaited.moved.notify_waiters();
                }
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Uuid, Awaited>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seat<'_> {
    /// It has this status. Who looks for the first time says nothing of what the others have seen: the news of it may
    /// have been lost to them.
    fn saw_first(&self, status: Status) {
        self.see(|seen| *seen = seen.or(Some(status)));
    }

    fn saw(&self, status: Status) {
        self.see(|seen| *seen = Some(status));
    }

    fn see(&self, act: impl FnOnce(&mut Option<Status>)) {
        self.waiting.with(|all| {
            if let Some(awaited) = all.get_mut(&self.upload_id) {
                act(&mut awaited.seen);
            }
        });
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.waiting.with(|all| {
            if let Some(awaited) = all.get_mut(&self.upload_id) {
                awaited.seats -= 1;
                if awaited.seats == 0 {
                    all.remove(&self.upload_id);
                }
            }
        });
    }
}

/// The upload once it has this status, can no longer get it, or the time is over.
pub async fn wait(
    state: &State,
    upload_id: Uuid,
    status: Status,
    timeout: Duration,
) -> Result<WithChunks, Problem> {
    let permit = state.polls.try_acquire();
    let deadline = Instant::now() + timeout;
    let (seat, free) = state.waiting.sit(upload_id);
    let may_wait = free && permit.is_ok();
    let db = &state.ctx.db;
    // Made before each look, so that news in between are not missed.
    let mut moved = seat.moved.notified();
    // Mostly there is something to wait for: its chunks are not read for that, and nothing of it is held meanwhile.
    let upload = rows::find(db, upload_id).await?;
    let stands = upload.status_at(now());
    seat.saw_first(stands);
    if settled(stands, status) || !may_wait || Instant::now() >= deadline {
        let chunks = rows::confirmed_chunks(db, upload_id).await?;
        return Ok(WithChunks { upload, chunks });
    }
    drop(upload);
    loop {
        let over = tokio::select! {
            woken = timeout_at(deadline, moved) => woken.is_err(),
            () = state.shutdown.cancelled() => true,
        };
        moved = seat.moved.notified();
        let found = rows::find_with_chunks(db, upload_id).await?;
        let stands = found.upload.status_at(now());
        seat.saw(stands);
        if settled(stands, status) || over {
            return Ok(found);
        }
    }
}

/// Whether this is the status that is waited for, or that one can no longer come.
fn settled(stands: Status, awaited: Status) -> bool {
    stands == awaited || stands.is_final() || stands == Status::Failed
}

/// Wakes those who wait, until the server is to stop.
pub async fn wake(state: &State) {
    tokio::select! {
        () = listen(state) => {}
        () = state.shutdown.cancelled() => {}
    }
}

async fn listen(state: &State) {
    let mut broken = false;
    loop {
        match state.ctx.queue.listen().await {
            Ok(mut listener) => {
                broken = false;
                hear(state, &mut listener).await;
            }
            Err(error) if !std::mem::replace(&mut broken, true) => {
                tracing::warn!(%error, "no news can be heard; long polls are answered later");
            }
            Err(_) => {}
        }
        look(state).await;
        sleep(LOOK_DEAF).await;
    }
}

/// Until nothing is heard any more.
async fn hear(state: &State, listener: &mut Listener) {
    let mut last = Instant::now();
    loop {
        let due = last + if listener.hears() { LOOK } else { LOOK_DEAF };
        let news = tokio::select! {
            news = listener.next() => news,
            // A connection that breaks meanwhile is noticed in time.
            () = sleep_until(due.min(Instant::now() + LOOK_DEAF)) => {
                if Instant::now() < due {
                    continue;
                }
                Ok(News::Gap)
            }
        };
        match news {
            Ok(News::Moved(upload_id)) => state.waiting.wake(upload_id),
            Ok(News::Gap) => {
                look(state).await;
                last = Instant::now();
            }
            Err(error) => return tracing::debug!(%error, "the listener has ended"),
        }
    }
}

async fn look(state: &State) {
    if let Err(error) = state.waiting.look(&state.ctx).await {
        // Requests that ask the database say so themselves.
        tracing::debug!(%error, "the awaited uploads could not be looked at");
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn who_comes_after_lost_news_hides_nothing_from_those_who_wait_for_them() {
        let (waiting, id) = (Waiting::default(), Uuid::nil());
        let (before, _) = waiting.sit(id);
        let moved = before.moved.notified();
        before.saw_first(Status::Uploading);
        let (after, _) = waiting.sit(id);
        after.saw_first(Status::PendingAssembly);
        waiting.wake_where_moved(&[id], &HashMap::from([(id, Status::PendingAssembly)]));
        assert!(moved.now_or_never().is_some());
        // Woken, they have seen it, and are left alone.
        let moved = before.moved.notified();
        before.saw(Status::PendingAssembly);
        waiting.wake_where_moved(&[id], &HashMap::from([(id, Status::PendingAssembly)]));
        assert!(moved.now_or_never().is_none());
    }
}
