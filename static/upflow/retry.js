// How long to wait before another try, and waiting itself.

/** Failures in a row after which something is given up, about two minutes. Offline nothing counts. */
export const MAX_FAILURES = 10;

const FIRST_MS = 500;
const LONGEST_MS = 20_000;

/**
 * Exponential, with jitter over the upper half: many clients that lost a server at the same time do
 * not all come back at the same time.
 */
export function backoff(failures, retryAfterSeconds = 0) {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** (failures - 1));
  const wait = ceiling / 2 + (Math.random() * ceiling) / 2;
  return Math.max(wait, Math.min(retryAfterSeconds, 60) * 1000);
}

/** Whether to try again after so many failures. A device that knows it is offline is patient. */
export function mayRetry(failures) {
  return failures <= MAX_FAILURES || isOffline();
}

export function isOffline() {
  return globalThis.navigator?.onLine === false;
}

/** HTTP statuses that pass by themselves. */
export function isTransient(status) {
  return status === 408 || status === 425 || status === 429 || status >= 500;
}

/** Resolves after `ms`, when the device comes online, or when `signal` is aborted. */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
      globalThis.removeEventListener?.("online", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal?.addEventListener("abort", finish);
    globalThis.addEventListener?.("online", finish);
  });
}
