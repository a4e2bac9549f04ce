//! Which problems each operation can answer: what the spec lists. Schemathesis and the tests of the API hold
//! it against the server.

use crate::auth::routes::Need;
use crate::problem::Code::{self, *};

/// Whoever calls, whatever is called.
const ALWAYS: [Code; 9] = [
    CredentialsMissing,
    CredentialsInvalid,
    TokenExpired,
    OriginNotAllowed,
    HostNotAllowed,
    TooManyRequests,
    Internal,
    DatabaseUnavailable,
    Timeout,
];

/// Of operations with a body.
const BODY: [Code; 5] =
    [MalformedJson, BodyTimeout, BodyTooLarge, UnsupportedMediaType, InvalidRequest];

/// Of operations that need an upload that takes chunks.
const ENDED: [Code; 3] = [UploadCompleted, UploadAborted, UploadExpired];

/// What is answered where no operation is.
pub const NOWHERE: [Code; 3] = [NotFound, MethodNotAllowed, BadRequest];

/// The codes of an operation, by its operationId; each once, in the order of the table.
pub fn of(operation: &str, need: Need, has_upload: bool, has_body: bool) -> Vec<Code> {
    let own: &[&[Code]] = match operation {
        "init_upload" => &[&[
            ChunkIndexOutOfRange,
            TooManyUploads,
            TooManyBytes,
            IdempotencyKeyReused,
            StorageUnavailable,
        ]],
        "get_upload" => &[&[InvalidRequest]],
        "list_uploads" => &[&[InvalidRequest, AdminRequired]],
        "list_orphans" => &[&[InvalidRequest, StorageUnavailable]],
        "delete_orphan" => &[&[InvalidRequest, OrphanKept, StorageUnavailable]],
        "presign_chunks" => {
            &[&ENDED, &[UploadAssembling, ChunkIndexOutOfRange, StorageUnavailable]]
        }
        "confirm_chunk" => &[
            &ENDED,
            &[UploadAssembling, ChunkMissing, ChunkSizeMismatch, ChunkChecksumMismatch],
            &[ChunkIndexOutOfRange, StorageUnavailable],
        ],
        "confirm_chunks" => {
            &[&ENDED, &[UploadAssembling, ChunkIndexOutOfRange, StorageUnavailable]]
        }
        "reconcile_upload" => &[&ENDED, &[UploadAssembling, StorageUnavailable]],
        "complete_upload" => &[
            &[UploadAborted, UploadExpired, UploadIncomplete, ConfirmInProgress],
            &[StorageUnavailable],
        ],
        "abort_upload" => &[&[UploadCompleted, UploadExpired]],
        "get_download" => {
            &[&[UploadNotCompleted, UploadAborted, UploadExpired, StorageUnavailable]]
        }
        _ => &[],
    };
    let need: &[Code] = match need {
        Need::Key => &[ApiKeyRequired],
        Need::Upload => &[],
        Need::Admin => &[AdminRequired],
    };
    let upload: &[Code] = if has_upload { &[UploadNotFound] } else { &[] };
    let body: &[Code] = if has_body { &BODY } else { &[] };
    let mut codes: Vec<Code> = own.concat();
    for more in [&ALWAYS, need, upload, body] {
        codes.extend(more);
    }
    codes.sort_by_key(|code| Code::ALL.iter().position(|known| known == code));
    codes.dedup();
    codes
}
