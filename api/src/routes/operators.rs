//! For people who run the service.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use upflow_core::db::now;
use upflow_core::orphans::{self, Place, Removal};
use upflow_core::storage::ErrorKind;
use upflow_core::uploads as rows;
use uuid::Uuid;

use super::{Shared, Tag, shown};
use crate::announce::announce;
use crate::answer::Answer;
use crate::auth::Caller;
use crate::problem::{Code, Problem};
use crate::schema::{
    Orphan, OrphanPage, Stats, StatusStats, Upload, UploadEvent, UploadEvents, time,
};

pub struct Operators;

/// A hundred years.
const MAX_AGE: i64 = 100 * 365 * 24 * 3_600;

#[OpenApi]
impl Operators {
    /// Announce an upload to the workers again
    ///
    /// And do not wait for the end of a pause after an error. Harmless at any time: a worker that finds
    /// nothing to do does nothing.
    #[oai(
        path = "/uploads/:upload_id/requeue",
        method = "post",
        operation_id = "requeue_upload",
        tag = "Tag::Operators"
    )]
    async fn requeue_upload(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
    ) -> Result<Answer<Upload>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        rows::end_pause(&ctx.db, row.upload_id).await?;
        announce(ctx, row.upload_id).await;
        Ok(Answer(shown(ctx, row).await?))
    }

    /// See what happened to an upload
    ///
    /// Moves of its status, attempts and failures, oldest first, of any owner's upload.
    #[oai(
        path = "/uploads/:upload_id/events",
        method = "get",
        operation_id = "list_upload_events",
        tag = "Tag::Operators"
    )]
    async fn list_upload_events(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
    ) -> Result<Answer<UploadEvents>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        let events = rows::events(&ctx.db, row.upload_id).await?.into_iter();
        let events = events.map(|event| UploadEvent {
            at: time(event.at),
            event: event.event,
            from_status: event.from_status,
            to_status: event.to_status,
            detail: event.detail,
        });
        Ok(Answer(UploadEvents { events: events.collect() }))
    }

    /// Count uploads by status
    ///
    /// Of all owners, with the bytes that unfinished ones hold in the bucket, and the queue.
    #[oai(path = "/stats", method = "get", operation_id = "get_stats", tag = "Tag::Operators")]
    async fn get_stats(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
    ) -> Result<Answer<Stats>, Problem> {
        let ctx = &state.ctx;
        let (rows, held) = tokio::try_join!(rows::stats(&ctx.db), rows::held(&ctx.db))?;
        let statuses = rows.into_iter().map(|row| StatusStats {
            status: row.status.into(),
            uploads: row.uploads,
            file_bytes: row.file_bytes as i64,
            held_bytes: held.get(&row.status).copied().unwrap_or_default() as i64,
        });
        let depth = match ctx.queue.depth().await {
            Ok(depth) => Some(depth),
            Err(error) => {
                tracing::warn!(%error, "the queue does not answer");
                None
            }
        };
        let oldest = depth.and_then(|depth| depth.oldest);
        Ok(Answer(Stats {
            statuses: statuses.collect(),
            queue_jobs: depth.map(|depth| depth.jobs),
            queue_oldest_job_seconds: oldest.map(|age| age.as_secs() as i64),
        }))
    }

    /// Look for chunks and multipart uploads that the database does not know
    ///
    /// A page at a time: each is one LIST over the bucket, however many it finds. They may be another
    /// deployment's that uses the same bucket and prefix. Finished files are never among them.
    #[oai(path = "/orphans", method = "get", operation_id = "list_orphans", tag = "Tag::Operators")]
    async fn list_orphans(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Answer<OrphanPage>, Problem> {
        let from = match cursor.0.as_deref() {
            None => Place::Chunks(None),
            Some(text) => parse_place(text)
                .ok_or_else(|| Problem::bad_field("?cursor", "is no next_cursor of a page"))?,
        };
        let (found, next) = match orphans::page(&state.ctx, from).await {
            // A place that S3 does not know is in no answer of ours.
            Err(orphans::Error::Storage(error))
                if cursor.0.is_some() && error.kind == ErrorKind::Refused =>
            {
                return Err(Problem::bad_field("?cursor", "is no next_cursor of a page"));
            }
            found => found?,
        };
        let orphans = found.iter().map(|(id, orphan)| shown_orphan(*id, orphan));
        Ok(Answer(OrphanPage {
            orphans: orphans.collect(),
            next_cursor: next.map(|place| format_place(&place)),
        }))
    }

    /// Remove what is left of an upload that the database does not know
    ///
    /// Its chunks and multipart uploads, if nothing of it was written for as long as `older_than_seconds`.
    #[oai(
        path = "/orphans/:upload_id",
        method = "delete",
        operation_id = "delete_orphan",
        tag = "Tag::Operators"
    )]
    async fn delete_orphan(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
        /// At least 1. Longer than any upload of another deployment on this bucket can be under way.
        older_than_seconds: Query<i64>,
    ) -> Result<Answer<Orphan>, Problem> {
        let seconds = older_than_seconds.0;
        if !(1..=MAX_AGE).contains(&seconds) {
            let detail = format!("must be 1 to {MAX_AGE}");
            return Err(Problem::bad_field("?older_than_seconds", detail));
        }
        let (id, age) = (upload_id.0, Duration::from_secs(seconds.unsigned_abs()));
        let kept = |detail: String| Err(Problem::new(Code::OrphanKept, detail));
        match orphans::remove(&state.ctx, id, age, now()).await? {
            Removal::Removed(orphan) => {
                let Orphan { chunks, bytes, .. } = shown_orphan(id, &orphan);
                tracing::info!(upload.id = %id, chunks, bytes, "removed an orphan");
                Ok(Answer(shown_orphan(id, &orphan)))
            }
            Removal::Nothing => Err(Problem::upload_not_found()),
            Removal::Known => kept("the upload is in the database: abort it instead".to_owned()),
            Removal::TooYoung(_) => kept(format!(
                "something of it was written less than {seconds} seconds ago, or may have been: it may be under way in another deployment"
            )),
        }
    }
}

fn shown_orphan(upload_id: Uuid, orphan: &orphans::Orphan) -> Orphan {
    Orphan {
        upload_id,
        chunks: orphan.chunks as i64,
        bytes: orphan.bytes,
        multiparts: orphan.multiparts.len() as i64,
        touched_at: orphan.touched.map(time),
    }
}

fn format_place(place: &Place) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

fn parse_place(text: &str) -> Option<Place> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
