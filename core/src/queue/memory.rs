//! The queue of the embedded mode: in this process, bounded, and empty after a restart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

use super::news::HEARD;
use super::{Depth, Job, QueueError};

const CAPACITY: usize = 10_000;

#[derive(Clone, Default)]
pub struct MemoryQueue(Arc<Inner>);

struct Inner {
    jobs: Mutex<VecDeque<(Job, Instant)>>,
    pushed: Notify,
    moved: broadcast::Sender<Uuid>,
}

impl Default for Inner {
    fn default() -> Self {
        let (jobs, pushed) = (Mutex::default(), Notify::default());
        Self { jobs, pushed, moved: broadcast::channel(HEARD).0 }
    }
}

impl MemoryQueue {
    pub fn push(&self, job: Job) -> Result<(), QueueError> {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= CAPACITY {
            return Err(QueueError::Full);
        }
        jobs.push_back((job, Instant::now()));
        self.0.pushed.notify_one();
        Ok(())
    }

    /// The next job, and how long it has waited.
    pub async fn next(&self) -> (Job, Duration) {
        loop {
            // Made before the look, so that a push in between is not missed.
            let pushed = self.0.pushed.notified();
            if let Some(job) = self.pop() {
                return job;
            }
            pushed.await;
        }
    }

    pub fn tell(&self, upload_id: Uuid) {
        // An error only says that nobody listens.
        let _ = self.0.moved.send(upload_id);
    }

    pub fn listen(&self) -> broadcast::Receiver<Uuid> {
        self.0.moved.subscribe()
    }

    fn pop(&self) -> Option<(Job, Duration)> {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.pop_front().map(|(job, pushed)| (job, pushed.elapsed()))
    }

    /// Jobs under way are in no queue here.
    pub fn depth(&self) -> Depth {
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = jobs.front().map(|(_, pushed)| pushed.elapsed());
        Depth { jobs: jobs.len() as i64, oldest }
    }
}
