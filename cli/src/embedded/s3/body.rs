//! A request's body that outlives the request's handler, so that what was not read can be read away.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

/// A client that sends more than this after a refusal is cut off.
const DRAINED_AT_MOST: u64 = 64 * 1024 * 1024;
const DRAINED_FOR: Duration = Duration::from_secs(5);

/// Clones are handles on the one body. Only one of them reads at a time, so the lock is never waited for.
#[derive(Clone)]
pub struct SharedBody {
    incoming: Arc<Mutex<Incoming>>,
}

impl SharedBody {
    pub fn new(incoming: Incoming) -> SharedBody {
        SharedBody { incoming: Arc::new(Mutex::new(incoming)) }
    }

    /// Reads what is left, within bounds; none if nothing is.
    pub fn rest(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.incoming().is_end_stream() {
            return None;
        }
        let mut body = self.clone();
        let read = async move {
            let mut left = DRAINED_AT_MOST;
            while let Some(Ok(frame)) =
                std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
            {
                let length = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                let Some(rest) = left.checked_sub(length) else { break };
                left = rest;
            }
        };
        Some(async move { drop(tokio::time::timeout(DRAINED_FOR, read).await) })
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut *self.incoming()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming().size_hint()
    }
}
