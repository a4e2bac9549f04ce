// What a page may show of the requests that are made: where they go, what they say, how they end.
// Tokens and the query strings of presigned URLs, which are as good as keys, are masked here, so that
// nobody who watches can show them.

const MASK = "••••";
/** Of a long list so many are shown. */
const SHOWN = 3;

/**
 * @typedef {object} RequestSeen
 * @property {number} id
 * @property {"server"|"storage"} to
 * @property {string} method
 * @property {string} url without its secrets
 * @property {Object<string, string>} headers without theirs
 * @property {?object} body what was sent, if it was JSON: long lists are cut
 * @property {?number} bytes what was sent, if it was a chunk
 * @property {?number} status `null` as long as there is no answer, 0 if none came
 * @property {boolean} stopped there is no answer because it was broken off here: for a pause, or at the end
 * @property {?object|string} answer the JSON that came; of S3 its error code
 * @property {number} startedAt milliseconds, as of `Date.now()`
 * @property {?number} milliseconds that it took
 */

export class Trace {
  #watch;
  #next = 1;

  /** @param {(request: RequestSeen) => void} [watch] called when a request begins, and when it has ended */
  constructor(watch) {
    this.#watch = watch;
  }

  /**
   * @param {{to: string, method: string, url: string|URL, headers: object, body: ?object, bytes: ?number}} request
   * @returns {(status: number, answer: ?object|string, stopped: boolean) => void} to be called at its end
   */
  begin({ to, method, url, headers, body = null, bytes = null }) {
    if (!this.#watch) return () => {};
    const began = performance.now();
    const request = {
      id: this.#next++,
      to,
      method,
      url: withoutSecrets(String(url)),
      headers: masked(headers),
      body: masked(body),
      bytes,
      status: null,
      stopped: false,
      answer: null,
      startedAt: Date.now(),
      milliseconds: null,
    };
    this.#watch(request);
    return (status, answer = null, stopped = false) => {
      const milliseconds = performance.now() - began;
      Object.assign(request, { status, stopped, answer: masked(answer), milliseconds });
      this.#watch(request);
    };
  }
}

function withoutSecrets(url) {
  return /[?&]X-Amz-/i.test(url) ? `${url.slice(0, url.indexOf("?"))}?X-Amz-Signature=${MASK}` : url;
}

function masked(value, name = "") {
  if (typeof value === "string") {
    if (/^authorization$/i.test(name)) return `Bearer ${MASK}`;
    return /token/i.test(name) ? MASK : withoutSecrets(value);
  }
  if (Array.isArray(value)) {
    const shown = value.slice(0, SHOWN).map((item) => masked(item));
    return value.length > SHOWN ? [...shown, `… ${value.length - SHOWN} more`] : shown;
  }
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, masked(item, key)]));
}
