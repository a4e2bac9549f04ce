//! The detail of an example of each problem.

use crate::problem::Code;

impl Code {
    /// What the detail of such a problem may be, for the spec.
    pub fn example(self) -> &'static str {
        match self {
            Code::BadRequest => "the path or a header cannot be read",
            Code::MalformedJson => "expected `,` or `}` at line 1 column 20",
            Code::CredentialsMissing => {
                "send the header Authorization: Bearer, with an API key or the token of the upload"
            }
            Code::CredentialsInvalid => {
                "this is neither a valid API key nor a token of this server: check what follows Bearer"
            }
            Code::TokenExpired => {
                "the token of the upload has ended: whoever has the API key gets another one by repeating init with its Idempotency-Key"
            }
            Code::ApiKeyRequired => {
                "the token of an upload is for that upload alone: this takes an API key"
            }
            Code::AdminRequired => "this takes an API key with the admin flag",
            Code::OriginNotAllowed => {
                "this server has no keys and takes no requests of other sites' pages; set UPFLOW_CORS_ORIGINS to those that may"
            }
            Code::HostNotAllowed => {
                "this server has no keys and answers to localhost alone; set UPFLOW_ALLOWED_HOSTS to the names it is reached by"
            }
            Code::TooManyRequests => {
                "this key makes more requests a second than it may: wait as Retry-After says"
            }
            Code::TooManyUploads => "complete or abort some of them first, or let them expire",
            Code::TooManyBytes => "complete or abort some of them first, or send a smaller file",
            Code::BodyTimeout => "the body was not there after 30s: send it at once",
            Code::InvalidRequest => "/file_size: must be between 0 and 53687091200000 bytes",
            Code::ChunkIndexOutOfRange => "3 is no chunk: the upload has 0 to 2",
            Code::UnsupportedMediaType => "send the header Content-Type: application/json",
            Code::BodyTooLarge => "send at most 1048576 bytes; large lists in several calls",
            Code::NotFound => "no operation or page has this path; /docs shows all of them",
            Code::MethodNotAllowed => "/docs shows the methods of each path",
            Code::UploadNotFound => {
                "no upload has this id; it may have ended long ago. Begin a new one with POST /uploads/init"
            }
            Code::UploadAssembling => {
                "all chunks are confirmed and the file is being assembled: wait for it with GET /uploads/{upload_id}?wait_for=completed"
            }
            Code::UploadCompleted => {
                "the file is complete and in the bucket: nothing more is to be done"
            }
            Code::UploadAborted => {
                "the upload has ended and what it had sent is removed: begin a new one with POST /uploads/init"
            }
            Code::UploadExpired => {
                "the upload has ended and what it had sent is removed: begin a new one with POST /uploads/init"
            }
            Code::UploadNotCompleted => "the upload is uploading: wait until it is completed",
            Code::UploadIncomplete => "1 chunks are not confirmed: send those in missing_chunks",
            Code::ConfirmInProgress => "50 more chunks are to be confirmed: call complete again",
            Code::ChunkMissing => "chunk 2 is not in storage: send it to its URL, then confirm",
            Code::ChunkSizeMismatch => {
                "chunk 2 has 100 bytes in storage and should have 4194304: send it again"
            }
            Code::ChunkChecksumMismatch => {
                "chunk 2 has the crc64nvme rosUhgp5mIg= in storage and should have vUVkrS2e8Wc=: send it again"
            }
            Code::IdempotencyKeyReused => {
                "this Idempotency-Key came with another request before: use a new one for a new upload"
            }
            Code::OrphanKept => {
                "something of it was written less than 1209600 seconds ago, or may have been: it may be under way in another deployment"
            }
            Code::Internal => "the error is in the server's log under this answer's x-request-id",
            Code::DatabaseUnavailable => "nothing is lost: try again in a moment",
            Code::StorageUnavailable => "nothing is lost: try again in a moment",
            Code::Timeout => "nothing confirmed is lost: try again",
        }
    }
}
