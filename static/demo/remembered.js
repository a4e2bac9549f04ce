// Uploads that were begun and are not finished, kept in this browser. Only enough to find the upload
// and to recognise its file; what has arrived is asked of the server. In IndexedDB, which can hold file
// handles and is written at once: local storage loses the last seconds when a browser crashes.

const STORE = "uploads";
const LOCK = "upflow.upload.";

/**
 * @typedef {object} Remembered
 * @property {string} uploadId
 * @property {string} [uploadToken] good for this upload alone
 * @property {string} name
 * @property {number} size
 * @property {number} lastModified
 * @property {string} sample see `UpFlow.sample()`
 * @property {number} since
 * @property {?FileSystemFileHandle} handle of the file, where the browser gave one
 * @property {boolean} [paused] it waits for somebody to say so before it goes on
 */

let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("upflow", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "uploadId" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/** Never rejects: without storage nothing is kept, and the upload runs all the same. */
async function uploads(mode, act) {
  try {
    const request = act((await open()).transaction(STORE, mode, { durability: "strict" }).objectStore(STORE));
    return await new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } catch {
    return undefined;
  }
}

/** @returns {Promise<Remembered[]>} oldest first */
export async function remembered() {
  const found = (await uploads("readonly", (store) => store.getAll())) ?? [];
  return found.sort((a, b) => a.since - b.since);
}

/** @returns {Promise<Remembered|undefined>} */
export function recall(uploadId) {
  return uploads("readonly", (store) => store.get(uploadId));
}

/** @param {Remembered} entry */
export function remember(entry) {
  return uploads("readwrite", (store) => store.put(entry));
}

export function forget(uploadId) {
  return uploads("readwrite", (store) => store.delete(uploadId));
}

const held = new Map();

/**
 * While an upload runs, other tabs leave it alone. Answers `false` if one of them has it. Where the browser
 * has no locks, as on plain HTTP, every tab believes to be alone.
 */
export function hold(uploadId) {
  if (!navigator.locks || held.has(uploadId)) return Promise.resolve(true);
  return new Promise((answer) => {
    navigator.locks.request(LOCK + uploadId, { ifAvailable: true }, (lock) => {
      answer(lock !== null);
      if (lock) return new Promise((release) => held.set(uploadId, release));
    });
  });
}

export function release(uploadId) {
  held.get(uploadId)?.();
  held.delete(uploadId);
}

/** Resolves once no other tab has the upload: it has ended there, or the tab is gone. */
export async function whenFree(uploadId) {
  if (held.has(uploadId)) return;
  await navigator.locks?.request(LOCK + uploadId, { mode: "shared" }, () => {});
}
