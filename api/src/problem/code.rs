//! The codes of problems: the one table, from which the answers, `openapi.yaml` and its examples derive.

use upflow_core::lifecycle::Status;

/// Every code that a problem can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    BadRequest,
    MalformedJson,
    CredentialsMissing,
    CredentialsInvalid,
    TokenExpired,
    ApiKeyRequired,
    AdminRequired,
    OriginNotAllowed,
    HostNotAllowed,
    TooManyRequests,
    TooManyUploads,
    TooManyBytes,
    BodyTimeout,
    InvalidRequest,
    ChunkIndexOutOfRange,
    UnsupportedMediaType,
    BodyTooLarge,
    NotFound,
    MethodNotAllowed,
    UploadNotFound,
    UploadAssembling,
    UploadCompleted,
    UploadAborted,
    UploadExpired,
    UploadNotCompleted,
    UploadIncomplete,
    ConfirmInProgress,
    ChunkMissing,
    ChunkSizeMismatch,
    ChunkChecksumMismatch,
    IdempotencyKeyReused,
    OrphanKept,
    Internal,
    DatabaseUnavailable,
    StorageUnavailable,
    Timeout,
}

impl Code {
    /// All of them, in the order of the table.
    pub const ALL: [Code; 36] = [
        Code::BadRequest,
        Code::MalformedJson,
        Code::CredentialsMissing,
        Code::CredentialsInvalid,
        Code::TokenExpired,
        Code::ApiKeyRequired,
        Code::AdminRequired,
        Code::OriginNotAllowed,
        Code::HostNotAllowed,
        Code::TooManyRequests,
        Code::TooManyUploads,
        Code::TooManyBytes,
        Code::BodyTimeout,
        Code::InvalidRequest,
        Code::ChunkIndexOutOfRange,
        Code::UnsupportedMediaType,
        Code::BodyTooLarge,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::UploadNotFound,
        Code::UploadAssembling,
        Code::UploadCompleted,
        Code::UploadAborted,
        Code::UploadExpired,
        Code::UploadNotCompleted,
        Code::UploadIncomplete,
        Code::ConfirmInProgress,
        Code::ChunkMissing,
        Code::ChunkSizeMismatch,
        Code::ChunkChecksumMismatch,
        Code::IdempotencyKeyReused,
        Code::OrphanKept,
        Code::Internal,
        Code::DatabaseUnavailable,
        Code::StorageUnavailable,
        Code::Timeout,
    ];

    /// The contract: HTTP status, code, title.
    pub fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Code::BadRequest => (400, "bad_request", "The request cannot be read"),
            Code::MalformedJson => (400, "malformed_json", "The body is not JSON"),
            Code::CredentialsMissing => {
                (401, "credentials_missing", "The request has no API key and no token")
            }
            Code::CredentialsInvalid => {
                (401, "credentials_invalid", "The API key or token is not valid")
            }
            Code::TokenExpired => (401, "token_expired", "The token of the upload has ended"),
            Code::ApiKeyRequired => (403, "api_key_required", "This takes an API key"),
            Code::AdminRequired => (403, "admin_required", "This takes an API key of operators"),
            Code::OriginNotAllowed => {
                (403, "origin_not_allowed", "Pages of this origin may not call the server")
            }
            Code::HostNotAllowed => {
                (421, "host_not_allowed", "The server does not answer to this name")
            }
            Code::TooManyRequests => (429, "too_many_requests", "The key makes too many requests"),
            Code::TooManyUploads => {
                (409, "too_many_uploads", "The owner has too many uploads under way")
            }
            Code::TooManyBytes => {
                (409, "too_many_bytes", "The owner's uploads under way are too large")
            }
            Code::BodyTimeout => (408, "body_timeout", "The body took too long"),
            Code::InvalidRequest => (422, "invalid_request", "The request does not fit"),
            Code::ChunkIndexOutOfRange => {
                (422, "chunk_index_out_of_range", "The upload has no such chunk")
            }
            Code::UnsupportedMediaType => {
                (415, "unsupported_media_type", "The body must be application/json")
            }
            Code::BodyTooLarge => (413, "body_too_large", "The body is too large"),
            Code::NotFound => (404, "not_found", "There is nothing here"),
            Code::MethodNotAllowed => {
                (405, "method_not_allowed", "This method is not for this path")
            }
            Code::UploadNotFound => (404, "upload_not_found", "There is no such upload"),
            Code::UploadAssembling => (409, "upload_assembling", "The upload is being assembled"),
            Code::UploadCompleted => (409, "upload_completed", "The upload is completed"),
            Code::UploadAborted => (409, "upload_aborted", "The upload was aborted"),
            Code::UploadExpired => (409, "upload_expired", "The upload has expired"),
            Code::UploadNotCompleted => {
                (409, "upload_not_completed", "The upload is not completed yet")
            }
            Code::UploadIncomplete => (409, "upload_incomplete", "Chunks are missing"),
            Code::ConfirmInProgress => {
                (409, "confirm_in_progress", "Chunks are still being confirmed")
            }
            Code::ChunkMissing => (409, "chunk_missing", "The chunk is not in storage"),
            Code::ChunkSizeMismatch => {
                (409, "chunk_size_mismatch", "The chunk in storage has another size")
            }
            Code::ChunkChecksumMismatch => {
                (409, "chunk_checksum_mismatch", "The chunk in storage has another checksum")
            }
            Code::IdempotencyKeyReused => {
                (409, "idempotency_key_reused", "The key was used for another upload")
            }
            Code::OrphanKept => (409, "orphan_kept", "What was found is kept"),
            Code::Internal => (500, "internal_error", "Something went wrong on our side"),
            Code::DatabaseUnavailable => {
                (503, "database_unavailable", "The database does not answer")
            }
            Code::StorageUnavailable => (503, "storage_unavailable", "The storage does not answer"),
            Code::Timeout => (503, "timeout", "The request took too long"),
        }
    }

    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Why an upload in this status does not take chunks.
    pub(super) fn of_status(status: Status) -> Self {
        match status {
            Status::PendingAssembly => Code::UploadAssembling,
            Status::Completed => Code::UploadCompleted,
            Status::Aborted => Code::UploadAborted,
            Status::Expired => Code::UploadExpired,
            // These allow whatever can be asked for; a race can still bring one here.
            Status::Initialized | Status::Uploading | Status::Failed => Code::UploadNotCompleted,
        }
    }
}
