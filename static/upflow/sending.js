// Sends the chunks that are missing. At most one call gets checksums and URLs for the chunks ahead, at
// most one confirms what is in S3, and as many chunks are under way as `Connections` finds good, or as the
// caller has set.

import { CHUNKS_PER_CALL } from "./api.js";
import { ChunkState } from "./chunks.js";
import { confirmAt } from "./confirming.js";
import { UpFlowError } from "./error.js";
import { put } from "./put.js";
import { backoff, isTransient, mayRetry, sleep } from "./retry.js";

/** The first window of URLs is for this many bytes and chunks; later ones for some seconds of sending. */
const FIRST_WINDOW_BYTES = 32 * 1024 * 1024;
const FIRST_WINDOW_CHUNKS = 32;
const WINDOW_SECONDS = 8;
/** One call is for so much of it at most: its checksums come first, and nothing must run dry meanwhile; */
const CALL_BYTES = 32 * 1024 * 1024;
/** and for so much where the line waits already. */
const URGENT_BYTES = 8 * 1024 * 1024;
/** Chunks that follow each other are read and summed in one go up to here. */
const RUN_BYTES = 4 * 1024 * 1024;

/** Other URLs that are tried for a chunk that S3 refused, */
const MAX_REFUSALS = 3;
/** and times that a chunk is sent again because the server did not find it as it should be. */
const MAX_RESENDS = 3;

/** S3 says these of a body that came too slowly or was cut. */
const INTERRUPTED = new Set(["RequestTimeout", "IncompleteBody"]);

export class Sending {
  #job;
  #todo;
  #ready;
  #began = Date.now();
  /** In S3, not confirmed. */
  #sent = [];
  #sentSince = 0;
  #lanes = 0;
  /** So many chunks; at most one call is under way. */
  #preparing = 0;
  #confirming = false;
  #confirmTimer;
  #paused = false;
  #over = false;
  /** Failed PUTs since one succeeded. */
  #failures = 0;
  /** Ends the PUTs that are under way: for a pause, and at the end. */
  #puts = new AbortController();
  /** Set once it runs. */
  #settle = null;
  #again = () => this.#pump();

  /**
   * @param {object} job `api`, `uploadId`, `chunks`, `checksums`, `connections`, `parallel` (or not),
   *   `signal`, `trace`, `onChange()`, `onStatus(status)`, `onRetry({detail, wait})`, `onAnswer()`
   * @param {Array} presigned chunks for which there are URLs already, asked for at `asked`
   */
  constructor(job, presigned = [], asked = 0) {
    this.#job = job;
    this.#todo = job.chunks.missing().map((index) => ({ index, failures: 0, refusals: 0, resends: 0 }));
    this.#ready = this.#withUrls(this.#todo.splice(0, presigned.length), presigned, asked);
  }

  /** Resolves when every chunk is in S3. The last few may be unconfirmed: completing confirms them. */
  run() {
    return new Promise((resolve, reject) => {
      const { signal } = this.#job;
      const stop = () => this.#finish(() => reject(signal.reason));
      this.#settle = { resolve, reject, stop };
      if (signal.aborted) return stop();
      signal.addEventListener("abort", stop);
      this.#pump();
    });
  }

  /** Nothing is sent any more when this returns; what was under way will be sent again. */
  pause() {
    this.#paused = true;
    this.#puts.abort();
    this.#pump();
  }

  resume() {
    this.#paused = false;
    this.#puts = new AbortController();
    this.#pump();
  }

  #finish(settle) {
    if (this.#over) return;
    this.#over = true;
    this.#puts.abort();
    clearTimeout(this.#confirmTimer);
    const { chunks } = this.#job;
    chunks.states.forEach((state, index) => state === ChunkState.sending && chunks.set(index, ChunkState.waiting));
    this.#job.signal.removeEventListener("abort", this.#settle.stop);
    settle();
  }

  #fail(error) {
    this.#finish(() => this.#settle.reject(error));
  }

  #pump() {
    if (this.#over || !this.#settle) return;
    if (!this.#paused) {
      this.#startPuts();
      this.#startPreparing();
    }
    this.#startConfirming();
    const busy = this.#lanes > 0 || this.#confirming;
    if (!busy && this.#toBegin === 0) this.#finish(this.#settle.resolve);
    this.#job.onChange();
  }

  #startPuts() {
    const { connections, parallel } = this.#job;
    while (this.#lanes < this.#mostLanes && this.#ready.length > 0) {
      if (Date.now() >= this.#ready[0].goodUntil) {
        this.#todo.unshift(this.#ready.shift());
        continue;
      }
      if (!connections.take(this.#again, parallel && connections.max)) return;
      this.#lanes++;
      this.#lane(this.#ready.shift()).catch((error) => this.#fail(error)).then(() => {
        this.#lanes--;
        this.#pump();
      });
    }
  }

  /** Chunks, those included that are being prepared. */
  get #toBegin() {
    return this.#preparing + this.#ready.length + this.#todo.length;
  }

  get #mostLanes() {
    return this.#job.parallel ?? this.#job.connections.max;
  }

  async #lane(item) {
    const { chunks, connections, trace, onAnswer, onChange } = this.#job;
    chunks.set(item.index, ChunkState.sending);
    const onSent = (bytes) => {
      connections.moved(chunks.progress(item.index, bytes));
      onChange();
    };
    const { signal } = this.#puts;
    const answer = await put(item.presigned, chunks.slice(item.index), { signal, onSent, trace });
    const taken = answer.status >= 200 && answer.status < 300;
    if (taken) {
      connections.moved(chunks.progress(item.index, chunks.length(item.index)));
      connections.arrived();
    } else if (!answer.aborted && (answer.status === 0 || isTransient(answer.status))) {
      connections.strained();
    }
    connections.release();
    if (this.#over) return;
    chunks.set(item.index, taken ? ChunkState.sent : ChunkState.waiting);
    if (taken) {
      this.#failures = 0;
      onAnswer();
      if (this.#sent.length === 0) this.#sentSince = Date.now();
      this.#sent.push(item);
    } else if (answer.aborted) {
      this.#ready.unshift(item);
    } else {
      await this.#afterFailure(item, answer);
    }
  }

  /** The lane stays taken while it waits, so that a storage that is down is not hammered. */
  async #afterFailure(item, { status, code, message }) {
    const { signal, onRetry } = this.#job;
    item.failures++;
    this.#failures++;
    const problem = describe(item, status, code, message);
    const again = isTransient(status) || status === 409;
    const passes = again || status === 0 || INTERRUPTED.has(code) || isExpired(code, message);
    if (!passes && ++item.refusals > MAX_REFUSALS) throw problem;
    const failures = Math.max(item.failures, Math.ceil(this.#failures / this.#mostLanes));
    if (!mayRetry(failures)) throw problem;
    const wait = backoff(failures);
    onRetry({ detail: problem.detail, wait });
    await sleep(wait, signal);
    if (again) {
      this.#ready.unshift(item);
      return;
    }
    // Another URL, and the bytes read again: this is where a file that was changed shows.
    item.suspect = true;
    this.#todo.unshift(item);
  }

  #startPreparing() {
    const { chunks } = this.#job;
    if (this.#preparing > 0 || this.#todo.length === 0) return;
    const first = Math.min(FIRST_WINDOW_BYTES / chunks.chunkSize, FIRST_WINDOW_CHUNKS);
    const later = (chunks.rate() * WINDOW_SECONDS) / chunks.chunkSize;
    const size = Math.min(Math.max(1, Math.round(Math.max(first, later))), CHUNKS_PER_CALL);
    if (this.#ready.length >= Math.max(Math.ceil(size / 2), Math.min(this.#mostLanes, size))) return;
    const most = this.#lanes > 0 || this.#ready.length > 0 ? CALL_BYTES : URGENT_BYTES;
    const inOneCall = Math.max(1, Math.floor(most / chunks.chunkSize));
    const items = this.#todo.splice(0, Math.min(size, inOneCall));
    this.#preparing = items.length;
    this.#prepare(items)
      .catch((error) => this.#fail(error))
      .then(() => {
        this.#preparing = 0;
        this.#pump();
      });
  }

  async #prepare(items) {
    const { api, uploadId } = this.#job;
    await this.#sum(items);
    if (this.#over) return;
    const asked = Date.now();
    const wanted = items.map(({ index }) => ({ chunk_index: index, checksum: this.#job.chunks.checksums[index] }));
    const { chunks } = await api.presign(uploadId, wanted);
    this.#ready.push(...this.#withUrls(items, chunks, asked));
  }

  /** Computes the checksums that are missing or in doubt. */
  async #sum(items) {
    const { chunks, checksums } = this.#job;
    const most = Math.max(1, Math.floor(RUN_BYTES / chunks.chunkSize));
    const runs = [];
    for (const item of items) {
      if (chunks.checksums[item.index] && !item.suspect) continue;
      const run = runs.at(-1);
      if (run && run.length < most && run.at(-1).index + 1 === item.index) run.push(item);
      else runs.push([item]);
    }
    await Promise.all(
      runs.map(async (run) => {
        const found = await checksums.of(chunks.slice(run[0].index, run.length), chunks.chunkSize);
        run.forEach((item, i) => {
          const known = chunks.checksums[item.index];
          if (known && known !== found[i]) throw changed();
          chunks.checksums[item.index] = found[i];
          item.suspect = false;
        });
      }),
    );
  }

  #withUrls(items, presigned, asked) {
    const { chunks } = this.#job;
    const byIndex = new Map(presigned.map((chunk) => [chunk.chunk_index, chunk]));
    return items.map((item) => {
      const chunk = byIndex.get(item.index);
      if (chunk?.method !== "PUT" || chunk.size_bytes !== chunks.length(item.index)) {
        throw new UpFlowError("server_unreadable", `The server gave no URL that fits chunk ${item.index}.`);
      }
      // By this device's clock, which may be wrong; and a request takes its time to reach S3.
      const life = chunk.expires_in * 1000;
      return Object.assign(item, { presigned: chunk, goodUntil: asked + life - Math.min(5_000, life / 4) });
    });
  }

  /**
   * In how many milliseconds the chunks that were sent are to be confirmed; undefined where others have to end first,
   * or completing confirms them.
   */
  get #confirmIn() {
    if (this.#confirming || this.#sent.length === 0) return undefined;
    const stand = {
      total: this.#job.chunks.total,
      toBegin: this.#toBegin,
      sending: this.#lanes,
      parallel: this.#job.parallel ?? this.#job.connections.limit,
      sent: this.#sent.length,
    };
    const at = confirmAt(stand, this.#began, this.#sentSince);
    if (at === undefined) return undefined;
    return this.#paused ? 0 : Math.max(0, at - Date.now());
  }

  #startConfirming() {
    clearTimeout(this.#confirmTimer);
    const wait = this.#confirmIn;
    if (wait === undefined) return;
    if (wait > 0) {
      this.#confirmTimer = setTimeout(() => this.#pump(), wait);
      return;
    }
    this.#confirming = true;
    this.#confirm(this.#sent.splice(0, CHUNKS_PER_CALL))
      .catch((error) => this.#fail(error))
      .then(() => {
        this.#confirming = false;
        this.#pump();
      });
  }

  async #confirm(items) {
    const { api, uploadId, chunks } = this.#job;
    this.#sentSince = Date.now();
    const { confirmed, rejected, status } = await api.confirm(uploadId, items.map(({ index }) => index));
    this.#job.onStatus(status);
    for (const index of confirmed) chunks.set(index, ChunkState.confirmed);
    const byIndex = new Map(items.map((item) => [item.index, item]));
    for (const { chunk_index, code, detail } of rejected) {
      const item = byIndex.get(chunk_index);
      if (++item.resends > MAX_RESENDS) throw new UpFlowError(code, `The server does not accept a chunk: ${detail}.`);
      item.suspect = true;
      chunks.set(chunk_index, ChunkState.waiting);
      this.#todo.push(item);
    }
  }
}

function isExpired(code, message) {
  return /expired/i.test(code) || /expired/i.test(message);
}

function describe({ index, presigned }, status, code, message) {
  const { host } = new URL(presigned.url);
  if (status === 0) {
    return new UpFlowError(
      "storage_unreachable",
      `Chunk ${index} did not get through to the storage at ${host}. Check the connection; if it is fine, ` +
        "the bucket may lack a CORS rule for this page.",
    );
  }
  const said = [status, code, message.replace(/\.$/, "")].filter(Boolean).join(" ");
  if (isExpired(code, message)) {
    const detail = `The URL for chunk ${index} had expired (${said}). If this lasts, compare the clocks of the server and of ${host}.`;
    return new UpFlowError("urls_expired", detail, { status });
  }
  const ours = isTransient(status) ? "" : " The server's S3 settings are to be looked at: endpoint, bucket, region, credentials.";
  return new UpFlowError("storage_refused", `The storage at ${host} does not take chunk ${index}: ${said}.${ours}`, { status });
}

function changed() {
  return new UpFlowError(
    "file_changed",
    "The file was changed while it was being sent, so what is in the storage would be a mixture. " +
      "Cancel this upload, and send the file again once nothing writes to it.",
  );
}
