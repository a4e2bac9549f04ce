//! The finished file.

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::storage::Filename;
use upflow_core::uploads as rows;
use uuid::Uuid;

use super::{Shared, Tag};
use crate::answer::Answer;
use crate::auth::Caller;
use crate::problem::{Code, Problem};
use crate::schema::{Download, time};

pub struct Downloads;

#[OpenApi]
impl Downloads {
    /// Get a URL of the finished file
    ///
    /// Browsers save what it leads to under the upload's filename.
    #[oai(
        path = "/uploads/:upload_id/download",
        method = "get",
        operation_id = "get_download",
        tag = "Tag::Downloads"
    )]
    async fn get_download(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
    ) -> Result<Answer<Download>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        match row.status_at(now()) {
            Status::Completed => {}
            status if status.is_final() => return Err(Problem::conflict(status)),
            status => {
                let detail = format!("the upload is {status}: wait until it is completed");
                return Err(Problem::new(Code::UploadNotCompleted, detail));
            }
        }
        let filename = Filename::parse(&row.filename).map_err(|error| Problem::internal(&error))?;
        let signer = ctx.storage.signer(now()).await?;
        let signed = signer.get_final(&row.final_s3_key, &filename, ctx.limits.url_life)?;
        Ok(Answer(Download {
            url: signed.url,
            method: signed.method.to_owned(),
            expires_at: time(signed.expires_at),
            expires_in: signed.expires_in.as_secs() as i64,
        }))
    }
}
