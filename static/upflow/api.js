// The calls of UpFlow's HTTP API. Each has a time limit and is tried again where that can help: all of
// them are safe to repeat (init by its idempotency key).

import { UpFlowError } from "./error.js";
import { backoff, isTransient, mayRetry, sleep } from "./retry.js";

/** The most chunks that one presign or confirm names. A server takes at least so many, and holds them all in its memory. */
export const CHUNKS_PER_CALL = 400;

const SHORT_MS = 60_000;
/** For calls in which the server asks S3 about up to a thousand chunks. */
const LONG_MS = 180_000;

export class Api {
  #server;
  #token;
  #hooks;

  /**
   * `hooks.signal` ends every call; `hooks.onRetry({detail, wait})` hears of each that is tried again
   * in `wait` milliseconds, and `hooks.onAnswer()` of each that was answered. `hooks.trace` sees all.
   */
  constructor(server, token, hooks = {}) {
    this.#server = new URL(server);
    if (!this.#server.pathname.endsWith("/")) this.#server.pathname += "/";
    this.#token = token;
    this.#hooks = hooks;
  }

  with({ token = this.#token, ...hooks }) {
    return new Api(this.#server, token, { ...this.#hooks, ...hooks });
  }

  /** With another token, or none. */
  as(token) {
    return new Api(this.#server, token, this.#hooks);
  }

  init(request, idempotencyKey) {
    const headers = { "Idempotency-Key": idempotencyKey };
    // Not cut off half-way: an upload that was made must be known, to be resumed or removed.
    return this.#call("POST", "init", { body: request, headers, whole: true });
  }

  get(uploadId) {
    return this.#call("GET", uploadId);
  }

  /** Answers once the upload is completed or has ended or failed, and after `seconds` in any case. */
  wait(uploadId, seconds) {
    const query = { wait_for: "completed", timeout_seconds: seconds };
    return this.#call("GET", uploadId, { query, limit: SHORT_MS + seconds * 1000 });
  }

  presign(uploadId, chunks) {
    return this.#call("POST", `${uploadId}/chunks/presign`, { body: { chunks } });
  }

  confirm(uploadId, chunks) {
    return this.#call("POST", `${uploadId}/chunks/confirm`, { body: { chunks }, limit: LONG_MS });
  }

  reconcile(uploadId) {
    return this.#call("POST", `${uploadId}/reconcile`, { limit: LONG_MS });
  }

  complete(uploadId) {
    return this.#call("POST", `${uploadId}/complete`, { limit: LONG_MS });
  }

  abort(uploadId) {
    return this.#call("DELETE", uploadId, { limit: LONG_MS });
  }

  download(uploadId) {
    return this.#call("GET", `${uploadId}/download`);
  }

  async #call(method, path, options = {}) {
    const { signal, onRetry, onAnswer } = this.#hooks;
    for (let failures = 1; ; failures++) {
      if (signal?.aborted) throw signal.reason;
      try {
        const answer = await this.#once(method, path, options);
        onAnswer?.();
        return answer;
      } catch (error) {
        const passes = error.code === "server_unreachable" || isTransient(error.status);
        if (signal?.aborted || !passes || !mayRetry(failures)) throw error;
        const wait = backoff(failures, error.retryAfter);
        onRetry?.({ detail: error.detail, wait });
        await sleep(wait, signal);
      }
    }
  }

  async #once(method, path, { body, headers = {}, query = {}, limit = SHORT_MS, whole = false }) {
    const url = new URL(`uploads/${path}`, this.#server);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    headers = { Accept: "application/json", ...headers };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;

    const signal = whole ? undefined : this.#hooks.signal;
    const controller = new AbortController();
    const stop = () => controller.abort();
    signal?.addEventListener("abort", stop);
    const timer = setTimeout(stop, limit);
    const seen = this.#hooks.trace?.begin({ to: "server", method, url, headers, body });
    try {
      const response = await fetch(url, {
        method,
        headers,
        body: body && JSON.stringify(body),
        signal: controller.signal,
        cache: "no-store",
        credentials: "omit",
      });
      const text = await response.text();
      return read(response, text, seen);
    } catch (error) {
      if (error instanceof UpFlowError) throw error;
      seen?.(0, null, signal?.aborted);
      if (signal?.aborted) throw signal.reason;
      throw new UpFlowError(
        "server_unreachable",
        `The UpFlow server at ${this.#server.host} does not answer. Check the connection, and whether it runs.`,
        { cause: error },
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }
}

function sentence(text = "") {
  const whole = /[.!?]$/.test(text) || text === "" ? text : `${text}.`;
  return whole.charAt(0).toUpperCase() + whole.slice(1);
}

function read(response, text, seen) {
  const { status } = response;
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {
    // Told below: something else than UpFlow may have answered.
  }
  seen?.(status, json);
  if (response.ok && json !== null) return json;
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  if (json?.code) {
    const fields = (json.errors ?? []).map((error) => error.detail);
    const said = fields.filter((detail) => !json.detail?.includes(detail));
    const advice = [json.detail, ...said].filter(Boolean).join("; ");
    const detail = [json.title, advice].map(sentence).filter(Boolean).join(" ");
    const missingChunks = json.missing_chunks;
    throw new UpFlowError(json.code, detail, { status, missingChunks, retryAfter });
  }
  throw new UpFlowError(
    "server_unreadable",
    `What answered (HTTP ${status}) does not speak as an UpFlow server does. Is the address right, and is a proxy in between?`,
    { status, retryAfter },
  );
}
