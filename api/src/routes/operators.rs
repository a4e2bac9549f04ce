//! For people who run the service.

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use upflow_core::uploads as rows;
use uuid::Uuid;

use super::{Shared, Tag, shown};
use crate::announce::announce;
use crate::auth::Caller;
use crate::problem::Problem;
use crate::schema::{Stats, StatusStats, Upload, UploadEvent, UploadEvents, time};

pub struct Operators;

#[OpenApi]
impl Operators {
    /// Announce an upload to the workers again
    ///
    /// Harmless at any time: a worker that finds nothing to do does nothing.
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
    ) -> Result<Json<Upload>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        announce(ctx, row.upload_id).await;
        Ok(Json(shown(ctx, row).await?))
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
    ) -> Result<Json<UploadEvents>, Problem> {
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
        Ok(Json(UploadEvents { events: events.collect() }))
    }

    /// Count uploads by status
    ///
    /// Of all owners.
    #[oai(path = "/stats", method = "get", operation_id = "get_stats", tag = "Tag::Operators")]
    async fn get_stats(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
    ) -> Result<Json<Stats>, Problem> {
        let rows = rows::stats(&state.ctx.db).await?.into_iter();
        let statuses = rows.map(|row| StatusStats {
            status: row.status.into(),
            uploads: row.uploads,
            file_bytes: row.file_bytes as i64,
        });
        Ok(Json(Stats { statuses: statuses.collect() }))
    }
}
