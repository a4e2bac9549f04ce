// One upload from init to the finished file.

import { ChunkState, Chunks } from "./chunks.js";
import { combine } from "./crc64nvme.js";
import { UpFlowError } from "./error.js";
import { isOffline, sleep } from "./retry.js";
import { Sending } from "./sending.js";

/** A file up to here that fits in one chunk is summed before init: one call less, and S3 gets the whole. */
const ONE_CHUNK_BYTES = 8 * 1024 * 1024;
/** Rounds of sending what the server turns out to miss. */
const MAX_ROUNDS = 5;
/** Short, so that a page shows how far the assembly is and long polls do not hold connections. */
const POLL_SECONDS = 5;
const POLL_PAUSE_MS = 1_000;
/** Progress is told at most this often, */
const TELL_MS = 250;
/** and this often when nothing changes: the rate does. */
const TICK_MS = 1_000;

/**
 * @typedef {object} Progress
 * @property {"starting"|"sending"|"assembling"|"verifying"|"completed"|"failed"|"cancelling"|"cancelled"|"stopped"} phase
 * @property {boolean} paused
 * @property {?string} uploadId once the server has made the upload
 * @property {?string} status the upload's own, as the server last told: `initialized`, `uploading`, …
 * @property {number} totalBytes
 * @property {number} sentBytes really sent, bytes of chunks under way included
 * @property {?Chunks} chunks `states` (a `ChunkState` each), `counts`, `chunkSize`, `total`; null before the plan
 * @property {number} assembledChunks chunks that the server has put into the finished file
 * @property {number} bytesPerSecond 0 as long as it cannot be told
 * @property {?number} secondsLeft
 * @property {?{detail: string, retryAt: number, offline: boolean}} trouble what is being tried again, and when
 */

/** Made by `UpFlow.upload()`. */
export class Upload {
  #context;
  #options;
  #api;
  #stop = new AbortController();
  #phase = "starting";
  #paused = false;
  #wake = () => {};
  #sending = null;
  #chunks = null;
  #token;
  #server = null;
  #trouble = null;
  #told = 0;
  #timer = 0;
  #over = false;

  constructor(context, file, options) {
    this.#context = context;
    this.#options = options;
    this.#token = options.uploadToken;
    this.file = file;
    this.#api = this.#authorized();
    /** What the server says of the finished upload; rejects with an `UpFlowError`. */
    this.done = this.#run();
    // Who only watches `onProgress` need not catch as well.
    this.done.catch(() => {});
  }

  get uploadId() {
    return this.#server?.upload_id ?? this.#options.uploadId ?? null;
  }

  /** The token for this upload alone, where the server gives one: with `uploadId` it resumes the upload later. */
  get uploadToken() {
    return this.#token;
  }

  /**
   * `true` when the checksum of the finished file equals the one computed here of the whole file,
   * `null` when the server told none to compare, or before the end.
   */
  verified = null;

  /** @returns {Progress} */
  get progress() {
    const chunks = this.#chunks;
    const sentBytes = chunks?.sentBytes ?? 0;
    const rate = this.#phase === "sending" && !this.#paused ? (chunks?.rate() ?? 0) : 0;
    return {
      phase: this.#phase,
      paused: this.#paused,
      uploadId: this.uploadId,
      status: this.#server?.status ?? null,
      totalBytes: this.file.size,
      sentBytes,
      chunks,
      assembledChunks: this.#server?.assembled_chunks ?? 0,
      bytesPerSecond: rate,
      secondsLeft: rate > 0 ? (this.file.size - sentBytes) / rate : null,
      trouble: this.#trouble,
    };
  }

  /** Stops sending at once; chunks that were under way start anew. While the server assembles there is nothing to pause. */
  pause() {
    if (this.#paused || this.#over) return;
    this.#paused = true;
    this.#trouble = null;
    this.#sending?.pause();
    this.#tell(true);
  }

  resume() {
    if (!this.#paused || this.#over) return;
    this.#paused = false;
    this.#chunks?.forgetRate();
    this.#sending?.resume();
    this.#wake();
    this.#tell(true);
  }

  /**
   * Ends the upload here and on the server, which removes what was sent. `done` rejects with
   * `cancelled`; this resolves to what the server says, or `null` if it had not made the upload yet.
   */
  async cancel() {
    this.#end(new UpFlowError("cancelled", "The upload was cancelled."), "cancelling");
    await this.done.catch(() => {});
    const uploadId = this.uploadId;
    const upload = uploadId && (await this.#authorized({ signal: undefined }).abort(uploadId));
    this.#phase = "cancelled";
    this.#tell(true);
    return upload;
  }

  #end(reason, phase) {
    this.#phase = phase;
    this.#stop.abort(reason);
    this.#wake();
    this.#tell(true);
  }

  #authorized(hooks = { signal: this.#stop.signal }) {
    return this.#context.api.with({
      ...(this.#token && { token: this.#token }),
      onRetry: (trouble) => this.#onRetry(trouble),
      onAnswer: () => this.#onAnswer(),
      ...hooks,
    });
  }

  async #run() {
    const { signal } = this.#options;
    const stop = () =>
      this.#end(new UpFlowError("stopped", "Sending was stopped; the upload can be resumed.", { cause: signal.reason }), "stopped");
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    const tick = setInterval(() => this.#phase === "sending" && this.#tell(), TICK_MS);
    try {
      // Not before the caller has what `upload()` returns.
      await null;
      this.#tell(true);
      const upload = await this.#toTheEnd();
      this.#phase = "completed";
      return upload;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#phase = "failed";
      throw this.#stop.signal.aborted ? this.#stop.signal.reason : asUpFlowError(error);
    } finally {
      this.#over = true;
      this.#trouble = null;
      clearInterval(tick);
      signal?.removeEventListener("abort", stop);
      this.#tell(true);
    }
  }

  async #toTheEnd() {
    await this.#unpaused();
    let sending = this.#options.uploadId ? await this.#reopen() : await this.#init();
    let upload = this.#server;
    for (let round = 1; upload.status !== "completed"; round++) {
      if (round > MAX_ROUNDS) {
        throw new UpFlowError("chunks_missing", `After ${MAX_ROUNDS} rounds the server still misses chunks that were sent.`);
      }
      if (upload.status !== "pending_assembly") {
        await this.#send(sending ?? this.#newSending());
        sending = null;
        await this.#unpaused();
        this.#enter("assembling");
        upload = await this.#complete();
      }
      if (upload?.status === "pending_assembly") upload = await this.#assembled();
      if (upload === null || upload.status === "uploading") {
        this.#enter("sending");
        upload = await this.#reconcile();
      } else if (upload.status !== "completed") {
        throw ended(upload);
      }
    }
    this.#chunks.reset(this.#chunks.states.keys());
    await this.#verify(upload);
    return upload;
  }

  async #init() {
    const { chunkSize, contentType = mediaType(this.file), metadata, filename = this.file.name } = this.#options;
    const { size } = this.file;
    const single = size <= Math.min(chunkSize ?? ONE_CHUNK_BYTES, ONE_CHUNK_BYTES);
    const [checksum] = single ? await this.#context.checksums.of(this.file, size) : [];
    const asked = Date.now();
    const request = {
      filename: filename ?? "file",
      file_size: size,
      chunk_size: chunkSize,
      content_type: contentType,
      metadata,
      checksum,
      chunks: checksum && [{ chunk_index: 0, checksum }],
    };
    const made = await this.#api.init(request, randomKey());
    this.#token = made.upload_token ?? this.#token;
    this.#take(made);
    this.#api = this.#authorized();
    this.#chunks = new Chunks(this.file, made);
    if (checksum) this.#chunks.checksums[0] = checksum;
    this.#tell(true);
    if (this.#stop.signal.aborted) throw this.#stop.signal.reason;
    return this.#newSending(made.presigned, asked);
  }

  /** Goes by what the server finds in the bucket, not by what anybody remembers. */
  async #reopen() {
    const upload = this.#take(await this.#api.get(this.#options.uploadId));
    if (upload.checksum_algorithm !== "crc64nvme") {
      throw new UpFlowError("unsupported_checksum", `This upload uses ${upload.checksum_algorithm}; only its own client can go on with it.`);
    }
    this.#chunks = new Chunks(this.file, upload);
    if (upload.status === "aborted" || upload.status === "expired") throw ended(upload);
    this.#chunks.reset(upload.uploaded_chunks);
    this.#tell(true);
    if (upload.status !== "completed" && upload.status !== "pending_assembly") await this.#reconcile();
    return null;
  }

  #newSending(presigned, asked) {
    return new Sending(
      {
        api: this.#api,
        uploadId: this.uploadId,
        chunks: this.#chunks,
        checksums: this.#context.checksums,
        connections: this.#context.connections,
        parallel: this.#options.parallel,
        signal: this.#stop.signal,
        trace: this.#context.trace,
        onChange: () => this.#tell(),
        onStatus: (status) => (this.#server = { ...this.#server, status }),
        onRetry: (trouble) => this.#onRetry(trouble),
        onAnswer: () => this.#onAnswer(),
      },
      presigned,
      asked,
    );
  }

  async #send(sending) {
    this.#sending = sending;
    this.#enter("sending");
    if (this.#paused) sending.pause();
    await sending.run();
    this.#sending = null;
  }

  /** `null` when chunks are missing. */
  async #complete() {
    for (;;) {
      try {
        return this.#take(await this.#api.complete(this.uploadId));
      } catch (error) {
        if (error.code === "upload_incomplete") return null;
        if (error.code !== "confirm_in_progress") throw error;
        await sleep((error.retryAfter || 1) * 1000, this.#stop.signal);
      }
    }
  }

  async #assembled() {
    this.#enter("assembling");
    this.#chunks.reset(this.#chunks.states.keys());
    for (;;) {
      const asked = Date.now();
      const upload = this.#take(await this.#api.wait(this.uploadId, POLL_SECONDS));
      this.#tell();
      if (upload.status !== "pending_assembly") return upload;
      // A server that has too many polls answers at once.
      const rest = POLL_PAUSE_MS - (Date.now() - asked);
      if (rest > 0) await sleep(rest, this.#stop.signal);
    }
  }

  async #reconcile() {
    const upload = this.#take(await this.#api.reconcile(this.uploadId));
    this.#chunks.reset(upload.uploaded_chunks);
    return upload;
  }

  /** Compares the checksum of the finished file with that of the file here, chunk by chunk computed. */
  async #verify({ integrity }) {
    const { checksums, total, chunkSize } = this.#chunks;
    if (this.#options.verify === false || !integrity?.value || integrity.algorithm !== "crc64nvme" || total === 0) return;
    this.#enter("verifying");
    for (let i = 0; i < total; i++) {
      // Of chunks that were sent before this page was opened.
      if (checksums[i]) continue;
      [checksums[i]] = await this.#context.checksums.of(this.#chunks.slice(i), chunkSize);
      if (this.#stop.signal.aborted) throw this.#stop.signal.reason;
    }
    const whole = combine(checksums, chunkSize, this.#chunks.length(total - 1));
    if (whole !== integrity.value) {
      throw new UpFlowError(
        "checksum_mismatch",
        "The finished file is not the file on this device: its checksum is another. The file was probably changed between two sessions. Do not use the finished file; send it again.",
      );
    }
    this.verified = true;
  }

  #take(upload) {
    this.#server = { ...upload, presigned: undefined };
    return this.#server;
  }

  #enter(phase) {
    if (this.#stop.signal.aborted) throw this.#stop.signal.reason;
    this.#phase = phase;
    this.#tell(true);
  }

  async #unpaused() {
    while (this.#paused && !this.#stop.signal.aborted) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
    if (this.#stop.signal.aborted) throw this.#stop.signal.reason;
  }

  #onRetry({ detail, wait }) {
    if (this.#paused) return;
    this.#trouble = { detail, retryAt: Date.now() + wait, offline: isOffline() };
    this.#tell(true);
  }

  #onAnswer() {
    this.#trouble = null;
  }

  #tell(now = false) {
    const { onProgress } = this.#options;
    if (!onProgress) return;
    const wait = this.#told + TELL_MS - Date.now();
    if (!now && wait > 0) {
      this.#timer ||= setTimeout(() => this.#tell(true), wait);
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#told = Date.now();
    onProgress(this.progress);
  }
}

function ended({ status, failure }) {
  if (status === "failed") {
    const detail = failure?.detail ?? "no reason was given";
    return new UpFlowError(failure?.code ?? "upload_failed", `The server could not put the file together: ${detail}.`);
  }
  const ends = { aborted: "was cancelled", expired: "waited too long for its chunks and has expired" };
  return new UpFlowError(`upload_${status}`, `This upload ${ends[status] ?? `is ${status}`}; what was sent is removed. Send the file anew.`);
}

function asUpFlowError(error) {
  if (error instanceof UpFlowError) return error;
  return new UpFlowError("internal_error", `Something went wrong in this page: ${error?.message ?? error}`, { cause: error });
}

/** The browser's guess, if it is one that an HTTP header may carry. */
function mediaType({ type }) {
  return /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+$/.test(type) ? type : undefined;
}

/** `crypto.randomUUID` is for secure contexts only. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

