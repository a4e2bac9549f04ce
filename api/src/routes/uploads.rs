//! Uploads: begin, look, list, reconcile, complete, abort.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike, Utc};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use sha2::{Digest, Sha256};
use upflow_core::db::now;
use upflow_core::lifecycle::Status;
use upflow_core::storage::ObjectKey;
use upflow_core::uploads::{
    self as rows, ConfirmedChunks, Created, Cursor, Filter, Quota, Requested, WithChunks,
};
use uuid::Uuid;

use super::{Shared, Tag, presigned, shown, signed};
use crate::announce::announce;
use crate::answer::Answer;
use crate::auth::Caller;
use crate::body::Body;
use crate::problem::{Code, FieldError, Problem};
use crate::schema::{InitUpload, NewUpload, Progress, Upload, UploadPage, UploadStatus, time};
use crate::{validate, verify, waiting};

pub struct Uploads;

const MAX_PAGE: i32 = 100;
/// How many of the missing chunks' faults the text of a problem names.
const NAMED: usize = 3;

#[derive(ApiResponse)]
enum InitAnswer {
    /// The upload, and URLs for the chunks asked for.
    #[oai(status = 201)]
    Created(Answer<NewUpload>),
}

#[derive(ApiResponse)]
enum CompleteAnswer {
    /// The file is complete.
    #[oai(status = 200)]
    Completed(Answer<Upload>),
    /// The file is being assembled.
    #[oai(status = 202)]
    Assembling(Answer<Upload>),
}

#[OpenApi]
impl Uploads {
    /// Begin an upload
    ///
    /// Plans how the file is cut and answers with URLs for the chunks asked for. The same
    /// `Idempotency-Key` with the same body gives the same upload again, with fresh URLs.
    #[oai(
        path = "/uploads/init",
        method = "post",
        operation_id = "init_upload",
        tag = "Tag::Uploads"
    )]
    async fn init_upload(
        &self,
        state: Data<&Shared>,
        /// Anything unique to this upload, at most 255 printable ASCII characters: a lost answer can
        /// then be asked for again.
        #[oai(name = "Idempotency-Key")]
        _idempotency_key: Header<Option<String>>,
        caller: Caller,
        request: &Request,
        body: Body<InitUpload>,
    ) -> Result<InitAnswer, Problem> {
        let ctx = &state.ctx;
        let hash = request_hash(&body.0)?;
        let idempotency = idempotency_key(request)?.map(|key| (key, hash));
        let init = validate::init(body.0, &state.clients)?;
        let upload_id = Uuid::new_v4();
        let final_key = ObjectKey::Final { upload_id, filename: init.filename.clone() };
        let new = rows::NewUpload {
            upload_id,
            filename: init.filename.as_str().to_owned(),
            plan: init.plan,
            content_type: init.content_type,
            metadata: serde_json::to_value(init.metadata).unwrap_or_default(),
            algorithm: init.algorithm,
            checksum: init.checksum,
            final_s3_key: ctx.storage.key(&final_key),
            owner: caller.owner().to_owned(),
            idempotency,
            quota: caller.has_quota().then_some(Quota {
                uploads: state.clients.active_uploads,
                bytes: state.clients.active_bytes,
            }),
            declared: init.chunks.clone(),
            url_life: ctx.limits.url_life,
            traceparent: upflow_core::trace::current(),
        };
        let now = now();
        let created = rows::create(&ctx.db, new, now, ctx.limits.upload_life).await?;
        let (expires_at, upload, presigned) = match created {
            Created::New(row) => {
                tracing::Span::current().record("upload.id", row.upload_id.to_string());
                tracing::info!(upload.id = %row.upload_id, bytes = row.file_size, "begun");
                let presigned = match init.chunks.is_empty() {
                    true => Vec::new(),
                    false => signed(ctx, &ctx.storage.signer(now).await?, &row, &init.chunks)?,
                };
                let new = WithChunks { upload: row, chunks: ConfirmedChunks::default() };
                (new.upload.expires_at, new.into(), presigned)
            }
            // A replay may find its upload further on: then there is nothing to presign. It slides the life too.
            Created::Replayed(row) if row.status_at(now).takes_chunks() => {
                let (row, presigned) = presigned(ctx, row.upload_id, &init.chunks).await?;
                (row.expires_at, shown(ctx, row).await?, presigned)
            }
            Created::Replayed(row) => (row.expires_at, shown(ctx, row).await?, Vec::new()),
            Created::KeyReused => {
                return Err(Problem::new(
                    Code::IdempotencyKeyReused,
                    "this Idempotency-Key came with another request before: use a new one for a new upload",
                ));
            }
            Created::TooManyUploads => {
                return Err(Problem::new(
                    Code::TooManyUploads,
                    "complete or abort some of them first, or let them expire",
                ));
            }
            Created::TooManyBytes => {
                return Err(Problem::new(
                    Code::TooManyBytes,
                    "complete or abort some of them first, or send a smaller file",
                ));
            }
        };
        let token_expires_at = expires_at + state.clients.token_grace;
        let upload_token = state.access.tokens.sign(upload.upload_id, token_expires_at);
        Ok(InitAnswer::Created(Answer(NewUpload {
            upload,
            upload_token,
            upload_token_expires_at: time(token_expires_at),
            presigned,
        })))
    }

    /// Get an upload
    ///
    /// With `wait_for` the answer comes as soon as the upload has that status or has ended or failed,
    /// or after `timeout_seconds` as it then is; earlier where too many wait already or the server stops, so
    /// pause for a second before you ask again.
    #[oai(
        path = "/uploads/:upload_id",
        method = "get",
        operation_id = "get_upload",
        tag = "Tag::Uploads"
    )]
    async fn get_upload(
        &self,
        state: Data<&Shared>,
        caller: Caller,
        upload_id: Path<Uuid>,
        /// The status to wait for.
        wait_for: Query<Option<UploadStatus>>,
        /// 0 to 60; without it 30.
        timeout_seconds: Query<Option<i32>>,
    ) -> Result<Answer<Upload>, Problem> {
        let timeout = timeout_seconds.0.unwrap_or(30);
        if !(0..=60).contains(&timeout) {
            return Err(Problem::invalid(vec![FieldError {
                pointer: "?timeout_seconds".to_owned(),
                detail: "must be 0 to 60".to_owned(),
            }]));
        }
        let found = match wait_for.0 {
            None => rows::find_with_chunks(&state.ctx.db, upload_id.0).await?,
            Some(status) => {
                let timeout = Duration::from_secs(timeout.unsigned_abs().into());
                waiting::wait(&state, upload_id.0, status.into(), timeout).await?
            }
        };
        let owner = caller.is_operator().then(|| found.upload.owner.clone());
        Ok(Answer(Upload { owner, ..found.into() }))
    }

    /// List uploads
    ///
    /// Those of the key's owner, newest first, a page at a time and without their `uploaded_chunks`. A key of
    /// operators lists those of all owners, or of the one that `owner` names.
    #[oai(path = "/uploads", method = "get", operation_id = "list_uploads", tag = "Tag::Uploads")]
    async fn list_uploads(
        &self,
        state: Data<&Shared>,
        caller: Caller,
        /// Only uploads of this status.
        status: Query<Option<UploadStatus>>,
        /// Only uploads of this owner.
        owner: Query<Option<String>>,
        /// 1 to 100; without it 50.
        limit: Query<Option<i32>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Answer<UploadPage>, Problem> {
        let limit = limit.0.unwrap_or(50);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Problem::bad_field("?limit", "must be 1 to 100"));
        }
        let after = cursor.0.map(|text| {
            parse_cursor(&text)
                .ok_or_else(|| Problem::bad_field("?cursor", "is no next_cursor of a page"))
        });
        let owner = match owner.0 {
            owner if caller.is_operator() => owner,
            Some(owner) if owner != caller.owner() => {
                let detail =
                    "this key sees its own uploads: those of others take one with the admin flag";
                return Err(Problem::new(Code::AdminRequired, detail));
            }
            _ => Some(caller.owner().to_owned()),
        };
        let filter = Filter {
            owner,
            status: status.0.map(Into::into),
            after: after.transpose()?,
            // One more, to know whether there is another page.
            limit: u64::from(limit.unsigned_abs()) + 1,
        };
        let now = now();
        let db = &state.ctx.db;
        let mut found = rows::list(db, filter, now).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next_cursor = found.last().filter(|_| more).map(format_cursor);
        let ids: Vec<Uuid> = found.iter().map(|row| row.upload_id).collect();
        let progress = rows::progress(db, &ids).await?;
        let uploads = found.into_iter().map(|row| {
            let progress = progress.get(&row.upload_id).copied().unwrap_or_default();
            let progress = Progress {
                indexes: None,
                confirmed: progress.confirmed,
                confirmed_bytes: progress.confirmed_bytes,
                assembled: progress.assembled,
            };
            let owner = caller.is_operator().then(|| row.owner.clone());
            Upload { owner, ..Upload::new(row, progress, now) }
        });
        Ok(Answer(UploadPage { uploads: uploads.collect(), next_cursor }))
    }

    /// Bring the upload and the bucket together
    ///
    /// Confirms chunks that are in the bucket unconfirmed, and takes back the confirmation of chunks
    /// that are gone or changed. Call it before resuming, and trust `uploaded_chunks` of its answer.
    #[oai(
        path = "/uploads/:upload_id/reconcile",
        method = "post",
        operation_id = "reconcile_upload",
        tag = "Tag::Uploads"
    )]
    async fn reconcile_upload(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
    ) -> Result<Answer<Upload>, Problem> {
        let ctx = &state.ctx;
        let row = rows::find(&ctx.db, upload_id.0).await?;
        let status = row.status_at(now());
        if !status.takes_chunks() {
            return Err(Problem::conflict(status));
        }
        verify::reconcile(ctx, &row, now()).await?;
        Ok(Answer(rows::find_with_chunks(&ctx.db, upload_id.0).await?.into()))
    }

    /// Complete an upload
    ///
    /// All chunks have been sent: assemble the file. Chunks that were sent and not confirmed are looked
    /// for first. Asked again, it answers with the state as it is.
    #[oai(
        path = "/uploads/:upload_id/complete",
        method = "post",
        operation_id = "complete_upload",
        tag = "Tag::Uploads"
    )]
    async fn complete_upload(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
    ) -> Result<CompleteAnswer, Problem> {
        let ctx = &state.ctx;
        let upload_id = upload_id.0;
        let mut requested = rows::request_assembly(&ctx.db, upload_id, now()).await?;
        if let Requested::Incomplete(found) = requested {
            let (upload, missing) = (&found.upload, found.missing());
            let (rejected, left) = match verify::confirm_missing(ctx, upload, &missing, now()).await
            {
                // Another call has completed it meanwhile: the next look says so.
                Err(Problem::Conflict(..)) => (Vec::new(), 0),
                confirmed => confirmed?,
            };
            if left > 0 {
                let detail = format!("{left} more chunks are to be confirmed: call complete again");
                return Err(Problem::new(Code::ConfirmInProgress, detail));
            }
            requested = match rows::request_assembly(&ctx.db, upload_id, now()).await? {
                Requested::Incomplete(found) => return Err(incomplete(found.missing(), &rejected)),
                requested => requested,
            };
        }
        match requested {
            Requested::Moved(found) => {
                tracing::info!(upload.id = %upload_id, "to be assembled");
                tokio::join!(announce(ctx, upload_id), ctx.queue.tell(upload_id));
                Ok(CompleteAnswer::Assembling(Answer(found.into())))
            }
            Requested::Already(found) if found.upload.status == Status::Completed => {
                Ok(CompleteAnswer::Completed(Answer(found.into())))
            }
            Requested::Already(found) => Ok(CompleteAnswer::Assembling(Answer(found.into()))),
            Requested::Incomplete(found) => Err(incomplete(found.missing(), &[])),
        }
    }

    /// Abort an upload
    ///
    /// Whatever was sent is removed from the bucket soon after.
    #[oai(
        path = "/uploads/:upload_id",
        method = "delete",
        operation_id = "abort_upload",
        tag = "Tag::Uploads"
    )]
    async fn abort_upload(
        &self,
        state: Data<&Shared>,
        _caller: Caller,
        upload_id: Path<Uuid>,
    ) -> Result<Answer<Upload>, Problem> {
        let ctx = &state.ctx;
        let (row, moved) = rows::abort(&ctx.db, upload_id.0, now()).await?;
        if moved {
            tracing::info!(upload.id = %upload_id.0, "aborted");
        }
        tokio::join!(announce(ctx, upload_id.0), ctx.queue.tell(upload_id.0));
        Ok(Answer(shown(ctx, row).await?))
    }
}

fn incomplete(missing: Vec<i32>, rejected: &[verify::Rejected]) -> Problem {
    let mut detail =
        format!("{} chunks are not confirmed: send those in missing_chunks", missing.len());
    for rejected in rejected.iter().filter(|r| r.code != Code::ChunkMissing).take(NAMED) {
        detail.push_str("; ");
        detail.push_str(&rejected.detail);
    }
    Problem::with(Code::UploadIncomplete, detail, |details| details.missing_chunks = Some(missing))
}

/// The framework's own parameter, which the spec shows, takes a value that is not ASCII for none.
fn idempotency_key(request: &Request) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    match (key, values.next()) {
        (Some(key), None) if key.chars().all(|c| c.is_ascii_graphic() || c == ' ') => {
            Ok(Some(key.to_owned()))
        }
        _ => Err(Problem::invalid(vec![FieldError {
            pointer: "Idempotency-Key".to_owned(),
            detail: "must be given once, as 1 to 255 printable ASCII characters".to_owned(),
        }])),
    }
}

/// The same request gives the same hash, whatever the white space and order of its JSON.
fn request_hash(request: &InitUpload) -> Result<String, Problem> {
    let canonical = serde_json::to_vec(request).map_err(|error| Problem::internal(&error))?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)))
}

fn format_cursor(row: &rows::Upload) -> String {
    let text = format!("{} {}", row.created_at.timestamp_millis(), row.upload_id);
    URL_SAFE_NO_PAD.encode(text)
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (millis, id) = text.split_once(' ')?;
    let created_at = DateTime::<Utc>::from_timestamp_millis(millis.parse().ok()?)?;
    // What databases can hold, and more than uploads will need.
    if !(1970..=9999).contains(&created_at.year()) {
        return None;
    }
    Some(Cursor { created_at, upload_id: id.parse().ok()? })
}
