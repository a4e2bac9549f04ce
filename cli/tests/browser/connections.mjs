// How many connections the client finds good, on lines that are computed, not waited for: the clock is ours.

import assert from "node:assert/strict";
import { Connections } from "../../../static/upflow/connections.js";
import { KIB, MIB } from "./files.mjs";

let now = 0;
globalThis.performance = { now: () => now };

const STEP_MS = 20;

/** Sends chunks for so many seconds; `gives(n)` is what the line gives to `n` connections, in bytes a second. */
function send(connections, active, gives, seconds, chunk) {
  const limits = [];
  for (const until = now + seconds * 1000; now < until; now += STEP_MS) {
    while (connections.take(() => {})) active.push(chunk);
    const each = (gives(active.length) / active.length) * (STEP_MS / 1000);
    for (let i = active.length - 1; i >= 0; i--) {
      connections.moved(Math.min(each, active[i]));
      active[i] -= each;
      if (active[i] > 0) continue;
      active.splice(i, 1);
      connections.arrived();
      connections.release();
    }
    limits.push(connections.limit);
  }
  return limits;
}

/** In the last half of the time the limit was here, but for the looks it takes now and then. */
function settles(limits, least, most, line) {
  const late = limits.slice(limits.length / 2);
  const share = late.filter((limit) => limit >= least && limit <= most).length / late.length;
  assert.ok(share > 0.75, `${line}: ${Math.round(share * 100)}% of the time at ${least} to ${most}`);
  assert.ok(Math.max(...limits) <= 6 && Math.min(...limits) >= 1);
}

for (const chunk of [64 * KIB, MIB, 8 * MIB]) {
  const rate = chunk * 2;
  settles(send(new Connections(6), [], (n) => n * rate, 120, chunk), 5, 6, "each connection brings more");
  settles(send(new Connections(6), [], () => 4 * rate, 240, chunk), 2, 3, "one line for all");
  settles(send(new Connections(6), [], (n) => Math.min(n, 3) * rate, 240, chunk), 3, 4, "three fill the line");

  // The line changes under way.
  const [connections, active] = [new Connections(6), []];
  settles(send(connections, active, (n) => n * rate, 120, chunk), 5, 6, "at first");
  settles(send(connections, active, () => 2 * rate, 240, chunk), 2, 3, "then narrower");
  settles(send(connections, active, (n) => n * rate, 240, chunk), 5, 6, "then wide again");

  // Failures that come together halve once; a number set by hand is kept.
  connections.strained();
  connections.strained();
  assert.ok(connections.limit >= 2 && connections.limit <= 3, "halved once");
  while (connections.take(() => {}, 6)) active.push(chunk);
  assert.equal(active.length, 6);
}
