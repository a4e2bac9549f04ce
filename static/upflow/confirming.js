// When the chunks that are in S3 are confirmed. A call costs the server what some chunks cost, so it is for several;
// but what is not confirmed is not assembled ahead, and what is not assembled by the end is waited for.

/** Chunks that are left for the call that completes the upload: the last ones, or all of a small file sent in no time. */
const FEW_CHUNKS = 16;
/** Chunks are confirmed when one has waited so long; */
const AFTER_MS = 1_000;
/** or so long, where this many wait; */
const SOON_MS = 250;
const MANY = 16;
/**
 * or so long, where no more are left to begin than so many times what is sent at once: the last ones should not wait
 * for a heap that came shortly before them.
 */
const LAST_MS = 100;
const LAST_ROUNDS = 2;
/** And no more than this, however many are sent at once: each may be a call. */
const LAST_CHUNKS = 32;

/**
 * When those that were sent are to be confirmed, the first of them since `sentSince`, of an upload that began to send
 * at `began`; undefined where completing confirms them. All in milliseconds.
 *
 * @param {object} stand in chunks: `total`, `toBegin`, `sending`, the most that are sent at once (`parallel`), and `sent`,
 *   which are not confirmed
 */
export function confirmAt({ total, toBegin, sending, parallel, sent }, began, sentSince) {
  const few = total <= FEW_CHUNKS;
  // Of more, completing would ask for a listing of all first.
  if (toBegin === 0 && sending === 0) return sent > FEW_CHUNKS ? sentSince : undefined;
  let wait = AFTER_MS;
  if (toBegin <= Math.min(LAST_CHUNKS, LAST_ROUNDS * parallel)) wait = LAST_MS;
  else if (sent >= MANY) wait = SOON_MS;
  // A small file may be sent in no time: that is waited for, once.
  return Math.max(sentSince + wait, few ? began + AFTER_MS : 0);
}
