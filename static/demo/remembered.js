// Uploads that were begun and are not finished, kept in this browser. Only enough to find the upload
// and to recognise its file; what has arrived is asked of the server.

import { dropHandle } from "./handles.js";

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
 * @property {boolean} [paused] it waits for somebody to say so before it goes on
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

export function isRemembered(uploadId) {
  return remembered().some((entry) => entry.uploadId === uploadId);
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
  dropHandle(uploadId);
  try {
    localStorage.removeItem(PREFIX + uploadId);
  } catch {
    // As above.
  }
}

const held = new Map();

/**
 * While an upload runs, other tabs leave it alone. Answers `false` if one of them has it. Where the browser
 * has no locks, as on plain HTTP, every tab believes to be alone.
 */
export function hold(uploadId) {
  if (!navigator.locks || held.has(uploadId)) return Promise.resolve(true);
  return new Promise((answer) => {
    navigator.locks.request(PREFIX + uploadId, { ifAvailable: true }, (lock) => {
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
  await navigator.locks?.request(PREFIX + uploadId, { mode: "shared" }, () => {});
}
