//! Copying while the client still sends: from 5 MiB chunks up, each confirmed chunk goes into its part as
//! it arrives, so that little is left once the client says that all is sent. It costs no call to S3 more,
//! and gives way to uploads that wait for their end. Nothing depends on it: what is not copied ahead, or
//! fails to be, is copied then.

use std::sync::Arc;
use std::time::Duration;

use upflow_core::db::now;
use upflow_core::queue::Delivery;
use upflow_core::uploads::{self, LetGo, Upload};
use uuid::Uuid;

use super::stopped::{Setback, Stopped};
use super::{Assembly, settle, to_the_end};
use crate::lease::{self, Lease};
use crate::worker::{JobError, Worker};

/// The most chunks that are copied under one lease.
const PORTION: u64 = 1_000;
/// After which an upload that had to give way is looked at again.
const GIVEN_WAY: Duration = Duration::from_secs(1);

/// The least pause after an error.
const SET_BACK: Duration = Duration::from_secs(10);

/// Copies what is confirmed, if nobody else does, until nothing is left to copy. `Some(delay)`: it is to be
/// looked at again after that.
pub(crate) async fn run(
    worker: &Arc<Worker>,
    id: Uuid,
    delivery: &Delivery,
    consumer: &str,
) -> Result<Option<Duration>, JobError> {
    let db = &worker.ctx.db;
    loop {
        let (lease, life) = (Uuid::new_v4(), worker.settings.lease);
        let claimed = worker.ask(uploads::claim_ahead(db, id, lease, life, now())).await?;
        let Some(upload) = claimed else { return Ok(None) };
        let lease = Lease::hold(worker, id, lease);
        let ended = tokio::select! {
            ended = copy(worker, &upload, lease.id) => ended,
            () = lease.lost.cancelled() => Err(Stopped::LeaseLost),
            () = worker.out_of_patience() => Err(Stopped::Halted),
            never = lease::keep(delivery, consumer) => match never {},
        };
        match ended {
            Ok(()) => {}
            Err(Stopped::Halted) if worker.stop.is_cancelled() => {
                worker.ask(uploads::let_go(db, id, lease.id)).await?;
                return Ok(None);
            }
            Err(Stopped::Halted) => {}
            Err(stopped) => return set_back(worker, &upload, &lease, stopped).await,
        }
        match worker.ask(uploads::let_go(db, id, lease.id)).await? {
            LetGo::Pending(upload) => {
                return to_the_end(worker, *upload, lease, delivery, consumer).await;
            }
            LetGo::Lost => return Ok(None),
            LetGo::Free if worker.has_urgent_work() => return Ok(Some(GIVEN_WAY)),
            LetGo::Free => {}
        }
        // A confirm that saw the lease has told nobody.
        if worker.ask(uploads::uncopied(db, id, 1)).await?.is_empty() {
            return Ok(None);
        }
    }
}

async fn copy(worker: &Worker, upload: &Upload, lease: Uuid) -> Result<(), Stopped> {
    let rows = worker.ask(uploads::uncopied(&worker.ctx.db, upload.upload_id, PORTION)).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let assembly = Assembly::new(worker, upload, lease, rows)?;
    let parts = assembly.plan.parts();
    let parts = parts.filter(|part| assembly.chunks.contains_key(&part.chunks.start)).collect();
    let (multipart, _) = assembly.multipart().await?;
    let go_on = || !worker.stop.is_cancelled() && !worker.has_urgent_work();
    assembly.copy_parts(&multipart, parts, go_on).await.map(drop)
}

async fn set_back(
    worker: &Worker,
    upload: &Upload,
    lease: &Lease,
    stopped: Stopped,
) -> Result<Option<Duration>, JobError> {
    let (db, id) = (&worker.ctx.db, upload.upload_id);
    let setback = match stopped {
        Stopped::LeaseLost | Stopped::Halted => return Ok(None),
        Stopped::Uploads(error) => return Err(error.into()),
        // The client may still send them anew, whatever the upload has come to meanwhile.
        Stopped::ChunksLost(_) => return settle::settle(worker, upload, lease, stopped).await,
        Stopped::MultipartGone(why) => {
            let anew = uploads::set_multipart(db, id, lease.id, None, Uuid::new_v4());
            worker.ask(anew).await?;
            Setback { why, retry_after: None, outage: false }
        }
        Stopped::Refused(failure) => {
            Setback { why: failure.detail, retry_after: None, outage: false }
        }
        Stopped::Transient(setback) => setback,
    };
    tracing::debug!(upload.id = %id, why = setback.why, "not copied ahead");
    let pause = SET_BACK.max(setback.retry_after.unwrap_or_default());
    let handed = uploads::hand_back(db, id, lease.id, now() + pause, setback.why, true, now());
    worker.ask(handed).await?;
    Ok(Some(pause))
}
