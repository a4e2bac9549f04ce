/**
 * UpFlow's browser client: resumable, checked uploads straight into your S3 bucket. No dependency, no
 * build step: serve this file with the folder `upflow/` beside it.
 *
 * ```js
 * import { UpFlow } from "/static/upflow.js";
 *
 * const client = new UpFlow({ server: "https://upflow.example" });
 * const upload = client.upload(input.files[0], {
 *   onProgress: ({ phase, sentBytes, totalBytes }) => console.log(phase, sentBytes, totalBytes),
 * });
 * const finished = await upload.done;          // {upload_id, final_s3_key, integrity, …}
 * const { url } = await client.download(finished.upload_id);
 * ```
 *
 * Bytes go to S3 by presigned URLs and nowhere else; the server gets small JSON. Each chunk's
 * CRC64NVME is computed here before it is sent and signed into its URL, so that S3 refuses other bytes;
 * at the end the checksum of the finished file is compared with that of the file here. Files are read
 * in slices: memory does not grow with them.
 *
 * To resume an upload (after a reload, on another day) pass the same file with `uploadId`, and
 * `uploadToken` where the server gives one. It is the caller's to make sure that it is the same file;
 * `client.sample(file)` helps. What has arrived is asked of the server.
 *
 * Needs in the bucket: a CORS rule that allows PUT with the header `x-amz-checksum-crc64nvme` from the
 * page's origin. No header needs to be exposed.
 */

import { Api } from "./upflow/api.js";
import { Checksums } from "./upflow/checksums.js";
import { Connections } from "./upflow/connections.js";
import { Trace } from "./upflow/trace.js";
import { Upload } from "./upflow/upload.js";

export { ChunkState } from "./upflow/chunks.js";
export { UpFlowError } from "./upflow/error.js";

const SAMPLES = 16;
const SAMPLE_BYTES = 64 * 1024;

export class UpFlow {
  #context;

  /**
   * @param {object} options
   * @param {string} options.server the address of the API, with its path if it has one
   * @param {string} [options.token] an API key, or the token of one upload
   * @param {number} [options.connections] the most PUTs at once over all uploads; browsers open six to a host
   * @param {(request: import("./upflow/trace.js").RequestSeen) => void} [options.onRequest] sees every
   *   request when it begins and when it has ended, without tokens and signatures
   */
  constructor({ server, token, connections = 6, onRequest }) {
    const trace = new Trace(onRequest);
    this.#context = {
      api: new Api(server, token, { trace }),
      checksums: new Checksums(),
      connections: new Connections(connections),
      trace,
    };
  }

  /** Another API key for what begins from now on, or none; what runs goes on as it began. */
  set token(token) {
    this.#context.api = this.#context.api.as(token);
  }

  /**
   * Begins at once. The answer's `done` is a promise of the finished upload, and `pause()`, `resume()`
   * and `cancel()` do what they say.
   *
   * @param {File|Blob} file
   * @param {object} [options]
   * @param {(progress: import("./upflow/upload.js").Progress) => void} [options.onProgress] at most four
   *   times a second, and at every change of phase
   * @param {AbortSignal} [options.signal] stops sending; the upload stays and can be resumed
   * @param {number} [options.parallel] chunks at once; by default the client finds what the line gives
   * @param {number} [options.chunkSize] bytes; the server chooses by default
   * @param {string} [options.filename] the file's own by default
   * @param {string} [options.contentType] the file's own by default
   * @param {Object<string, string>} [options.metadata] kept by the server with the upload
   * @param {boolean} [options.verify] false: do not compare the finished file's checksum at the end
   * @param {string} [options.uploadId] the upload to resume
   * @param {string} [options.uploadToken] its token
   * @returns {Upload}
   */
  upload(file, options = {}) {
    return new Upload(this.#context, file, options);
  }

  /** What the server says of an upload. */
  get(uploadId, { token } = {}) {
    return this.#api(token).get(uploadId);
  }

  /** Ends an upload that is not running here; what was sent is removed. */
  abort(uploadId, { token } = {}) {
    return this.#api(token).abort(uploadId);
  }

  /** `{url, method, expires_at, expires_in}` of the finished file. */
  download(uploadId, { token } = {}) {
    return this.#api(token).download(uploadId);
  }

  /**
   * A checksum of pieces from all over the file (1 MiB at most), to recognise it by: fast for any size,
   * no proof.
   * @param {Blob} file
   */
  async sample(file) {
    const step = (file.size - SAMPLE_BYTES) / (SAMPLES - 1);
    const starts = Array.from({ length: SAMPLES }, (_, i) => Math.round(i * step));
    const whole = file.size <= SAMPLES * SAMPLE_BYTES;
    const pieces = whole ? [file] : starts.map((start) => file.slice(start, start + SAMPLE_BYTES));
    const sample = new Blob(pieces);
    const [checksum = ""] = await this.#context.checksums.of(sample, sample.size);
    return checksum;
  }

  #api(token) {
    return token ? this.#context.api.with({ token }) : this.#context.api;
  }
}
