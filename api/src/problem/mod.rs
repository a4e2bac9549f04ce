//! What a client is told when something is not done: problem+json (RFC 9457) with a stable `code`. The
//! one table of codes is [`Code::row`]; errors of the parts become problems here and nowhere else. What
//! is our fault or S3's is logged here, once for an outage, and its cause is not shown.

mod code;

use std::time::Duration;

use poem::http::StatusCode;
use poem_openapi::{ApiResponse, Object};
use serde::Serialize;
use upflow_core::db::{self, DbErr};
use upflow_core::lifecycle::Status;
use upflow_core::orphans;
use upflow_core::seldom::Seldom;
use upflow_core::storage::{ErrorKind, StorageError};
use upflow_core::uploads;

use crate::answer::Answer;

pub use code::Code;

/// Why a request was not done (RFC 9457).
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Problem", skip_serializing_if_is_none)]
pub struct Details {
    /// A URI that names the kind of problem.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: i32,
    /// The kind of problem as a stable word, for programs.
    pub code: String,
    /// What happened in this case, and what to do.
    pub detail: String,
    /// What is wrong with which field of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<FieldError>>,
    /// With `upload_incomplete`: the chunks that are not confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_chunks: Option<Vec<i32>>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body; a parameter is named `?name` or `{name}`.
    pub pointer: String,
    /// What is wrong there, and what would fit.
    pub detail: String,
}

/// The answers of every operation besides its own.
#[derive(Debug, Clone, ApiResponse)]
pub enum Problem {
    /// The request cannot be read, or its body is not JSON.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Answer<Details>),
    /// The API key or token is missing, wrong or has ended.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(
        Answer<Details>,
        /// What the server asks for (RFC 6750, section 3).
        #[oai(header = "WWW-Authenticate")]
        String,
    ),
    /// The API key or token is not for this.
    #[oai(status = 403, content_type = "application/problem+json")]
    Forbidden(Answer<Details>),
    /// There is no such upload, or nothing under this path.
    #[oai(status = 404, content_type = "application/problem+json")]
    NotFound(Answer<Details>),
    /// This method is not for this path.
    #[oai(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(Answer<Details>),
    /// The body took too long.
    #[oai(status = 408, content_type = "application/problem+json")]
    RequestTimeout(Answer<Details>),
    /// The upload, or a chunk, is not in the state that this needs.
    #[oai(status = 409, content_type = "application/problem+json")]
    Conflict(
        Answer<Details>,
        /// Seconds after which to ask again.
        #[oai(header = "Retry-After")]
        Option<i64>,
    ),
    /// The body is too large.
    #[oai(status = 413, content_type = "application/problem+json")]
    TooLarge(Answer<Details>),
    /// The body is not `application/json`.
    #[oai(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Answer<Details>),
    /// The server does not answer to this name.
    #[oai(status = 421, content_type = "application/problem+json")]
    Misdirected(Answer<Details>),
    /// A value does not fit; `errors` says which and why.
    #[oai(status = 422, content_type = "application/problem+json")]
    Unprocessable(Answer<Details>),
    /// The key makes more requests than it may.
    #[oai(status = 429, content_type = "application/problem+json")]
    TooManyRequests(
        Answer<Details>,
        /// Seconds after which to ask again.
        #[oai(header = "Retry-After")]
        Option<i64>,
    ),
    /// Something went wrong on our side.
    #[oai(status = 500, content_type = "application/problem+json")]
    Internal(Answer<Details>),
    /// The database or the storage does not answer; nothing is lost.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(
        Answer<Details>,
        /// Seconds after which to ask again.
        #[oai(header = "Retry-After")]
        Option<i64>,
    ),
}

/// How long a client should wait when a part of the system does not answer.
const RETRY_AFTER: i64 = 2;

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::with(code, detail, |_| {})
    }

    /// A problem with more to say: `more` sets the fields.
    pub fn with(code: Code, detail: impl Into<String>, more: impl FnOnce(&mut Details)) -> Self {
        let (status, name, title) = code.row();
        let mut details = Details {
            kind: format!("urn:upflow:problem:{name}"),
            title: title.to_owned(),
            status: i32::from(status),
            code: name.to_owned(),
            detail: detail.into(),
            errors: None,
            missing_chunks: None,
        };
        more(&mut details);
        let retry = (code == Code::ConfirmInProgress).then_some(1);
        match status {
            400 => Problem::BadRequest(Answer(details)),
            401 => Problem::Unauthorized(Answer(details), challenge(code).to_owned()),
            403 => Problem::Forbidden(Answer(details)),
            408 => Problem::RequestTimeout(Answer(details)),
            421 => Problem::Misdirected(Answer(details)),
            429 => Problem::TooManyRequests(Answer(details), Some(1)),
            404 => Problem::NotFound(Answer(details)),
            405 => Problem::MethodNotAllowed(Answer(details)),
            409 => Problem::Conflict(Answer(details), retry),
            413 => Problem::TooLarge(Answer(details)),
            415 => Problem::UnsupportedMediaType(Answer(details)),
            422 => Problem::Unprocessable(Answer(details)),
            503 => Problem::Unavailable(Answer(details), Some(RETRY_AFTER)),
            _ => Problem::Internal(Answer(details)),
        }
    }

    /// The same, asking the client to wait this long: whole seconds, at least one.
    pub fn retry_after(self, wait: Duration) -> Self {
        let after = Some(wait.as_secs_f64().ceil().max(1.0) as i64);
        match self {
            Problem::TooManyRequests(details, _) => Problem::TooManyRequests(details, after),
            Problem::Unavailable(details, _) => Problem::Unavailable(details, after),
            other => other,
        }
    }

    /// The request does not fit: what is wrong with each field.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.pointer, only.detail),
            _ => format!("{} values do not fit; see errors", errors.len()),
        };
        Self::with(Code::InvalidRequest, detail, |details| details.errors = Some(errors))
    }

    /// One field does not fit.
    pub fn bad_field(pointer: &str, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.to_owned(), detail.into());
        Self::invalid(vec![FieldError { pointer, detail }])
    }

    pub fn upload_not_found() -> Self {
        Self::new(
            Code::UploadNotFound,
            "no upload has this id; it may have ended long ago. Begin a new one with POST /uploads/init",
        )
    }

    /// The upload's status does not allow it.
    pub fn conflict(status: Status) -> Self {
        let detail = match status {
            Status::PendingAssembly => {
                "all chunks are confirmed and the file is being assembled: wait for it with GET /uploads/{upload_id}?wait_for=completed"
            }
            Status::Completed => {
                "the file is complete and in the bucket: nothing more is to be done"
            }
            Status::Aborted | Status::Expired => {
                "the upload has ended and what it had sent is removed: begin a new one with POST /uploads/init"
            }
            _ => "the upload has moved on meanwhile: get it and look at its status",
        };
        Self::new(Code::of_status(status), detail)
    }

    /// What broke is logged, with everything known; the client learns that it is not its fault.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::panicked()
    }

    /// The same for what the panic hook has logged.
    pub fn panicked() -> Self {
        Self::new(
            Code::Internal,
            "the error is in the server's log under this answer's x-request-id",
        )
    }
}

impl From<uploads::Error> for Problem {
    fn from(error: uploads::Error) -> Self {
        match error {
            uploads::Error::Db(error) => error.into(),
            uploads::Error::NotFound => Problem::upload_not_found(),
            uploads::Error::Conflict(status) => Problem::conflict(status),
            uploads::Error::NoAnswer(_) => database_unavailable(&error),
            uploads::Error::LeaseLost => Problem::internal(&error),
        }
    }
}

impl From<orphans::Error> for Problem {
    fn from(error: orphans::Error) -> Self {
        match error {
            orphans::Error::Uploads(error) => error.into(),
            orphans::Error::Storage(error) => error.into(),
        }
    }
}

impl From<DbErr> for Problem {
    fn from(error: DbErr) -> Self {
        if db::is_unavailable(&error) {
            return database_unavailable(&error);
        }
        Problem::internal(&error)
    }
}

fn database_unavailable(error: &dyn std::fmt::Display) -> Problem {
    static SELDOM: Seldom = Seldom::new();
    if let Some(more) = SELDOM.again() {
        tracing::error!(%error, more, "the database does not answer");
    }
    Problem::new(Code::DatabaseUnavailable, "nothing is lost: try again in a moment")
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error.kind {
            ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Denied => {
                // Keys that are refused are not hidden behind a storage that was slow just before.
                static DENIED: Seldom = Seldom::new();
                static AWAY: Seldom = Seldom::new();
                let seldom = if error.kind == ErrorKind::Denied { &DENIED } else { &AWAY };
                if let Some(more) = seldom.again() {
                    tracing::error!(%error, more, "the storage does not answer");
                }
                let detail = "nothing is lost: try again in a moment";
                let problem = Problem::new(Code::StorageUnavailable, detail);
                match error.retry_after {
                    Some(after) => problem.retry_after(after),
                    None => problem,
                }
            }
            _ => Problem::internal(&error),
        }
    }
}

/// RFC 6750, section 3.1: no error is named to who has sent nothing.
fn challenge(code: Code) -> &'static str {
    match code {
        Code::CredentialsMissing => r#"Bearer realm="upflow""#,
        Code::TokenExpired => {
            r#"Bearer realm="upflow", error="invalid_token", error_description="expired""#
        }
        _ => r#"Bearer realm="upflow", error="invalid_token""#,
    }
}

pub fn no_such_path() -> Problem {
    Problem::new(Code::NotFound, "no operation or page has this path; /docs shows all of them")
}

/// As tests of the parts look at it.
#[cfg(test)]
impl Problem {
    pub fn status(self) -> u16 {
        poem::IntoResponse::into_response(self).status().as_u16()
    }
}

/// What the framework refuses before an operation is reached, as a problem. Answers that are no errors,
/// such as a 304 for a page, pass.
pub fn from_framework(error: poem::Error) -> poem::Response {
    use poem::IntoResponse as _;
    use poem::error as framework;
    use poem_openapi::error as openapi;

    if error.is_from_response() || error.status().as_u16() < 400 {
        return error.into_response();
    }
    let problem = if let Some(bad) = error.downcast_ref::<openapi::ParsePathError>() {
        // The framework numbers them: an upload's id comes first in every path, then a chunk's index.
        match bad.name {
            "param0" => Problem::upload_not_found(),
            _ => Problem::new(Code::ChunkIndexOutOfRange, "chunk_index must be a number from 0"),
        }
    } else if let Some(bad) = error.downcast_ref::<openapi::ParseParamError>() {
        Problem::invalid(vec![FieldError {
            pointer: format!("?{}", bad.name),
            detail: bad.reason.clone(),
        }])
    } else if error.is::<openapi::ContentTypeError>() {
        Problem::new(Code::UnsupportedMediaType, "send the header Content-Type: application/json")
    } else if let Some(bad) = error.downcast_ref::<openapi::ParseRequestPayloadError>() {
        Problem::new(Code::MalformedJson, bad.reason.clone())
    } else if error.is::<framework::NotFoundError>() {
        no_such_path()
    } else if error.is::<framework::MethodNotAllowedError>() {
        Problem::new(Code::MethodNotAllowed, "/docs shows the methods of each path")
    } else {
        match error.status() {
            StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "there is no such page"),
            StatusCode::METHOD_NOT_ALLOWED => {
                Problem::new(Code::MethodNotAllowed, "/docs shows the methods of each path")
            }
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::BodyTooLarge, error.to_string()),
            status if status.is_client_error() => Problem::new(Code::BadRequest, error.to_string()),
            _ => Problem::internal(&error),
        }
    };
    problem.into_response()
}
