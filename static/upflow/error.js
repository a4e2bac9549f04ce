/**
 * Every way in which something ends other than well.
 *
 * `code` is a stable word: the server's own (`upload_expired`, `invalid_request`, …), or one of
 * `server_unreachable`, `server_unreadable`, `storage_unreachable`, `storage_refused`, `urls_expired`,
 * `file_unreadable`, `file_changed`, `chunks_missing`, `checksum_mismatch`, `stopped`, `cancelled`.
 * `detail` says what happened and what to do. `status` is the HTTP status, where there was an answer.
 */
export class UpFlowError extends Error {
  constructor(code, detail, { status, cause, missingChunks, retryAfter } = {}) {
    super(detail, { cause });
    this.name = "UpFlowError";
    this.code = code;
    this.detail = detail;
    this.status = status;
    /** With `upload_incomplete`: the chunks that the server does not have. */
    this.missingChunks = missingChunks;
    /** Seconds after which the server wants to be asked again. */
    this.retryAfter = retryAfter;
  }
}
