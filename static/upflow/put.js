// One PUT to S3 by a presigned URL. XMLHttpRequest, since browsers tell only there how many bytes
// have really been sent.

/** A connection on which nothing moved for this long is given up. */
const STALL_MS = 60_000;
/** How long S3 may think once it has the last byte; some of it may still wait in this device's buffers. */
const LAST_WORD_MS = 300_000;

/**
 * Never rejects. `status` is 0 when there was no answer that a browser may read: no connection, or an
 * error page without CORS headers. `aborted` tells that it was `signal`.
 *
 * @param {{url: string, method: string, headers: Object<string, string>}} presigned
 * @param {Blob} body
 * @param {{signal: AbortSignal, onSent: (bytes: number) => void, trace: import("./trace.js").Trace}} options
 * @returns {Promise<{status: number, code: string, message: string, aborted: boolean}>}
 */
export function put(presigned, body, { signal, onSent, trace }) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve({ status: 0, code: "", message: "", aborted: true });
    const request = new XMLHttpRequest();
    const seen = trace.begin({ to: "storage", ...presigned, body: null, bytes: body.size });
    let timer = 0;
    const abort = () => request.abort();
    const watch = (ms) => {
      clearTimeout(timer);
      timer = setTimeout(abort, ms);
    };
    const answer = (aborted) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      const { status } = request;
      const text = status >= 300 ? request.responseText : "";
      const code = element(text, "Code");
      seen(status, code || null, aborted);
      resolve({ status, code, message: element(text, "Message"), aborted });
    };
    request.onload = () => answer(false);
    request.onerror = () => answer(false);
    request.onabort = () => answer(signal.aborted);
    request.upload.onprogress = (event) => {
      watch(STALL_MS);
      onSent(Math.min(event.loaded, body.size));
    };
    request.upload.onload = () => watch(LAST_WORD_MS);
    request.open(presigned.method, presigned.url);
    for (const [name, value] of Object.entries(presigned.headers)) request.setRequestHeader(name, value);
    signal.addEventListener("abort", abort);
    watch(STALL_MS);
    request.send(body);
  });
}

/** Only these are taken of S3's error document: the rest can hold what was signed. */
function element(text, name) {
  return new RegExp(`<${name}>([^<]{0,200})</${name}>`).exec(text)?.[1] ?? "";
}
