// When the client confirms what it has sent: as the command does it.

import assert from "node:assert/strict";
import { confirmAt } from "../../../static/upflow/confirming.js";

/** In how many milliseconds, of an upload that began so many before its first unconfirmed chunk was sent. */
function confirmedIn(age, total, toBegin, sending, sent, parallel = 6) {
  const sentSince = 1_000_000;
  const at = confirmAt({ total, toBegin, sending, parallel, sent }, sentSince - age, sentSince);
  return at === undefined ? undefined : at - sentSince;
}

// Once a second, and sooner where many wait.
assert.equal(confirmedIn(5_000, 100, 50, 6, 15), 1_000);
assert.equal(confirmedIn(5_000, 100, 50, 6, 16), 250);
// The last ones, and those shortly before.
assert.equal(confirmedIn(5_000, 100, 13, 6, 3), 1_000);
assert.equal(confirmedIn(5_000, 100, 12, 6, 3), 100);
assert.equal(confirmedIn(5_000, 100, 12, 0, 3), 100);
assert.equal(confirmedIn(5_000, 100, 0, 1, 3), 100);
assert.equal(confirmedIn(0, 17, 9, 6, 3), 100);
assert.equal(confirmedIn(5_000, 500, 32, 64, 3, 64), 100);
assert.equal(confirmedIn(5_000, 500, 33, 64, 3, 64), 1_000);
// A small file is left to complete, unless it takes long.
assert.equal(confirmedIn(200, 12, 4, 6, 1), 800);
assert.equal(confirmedIn(200, 12, 0, 2, 5), 800);
assert.equal(confirmedIn(1_200, 12, 0, 2, 5), 100);
assert.equal(confirmedIn(1_200, 12, 0, 0, 12), undefined);
// Completing is left what it can look for without a listing.
assert.equal(confirmedIn(5_000, 100, 0, 0, 16), undefined);
assert.equal(confirmedIn(5_000, 100, 0, 0, 17), 0);
