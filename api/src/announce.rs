//! Telling the workers of an upload. What counts is committed by then: where this fails, the janitor
//! finds the row, only later.

use upflow_core::Context;
use upflow_core::queue::Job;
use upflow_core::seldom::Seldom;
use upflow_core::uploads::{Confirmed, SeenChunk, Upload};
use uuid::Uuid;

/// The upload is to be assembled, or has ended.
pub async fn announce(ctx: &Context, upload_id: Uuid) {
    if let Err(error) = ctx.queue.push(Job { upload_id }).await {
        static SELDOM: Seldom = Seldom::new();
        if let Some(more) = SELDOM.again() {
            tracing::warn!(upload.id = %upload_id, %error, more, "a job was not announced; the janitor will");
        }
    }
}

/// Chunks were confirmed: the first ones may be waited for, and a worker could copy those ahead that are new, once
/// there are enough for a part. Nothing depends on either.
pub async fn announce_confirmed(
    ctx: &Context,
    upload: &Upload,
    confirmed: Confirmed,
    seen: &[SeenChunk],
) {
    if upload.status != confirmed.status {
        ctx.queue.tell(upload.upload_id).await;
    }
    let new = seen.iter().filter(|chunk| !chunk.known).count();
    let fills = upload.plan().fills_a_part(confirmed.count, new as i64);
    if confirmed.unattended && ctx.limits.eager && fills {
        let pushed = ctx.queue.push(Job { upload_id: upload.upload_id }).await;
        if let Err(error) = pushed {
            tracing::debug!(upload.id = %upload.upload_id, %error, "not announced for copying ahead");
        }
    }
}
