//! Jobs on a Redis stream.
//!
//! Keys: one, the stream (`REDIS_STREAM`, `upflow:jobs`), with entries `upload_id -> uuid` and one
//! consumer group, `workers`. An entry is acknowledged and deleted once its job is done, so the stream
//! holds only what is waiting or under way; it is trimmed at about [`MAX_LENGTH`] besides, since the
//! janitor can always announce again. Entries of a consumer that has been silent for a minute pass to
//! another one; a consumer silent for ten minutes, and without entries, is removed.
//!
//! News go over a channel of the same name with `:moved` behind it (PUBLISH, the id of the upload).

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface, StreamsInterface};
use fred::types::config::{Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy};
use fred::types::{Builder, CustomCommand, Value};
use uuid::Uuid;

use super::news::{HEARD, RedisListener};
use super::{Delivery, Depth, Job, POLL, QueueError, RedisServer};
use crate::config::QueueSettings;

const GROUP: &str = "workers";
const FIELD: &str = "upload_id";
const MAX_LENGTH: i64 = 100_000;
/// The most entries that a consumer hands back as it leaves: one for each of its places.
const HELD: u64 = 1_000;
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);

type Entry = (String, HashMap<String, String>);
type Entries = Vec<(String, Vec<Entry>)>;

#[derive(Clone)]
pub struct RedisQueue {
    client: Client,
    stream: String,
    claim_after: Duration,
    remove_after: Duration,
}

pub struct RedisConsumer {
    queue: RedisQueue,
    blocking: Client,
    name: String,
}

impl RedisQueue {
    pub async fn connect(settings: &QueueSettings) -> Result<Self, QueueError> {
        let config = Config::from_url(&settings.url)?;
        let client = builder(config, COMMAND_TIMEOUT).build()?;
        // A Redis that is not there at the start is an error at once; later it is waited for.
        client.init().await?;
        let queue = Self {
            client,
            stream: settings.stream.clone(),
            claim_after: settings.claim_after,
            remove_after: settings.remove_after,
        };
        queue.make_group().await?;
        Ok(queue)
    }

    /// From id 0: what was announced before the group existed counts too.
    async fn make_group(&self) -> Result<(), QueueError> {
        let made: Result<Value, _> =
            self.client.xgroup_create(&self.stream, GROUP, "0", true).await;
        match made {
            Err(error) if error.details().contains("BUSYGROUP") => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    pub async fn push(&self, job: Job) -> Result<(), QueueError> {
        let entry = vec![(FIELD, job.upload_id.to_string())];
        let _: String =
            self.client.xadd(&self.stream, false, ("MAXLEN", "~", MAX_LENGTH), "*", entry).await?;
        Ok(())
    }

    fn channel(&self) -> String {
        format!("{}:moved", self.stream)
    }

    pub async fn tell(&self, upload_id: Uuid) -> Result<(), QueueError> {
        let _: i64 = self.client.publish(self.channel(), upload_id.to_string()).await?;
        Ok(())
    }

    pub async fn listen(&self) -> Result<RedisListener, QueueError> {
        let client = builder(self.client.client_config(), COMMAND_TIMEOUT).build()?;
        client.init().await?;
        // Before it subscribes, so that neither news nor another connection is missed.
        let (messages, reconnects) = (client.message_rx(), client.reconnect_rx());
        // Whole from here on, so that its connection ends with it, also where it cannot subscribe.
        let channel = self.channel();
        let mut listener =
            RedisListener { client, channel, messages, reconnects, subscribed: false };
        listener.subscribe().await?;
        Ok(listener)
    }

    pub async fn ping(&self) -> Result<(), QueueError> {
        let _: String = self.client.ping(None).await?;
        Ok(())
    }

    /// What the server says of itself.
    pub async fn server(&self) -> Result<RedisServer, QueueError> {
        let mut said = String::new();
        for section in ["server", "persistence", "memory"] {
            let command = CustomCommand::new_static("INFO", None::<u16>, false);
            let part: String = self.client.custom(command, vec![section]).await?;
            said.push_str(&part);
            said.push('\n');
        }
        let value = |name: &str| {
            let mut lines = said.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(known, _)| *known == name).map(|(_, value)| value.trim().to_owned())
        };
        Ok(RedisServer {
            version: value("redis_version").unwrap_or_default(),
            append_only: value("aof_enabled").as_deref() == Some("1"),
            eviction: value("maxmemory_policy").unwrap_or_default(),
            memory_limit: value("maxmemory").and_then(|bytes| bytes.parse().ok()),
        })
    }

    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let jobs: i64 = self.client.xlen(&self.stream).await?;
        let first: Vec<Entry> = self.client.xrange_values(&self.stream, "-", "+", Some(1)).await?;
        Ok(Depth { jobs, oldest: first.first().and_then(|(id, _)| age(id)) })
    }

    pub async fn acknowledge(&self, id: &str) -> Result<(), QueueError> {
        let pipeline = self.client.pipeline();
        let _: () = pipeline.xack(&self.stream, GROUP, id).await?;
        let _: () = pipeline.xdel(&self.stream, id).await?;
        let _: Vec<i64> = pipeline.all().await?;
        Ok(())
    }

    /// A claim by its own holder sets the idle time back to nothing.
    pub async fn keep(&self, id: &str, consumer: &str) -> Result<(), QueueError> {
        let _: Vec<String> = self
            .client
            .xclaim(&self.stream, GROUP, consumer, 0, id, None, None, None, false, true)
            .await?;
        Ok(())
    }

    pub async fn consumer(&self) -> Result<RedisConsumer, QueueError> {
        // A read that blocks holds up its connection, and must outlive the timeout of other commands.
        let config = self.client.client_config();
        let blocking = builder(config, POLL + COMMAND_TIMEOUT).build()?;
        blocking.init().await?;
        let name = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
        Ok(RedisConsumer { queue: self.clone(), blocking, name })
    }
}

impl RedisConsumer {
    pub async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        let block = Some(POLL.as_millis() as u64);
        let read: Result<Option<Entries>, _> = self
            .blocking
            .xreadgroup(GROUP, &self.name, Some(1), block, false, &self.queue.stream, ">")
            .await;
        let entries = match read {
            Err(error) if is_group_gone(&error) => {
                self.queue.make_group().await?;
                return Ok(None);
            }
            other => other?,
        };
        let entry = entries.unwrap_or_default().into_iter().flat_map(|(_, list)| list).next();
        match entry {
            Some(entry) => self.delivery(entry).await,
            None => Ok(None),
        }
    }

    /// An entry that is none of ours is removed, so that it does not come again and again.
    async fn delivery(&self, (id, fields): Entry) -> Result<Option<Delivery>, QueueError> {
        match fields.get(FIELD).and_then(|id| id.parse().ok()) {
            Some(upload_id) => {
                let (job, waited) = (Job { upload_id }, age(&id));
                Ok(Some(Delivery { job, waited, redis: Some((self.queue.clone(), id)) }))
            }
            None => {
                tracing::warn!(entry = id, "removed an entry of the job stream that is no job");
                self.queue.acknowledge(&id).await?;
                Ok(None)
            }
        }
    }

    pub async fn take_over(&mut self) -> Result<Option<Delivery>, QueueError> {
        let min_idle = self.queue.claim_after.as_millis() as u64;
        let mut cursor = "0-0".to_owned();
        for _ in 0..MAX_LENGTH {
            // One at most; each call looks at ten entries and answers where the next should begin.
            let (next, claimed): (String, Vec<Entry>) = self
                .queue
                .client
                .xautoclaim_values(
                    &self.queue.stream,
                    GROUP,
                    &self.name,
                    min_idle,
                    cursor,
                    Some(1),
                    false,
                )
                .await?;
            for entry in claimed {
                if let Some(delivery) = self.delivery(entry).await? {
                    return Ok(Some(delivery));
                }
            }
            if next == "0-0" {
                break;
            }
            cursor = next;
        }
        self.remove_silent_consumers().await?;
        Ok(None)
    }

    async fn remove_silent_consumers(&self) -> Result<(), QueueError> {
        let client = &self.queue.client;
        let consumers: Vec<HashMap<String, Value>> =
            client.xinfo_consumers(&self.queue.stream, GROUP).await?;
        for consumer in consumers {
            let number = |field: &str| consumer.get(field).and_then(Value::as_u64);
            let name = consumer.get("name").and_then(Value::as_string);
            let silent = number("idle")
                .is_some_and(|ms| u128::from(ms) > self.queue.remove_after.as_millis());
            if let (Some(name), true, Some(0)) = (name, silent, number("pending"))
                && name != self.name
            {
                let _: Value = client.xgroup_delconsumer(&self.queue.stream, GROUP, name).await?;
            }
        }
        Ok(())
    }

    /// An entry that came while the worker was told to stop was taken by a read that nobody waited for any more:
    /// announced again, it is another worker's at once.
    async fn hand_back(&self) -> Result<(), QueueError> {
        let (client, stream) = (&self.queue.client, &self.queue.stream);
        // From id 0: what this consumer has been given and has not acknowledged.
        let held: Option<Entries> =
            client.xreadgroup(GROUP, &self.name, Some(HELD), None, false, stream, "0").await?;
        for (id, fields) in held.unwrap_or_default().into_iter().flat_map(|(_, list)| list) {
            if let Some(upload_id) = fields.get(FIELD).and_then(|id| id.parse().ok()) {
                self.queue.push(Job { upload_id }).await?;
            }
            self.queue.acknowledge(&id).await?;
        }
        Ok(())
    }

    pub async fn leave(self) {
        // First the connection, so that no read is left on it that could still be given an entry.
        let _ = self.blocking.quit().await;
        if let Err(error) = self.hand_back().await {
            tracing::debug!(%error, "what was taken last was not handed back; it will be taken over");
        }
        // Removing a consumer drops its pending entries from the group, so only an idle one may go.
        let client = &self.queue.client;
        let pending: Result<Vec<Value>, _> = client
            .xpending(&self.queue.stream, GROUP, (0_u64, "-", "+", 1_u64, self.name.as_str()))
            .await;
        if pending.is_ok_and(|pending| pending.is_empty()) {
            let removed: Result<Value, _> =
                client.xgroup_delconsumer(&self.queue.stream, GROUP, &self.name).await;
            if let Err(error) = removed {
                tracing::debug!(%error, "the consumer was not removed; another worker will do it");
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How long ago an entry was made: its id begins with the milliseconds at which Redis took it.
fn age(id: &str) -> Option<Duration> {
    let made = DateTime::from_timestamp_millis(id.split('-').next()?.parse().ok()?)?;
    Some((Utc::now() - made).to_std().unwrap_or_default())
}

/// Redis was emptied, or restarted without a file.
fn is_group_gone(error: &fred::error::Error) -> bool {
    error.details().contains("NOGROUP") || error.details().contains("UNBLOCKED")
}

fn builder(config: Config, timeout: Duration) -> Builder {
    let mut builder = Builder::from_config(config);
    builder
        .with_performance_config(|performance: &mut PerformanceConfig| {
            performance.default_command_timeout = timeout;
            performance.broadcast_channel_capacity = HEARD;
        })
        .with_connection_config(|connection: &mut ConnectionConfig| {
            connection.connection_timeout = COMMAND_TIMEOUT;
            connection.internal_command_timeout = COMMAND_TIMEOUT;
            connection.max_command_attempts = 1;
            // A connection that is dead without a word, longer than the longest read that blocks.
            connection.unresponsive.max_timeout = Some(POLL + 2 * COMMAND_TIMEOUT);
            // Each look at it wakes an idle process.
            connection.unresponsive.interval = POLL;
        })
        // For ever, at most 2 s apart.
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2));
    builder
}
