//! Calls for one upload that come together are done together: while some are under way, those that come wait, and are
//! then one. A call that comes alone waits for nothing, and neither do as many as can be done together.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use tokio::sync::oneshot;
use tracing::Instrument as _;
use uuid::Uuid;

/// So many are under way for one upload side by side. With one, storage and database would wait for each other.
const SIDE_BY_SIDE: usize = 2;
/// The most calls that are done together.
pub const TOGETHER: usize = 16;

/// The calls of this process, by upload; each is about a chunk and answered with a `T`.
pub struct Joint<T>(Arc<Mutex<HashMap<Uuid, Calls<T>>>>);

struct Calls<T> {
    under_way: usize,
    /// Each is a request that waits for its answer; those that have gone are left out when the next are taken.
    waiting: Vec<Call<T>>,
}

struct Call<T> {
    index: i32,
    answer: oneshot::Sender<T>,
}

impl<T> Default for Joint<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Joint<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> Joint<T> {
    /// Has `act` done for this chunk, and for those of the calls that come meanwhile; it answers all in their order.
    /// It goes on where the one who called has gone: others may wait for the same. `None`: it has panicked, or the
    /// program ends.
    pub async fn call<F, D>(&self, upload_id: Uuid, index: i32, act: F) -> Option<T>
    where
        F: Fn(Vec<i32>) -> D + Send + 'static,
        D: Future<Output = Vec<T>> + Send + 'static,
    {
        let (answer, told) = oneshot::channel();
        if self.join(upload_id, Call { index, answer }) {
            tokio::spawn(self.clone().work(upload_id, act).in_current_span());
        }
        told.await.ok()
    }

    async fn work<F, D>(self, upload_id: Uuid, act: F)
    where
        F: Fn(Vec<i32>) -> D,
        D: Future<Output = Vec<T>>,
    {
        loop {
            // Calls that have just arrived come along.
            tokio::task::yield_now().await;
            let calls = self.take(upload_id);
            if calls.is_empty() {
                return;
            }
            let indexes = calls.iter().map(|call| call.index).collect();
            // The panic hook has logged what and where.
            let answers = AssertUnwindSafe(act(indexes)).catch_unwind().await.unwrap_or_default();
            for (call, answer) in calls.into_iter().zip(answers) {
                // Whoever has gone does not hear it.
                let _ = call.answer.send(answer);
            }
        }
    }

    /// Whether the one who joins has to begin with what waits.
    fn join(&self, upload_id: Uuid, call: Call<T>) -> bool {
        self.with(|all| {
            let none = || Calls { under_way: 0, waiting: Vec::new() };
            let calls = all.entry(upload_id).or_insert_with(none);
            calls.waiting.push(call);
            let full = calls.waiting.len() % TOGETHER == 0;
            let begin = calls.under_way < SIDE_BY_SIDE || full;
            calls.under_way += usize::from(begin);
            begin
        })
    }

    /// The calls to be done next. With none left, the one who asks has ended.
    fn take(&self, upload_id: Uuid) -> Vec<Call<T>> {
        self.with(|all| {
            let Some(calls) = all.get_mut(&upload_id) else { return Vec::new() };
            calls.waiting.retain(|call| !call.answer.is_closed());
            let together = calls.waiting.len().min(TOGETHER);
            let taken: Vec<_> = calls.waiting.drain(..together).collect();
            if taken.is_empty() {
                calls.under_way -= 1;
                if calls.under_way == 0 {
                    all.remove(&upload_id);
                }
            }
            taken
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut HashMap<Uuid, Calls<T>>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Acts that wait to be let go, and note how many calls each of them was for.
    #[derive(Clone)]
    struct Acts {
        joint: Joint<i32>,
        go: Arc<Semaphore>,
        begun: Arc<Mutex<Vec<usize>>>,
    }

    impl Acts {
        fn new() -> Self {
            let go = Arc::new(Semaphore::new(0));
            Self { joint: Joint::default(), go, begun: Arc::default() }
        }

        /// A call that is answered with its own index; it has joined when this returns.
        async fn call(&self, index: i32) -> tokio::task::JoinHandle<Option<i32>> {
            let acts = self.clone();
            let call = tokio::spawn(async move {
                let own = acts.clone();
                let act = move |indexes: Vec<i32>| {
                    let acts = own.clone();
                    async move {
                        acts.begun.lock().unwrap().push(indexes.len());
                        let _go = acts.go.acquire().await.unwrap();
                        assert!(!indexes.contains(&-1), "told to");
                        indexes
                    }
                };
                acts.joint.call(Uuid::nil(), index, act).await
            });
            settle().await;
            call
        }

        fn begun(&self) -> Vec<usize> {
            self.begun.lock().unwrap().clone()
        }
    }

    /// Whatever can go on has done so: there is one thread.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn calls_that_come_while_others_are_under_way_are_done_together() {
        let acts = Acts::new();
        let mut calls = Vec::new();
        for index in 0..100 {
            calls.push(acts.call(index).await);
        }
        // The last two wait for any of those before them.
        assert_eq!(acts.begun(), [1, 1, 16, 16, 16, 16, 16, 16]);
        acts.go.add_permits(100);
        for (index, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap(), Some(index));
        }
        assert_eq!(acts.begun(), [1, 1, 16, 16, 16, 16, 16, 16, 2]);
        settle().await;
        assert!(acts.joint.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn calls_for_other_uploads_do_not_wait() {
        let joint = Joint::default();
        let waits = joint.clone();
        let (begun, has_begun) = oneshot::channel();
        let begun = Mutex::new(Some(begun));
        let first = tokio::spawn(async move {
            let act = move |_| {
                begun.lock().unwrap().take().unwrap().send(()).unwrap();
                std::future::pending::<Vec<i32>>()
            };
            waits.call(Uuid::nil(), 0, act).await
        });
        has_begun.await.unwrap();
        let other = joint.call(Uuid::max(), 1, |indexes| async { indexes }).await;
        assert_eq!(other, Some(1));
        first.abort();
    }

    #[tokio::test]
    async fn a_panic_answers_those_whom_it_concerns_and_no_others() {
        let acts = Acts::new();
        let calls =
            [acts.call(0).await, acts.call(1).await, acts.call(-1).await, acts.call(2).await];
        acts.go.add_permits(100);
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        assert_eq!(answers, [Some(0), Some(1), None, None]);
        assert_eq!(acts.call(3).await.await.unwrap(), Some(3));
    }

    #[tokio::test]
    async fn what_is_done_for_others_too_goes_on_where_one_has_gone() {
        let acts = Acts::new();
        let (gone, stays) = (acts.call(0).await, acts.call(1).await);
        let (gone_before, waits) = (acts.call(2).await, acts.call(3).await);
        gone.abort();
        gone_before.abort();
        acts.go.add_permits(100);
        assert_eq!((stays.await.unwrap(), waits.await.unwrap()), (Some(1), Some(3)));
        // Nothing is done for the one that had gone before its turn.
        assert_eq!(acts.begun(), [1, 1, 1]);
        settle().await;
        assert!(acts.joint.0.lock().unwrap().is_empty());
    }
}
