// Uploads that were begun and are not finished, kept in this browser. Only enough to find the upload
// and to recognise its file; what has arrived is asked of the server.

const PREFIX = "upflow.upload.";

/**
 * @typedef {object} Remembered
 * @property {string} uploadId
 * @property {string} [uploadToken] good for this upload alone
 * @property {string} name
 * @property {number} size
 * @property {number} lastModified
 * @property {string} sample see `UpFlow.sample()`
 * @property {number} since
 */

/** @returns {Remembered[]} oldest first */
export function remembered() {
  const found = [];
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(PREFIX)) found.push(JSON.parse(localStorage.getItem(key)));
    }
  } catch {
    // No storage, or not ours: then there is nothing to offer.
  }
  return found.sort((a, b) => a.since - b.since);
}

/** @param {Remembered} entry */
export function remember(entry) {
  try {
    localStorage.setItem(PREFIX + entry.uploadId, JSON.stringify(entry));
  } catch {
    // Storage is full or forbidden: the upload runs all the same.
  }
}

export function forget(uploadId) {
  try {
    localStorage.removeItem(PREFIX + uploadId);
  } catch {
    // As above.
  }
}

const held = new Map();

/** While an upload runs, other tabs leave it alone. */
export function hold(uploadId) {
  if (!navigator.locks || held.has(uploadId)) return;
  held.set(uploadId, null);
  navigator.locks.request(PREFIX + uploadId, () => new Promise((release) => held.set(uploadId, release)));
}

export function release(uploadId) {
  held.get(uploadId)?.();
  held.delete(uploadId);
}

/** Ids of the uploads that some other tab is running. */
export async function runningElsewhere() {
  const state = await navigator.locks?.query();
  const names = (state?.held ?? []).map((lock) => lock.name);
  const ids = names.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
  return new Set(ids.filter((id) => !held.has(id)));
}
