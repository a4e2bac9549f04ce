//! News: that an upload has moved on, told to every process at once, so that whoever waits for it looks.
//! Like a job it is a hint, and may be lost: who waits also looks by itself now and then. It is told after
//! the commit, so that who looks sees it.

use fred::clients::Client;
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::{Message, Value, config::Server};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use super::QueueError;

/// News that wait to be heard; what comes beyond is a gap.
pub(super) const HEARD: usize = 4_096;

/// What a listener learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// This upload has moved on.
    Moved(Uuid),
    /// Some may have been missed.
    Gap,
}

/// The receiving end, with a connection of its own, for one process.
pub enum Listener {
    Redis(Box<RedisListener>),
    Memory(Receiver<Uuid>),
}

pub struct RedisListener {
    pub(super) client: Client,
    pub(super) channel: String,
    pub(super) messages: Receiver<Message>,
    pub(super) reconnects: Receiver<Server>,
    pub(super) subscribed: bool,
}

impl Listener {
    /// The next news. An error says that this listener hears nothing any more.
    pub async fn next(&mut self) -> Result<News, QueueError> {
        match self {
            Listener::Redis(listener) => listener.next().await,
            Listener::Memory(moved) => heard(moved.recv().await.map(Some)),
        }
    }

    /// Whether it hears anything now.
    pub fn hears(&self) -> bool {
        match self {
            Listener::Redis(listener) => listener.client.is_connected(),
            Listener::Memory(_) => true,
        }
    }
}

impl RedisListener {
    /// Returns once the server has it: the client drops the server's answer to SUBSCRIBE and goes on when
    /// the command is written, but a connection's commands are answered in order.
    pub(super) async fn subscribe(&mut self) -> Result<(), QueueError> {
        self.client.subscribe(self.channel.as_str()).await?;
        let _: Value = self.client.ping(None).await?;
        self.subscribed = true;
        Ok(())
    }

    /// May be dropped at any point and called again.
    async fn next(&mut self) -> Result<News, QueueError> {
        if self.subscribed {
            tokio::select! {
                message = self.messages.recv() => {
                    return heard(message.map(|message| message.value.as_str()?.parse().ok()));
                }
                reconnected = self.reconnects.recv() => {
                    heard(reconnected.map(|_| None))?;
                    self.subscribed = false;
                }
            }
        }
        // First it hears again, then whoever waits looks: nothing falls between.
        self.subscribe().await?;
        Ok(News::Gap)
    }
}

impl Drop for RedisListener {
    fn drop(&mut self) {
        let client = self.client.clone();
        // Its connection would be made again and again otherwise.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { client.quit().await });
        }
    }
}

fn heard(heard: Result<Option<Uuid>, RecvError>) -> Result<News, QueueError> {
    match heard {
        Ok(Some(upload_id)) => Ok(News::Moved(upload_id)),
        Ok(None) | Err(RecvError::Lagged(_)) => Ok(News::Gap),
        Err(RecvError::Closed) => Err(QueueError::Closed),
    }
}
