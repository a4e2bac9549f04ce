//! Jobs: hints that an upload wants a look. The database is the truth, so a hint may be lost, repeated
//! or late; whoever takes one claims the row first, and the janitor hints again at rows that nobody
//! works on. That is why a bounded queue may drop, and why one in memory is enough for one process.

mod memory;
mod news;
mod redis;

use std::time::Duration;

use uuid::Uuid;

use crate::config::QueueSettings;
use memory::MemoryQueue;
use redis::{RedisConsumer, RedisQueue};

pub use news::{Listener, News};

/// Look at this upload: assemble it when it is pending, clean up when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    pub upload_id: Uuid,
}

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("Redis: {0}")]
    Redis(#[from] fred::error::Error),
    #[error("the queue in memory is full")]
    Full,
    #[error("nothing is heard any more")]
    Closed,
}

/// The jobs of the queue, waiting or under way, and how long ago the oldest was announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub jobs: i64,
    pub oldest: Option<Duration>,
}

/// What a Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    pub version: String,
    /// Keeps an append-only file, from which a restart reads what was there.
    pub append_only: bool,
    /// The policy by which keys go when the memory is full, `noeviction` for none.
    pub eviction: String,
    /// Bytes; 0 for no limit.
    pub memory_limit: Option<u64>,
}

/// Where jobs are announced.
#[derive(Clone)]
pub enum Queue {
    Redis(RedisQueue),
    Memory(MemoryQueue),
}

/// The receiving end, for one worker.
pub enum Consumer {
    Redis(Box<RedisConsumer>),
    Memory(MemoryQueue),
}

/// A job that has been handed out. Dropped without `done`, it will be handed out again, by Redis or by
/// the janitor.
pub struct Delivery {
    pub job: Job,
    /// How long it waited to be taken, where that is known.
    pub waited: Option<Duration>,
    redis: Option<(RedisQueue, String)>,
}

impl Queue {
    pub async fn redis(settings: &QueueSettings) -> Result<Self, QueueError> {
        Ok(Queue::Redis(RedisQueue::connect(settings).await?))
    }

    pub fn memory() -> Self {
        Queue::Memory(MemoryQueue::default())
    }

    pub async fn push(&self, job: Job) -> Result<(), QueueError> {
        match self {
            Queue::Redis(queue) => queue.push(job).await,
            Queue::Memory(queue) => queue.push(job),
        }
    }

    /// Tells every process that this upload has moved on; to be called after the commit. Nothing depends on
    /// it: who waits looks by itself now and then.
    pub async fn tell(&self, upload_id: Uuid) {
        match self {
            Queue::Redis(queue) => {
                if let Err(error) = queue.tell(upload_id).await {
                    tracing::debug!(upload.id = %upload_id, %error, "nobody was told");
                }
            }
            Queue::Memory(queue) => queue.tell(upload_id),
        }
    }

    /// Hears what is told from now on.
    pub async fn listen(&self) -> Result<Listener, QueueError> {
        Ok(match self {
            Queue::Redis(queue) => Listener::Redis(Box::new(queue.listen().await?)),
            Queue::Memory(queue) => Listener::Memory(queue.listen()),
        })
    }

    /// A consumer with a connection of its own, since its reads block.
    pub async fn consumer(&self) -> Result<Consumer, QueueError> {
        Ok(match self {
            Queue::Redis(queue) => Consumer::Redis(Box::new(queue.consumer().await?)),
            Queue::Memory(queue) => Consumer::Memory(queue.clone()),
        })
    }

    /// How much is in it.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        match self {
            Queue::Redis(queue) => queue.depth().await,
            Queue::Memory(queue) => Ok(queue.depth()),
        }
    }

    /// What the Redis behind it says of itself; `None` where there is none.
    pub async fn server(&self) -> Result<Option<RedisServer>, QueueError> {
        match self {
            Queue::Redis(queue) => queue.server().await.map(Some),
            Queue::Memory(_) => Ok(None),
        }
    }

    /// Errors when the queue cannot be reached.
    pub async fn ping(&self) -> Result<(), QueueError> {
        match self {
            Queue::Redis(queue) => queue.ping().await,
            Queue::Memory(_) => Ok(()),
        }
    }
}

impl Consumer {
    /// The next job, or `None` when none came for a while. An error is to be waited out.
    pub async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        match self {
            Consumer::Redis(consumer) => consumer.next().await,
            Consumer::Memory(queue) => {
                let next = tokio::time::timeout(POLL, queue.next()).await.ok();
                Ok(next.map(|(job, waited)| Delivery { job, waited: Some(waited), redis: None }))
            }
        }
    }

    /// Takes over a job that a dead consumer left; once there is none, removes dead consumers. To be
    /// called now and then, until it answers `None`.
    pub async fn take_over(&mut self) -> Result<Option<Delivery>, QueueError> {
        match self {
            Consumer::Redis(consumer) => consumer.take_over().await,
            Consumer::Memory(_) => Ok(None),
        }
    }

    /// The name under which it holds messages.
    pub fn name(&self) -> &str {
        match self {
            Consumer::Redis(consumer) => consumer.name(),
            Consumer::Memory(_) => "memory",
        }
    }

    /// Leaves the queue, so that nothing waits for this consumer.
    pub async fn leave(self) {
        if let Consumer::Redis(consumer) = self {
            consumer.leave().await;
        }
    }
}

impl Delivery {
    /// The job needs no more work from this queue.
    pub async fn done(&self) -> Result<(), QueueError> {
        match &self.redis {
            Some((queue, id)) => queue.acknowledge(id).await,
            None => Ok(()),
        }
    }

    /// Says that the job is still being worked on, so that nobody else takes it over.
    pub async fn keep(&self, consumer: &str) -> Result<(), QueueError> {
        match &self.redis {
            Some((queue, id)) => queue.keep(id, consumer).await,
            None => Ok(()),
        }
    }
}

/// How long one wait for a job lasts.
const POLL: Duration = Duration::from_secs(5);
