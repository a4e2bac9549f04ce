//! What an upload tells while it runs: events for whoever listens, and the count of bytes that were
//! really handed to the network, which goes back when a chunk has to be sent again.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::wire::Upload;

/// What the upload is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Finding out what is there already.
    Preparing,
    Sending,
    /// The server puts the chunks together.
    Assembling,
    Completed,
}

/// What happened to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    Sending,
    /// S3 has taken it.
    Sent,
    /// The server has seen it in S3. The last chunks are confirmed in the call that completes the
    /// upload, and not told of one by one.
    Confirmed,
    /// It has to be sent once more.
    Again,
}

/// Something a listener may want to show.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The server knows the upload; `resumed` when it did so before.
    Opened {
        upload: Box<Upload>,
        resumed: bool,
    },
    /// An earlier upload of this file cannot be continued, and why.
    StartedAfresh {
        reason: String,
    },
    Phase(Phase),
    /// Bytes of the file that are sent, counting those sent by an earlier run. Can go back.
    Bytes {
        sent: u64,
    },
    Chunk {
        chunk_index: u32,
        state: ChunkState,
    },
    /// How much of the final object is in place.
    Assembled {
        chunks: u32,
        total_chunks: u32,
    },
    /// Something failed and is tried again after `wait`.
    Retrying {
        what: String,
        problem: String,
        wait: Duration,
    },
}

/// Receives the events of an upload, from several threads and up to thousands of times a second: it
/// must not block.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(Event) + Send + Sync>);

impl Listener {
    pub fn new(listen: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listen))
    }

    /// For who does not care.
    pub fn none() -> Self {
        Self::new(|_| ())
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// Counts the bytes of one upload.
#[derive(Debug)]
pub(crate) struct Meter {
    sent: AtomicU64,
    pub listener: Listener,
}

impl Meter {
    pub fn new(listener: Listener) -> Self {
        Self { sent: AtomicU64::new(0), listener }
    }

    pub fn set(&self, sent: u64) {
        self.sent.store(sent, Ordering::Relaxed);
        self.listener.tell(Event::Bytes { sent });
    }

    /// A chunk that had been counted has to be sent again.
    pub fn back(&self, bytes: u64) {
        let sent = self.sent.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes);
        self.listener.tell(Event::Bytes { sent });
    }

    fn forward(&self, bytes: u64) {
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.listener.tell(Event::Bytes { sent });
    }
}

/// The bytes of one try to send one chunk. They stop counting when the last owner lets go of a try
/// that did not succeed: the connection may still read a block after the request was given up.
#[derive(Debug)]
pub(crate) struct Attempt {
    meter: Arc<Meter>,
    sent: AtomicU64,
    succeeded: AtomicBool,
    fault: OnceLock<std::io::Error>,
}

impl Attempt {
    pub fn new(meter: Arc<Meter>) -> Arc<Self> {
        Arc::new(Self {
            meter,
            sent: AtomicU64::new(0),
            succeeded: AtomicBool::new(false),
            fault: OnceLock::new(),
        })
    }

    pub fn add(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.meter.forward(bytes);
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn succeed(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Keeps why the file could not be read: the HTTP client reports it only as a broken body.
    pub fn set_fault(&self, error: &std::io::Error) {
        let _ = self.fault.set(std::io::Error::new(error.kind(), error.to_string()));
    }

    pub fn fault(&self) -> Option<std::io::Error> {
        self.fault.get().map(|error| std::io::Error::new(error.kind(), error.to_string()))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !*self.succeeded.get_mut() {
            self.meter.back(*self.sent.get_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_failed_try_go_back_and_those_of_a_good_one_stay() {
        let meter = Arc::new(Meter::new(Listener::none()));
        meter.set(100);
        let failed = Attempt::new(meter.clone());
        let held_by_the_connection = failed.clone();
        failed.add(7);
        drop(failed);
        held_by_the_connection.add(5);
        assert_eq!(meter.sent.load(Ordering::Relaxed), 112);
        drop(held_by_the_connection);
        assert_eq!(meter.sent.load(Ordering::Relaxed), 100);
        let good = Attempt::new(meter.clone());
        good.add(3);
        good.succeed();
        drop(good);
        assert_eq!(meter.sent.load(Ordering::Relaxed), 103);
    }
}
