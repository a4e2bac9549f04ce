//! The lease of an upload, held while this worker works on it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use upflow_core::db::now;
use upflow_core::queue::Delivery;
use upflow_core::uploads;
use uuid::Uuid;

use crate::worker::Worker;

/// Heartbeats in the life of a lease: two may be lost.
const HEARTBEATS: u32 = 4;

pub(crate) struct Lease {
    pub id: Uuid,
    /// Cancelled once the lease is lost: what is under way for it has no meaning any more.
    pub lost: CancellationToken,
    _beating: DropGuard,
}

impl Lease {
    /// Keeps a lease that was just taken, for as long as this lives.
    pub fn hold(worker: &Arc<Worker>, upload: Uuid, lease: Uuid) -> Self {
        let (lost, end) = (CancellationToken::new(), CancellationToken::new());
        let beating = end.clone().drop_guard();
        tokio::spawn(beat(worker.clone(), upload, lease, lost.clone(), end));
        Self { id: lease, lost, _beating: beating }
    }
}

async fn beat(
    worker: Arc<Worker>,
    upload: Uuid,
    lease: Uuid,
    lost: CancellationToken,
    end: CancellationToken,
) {
    let life = worker.settings.lease;
    let mut good_until = tokio::time::Instant::now() + life;
    loop {
        let next = tokio::time::Instant::now() + life / HEARTBEATS;
        tokio::select! {
            () = tokio::time::sleep_until(next.min(good_until)) => {}
            () = end.cancelled() => return,
        }
        let renewed = tokio::time::timeout(
            life / HEARTBEATS,
            uploads::renew(&worker.ctx.db, upload, lease, life, now()),
        );
        let asked = tokio::time::Instant::now();
        match renewed.await {
            Ok(Ok(true)) => good_until = asked + life,
            Ok(Ok(false)) => return lost.cancel(),
            // The database does not answer: the lease is good until it runs out.
            Ok(Err(_)) | Err(_) if asked < good_until => {}
            _ => return lost.cancel(),
        }
    }
}

/// Keeps the message of the queue from passing to another worker, until dropped.
pub(crate) async fn keep(delivery: &Delivery, consumer: &str) -> std::convert::Infallible {
    /// Under half of the time after which messages pass on.
    const EVERY: Duration = Duration::from_secs(20);
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = delivery.keep(consumer).await {
            tracing::debug!(%error, "a message was not kept; the lease still holds");
        }
    }
}
