// Paused, cancelled, and what it costs the browser.

import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, ftruncateSync } from "node:fs";
import { join } from "node:path";
import { file, KIB, MIB } from "../files.mjs";
import { kept } from "../kept.mjs";
import { Demo } from "../page.mjs";
import { eventually } from "../wait.mjs";
import { arrives, begun } from "../uploads.mjs";

export async function paused_not_a_byte_moves(test) {
  const { demo, path } = await begun(test);
  const { stack, browser } = test;
  const card = demo.card("resume.bin");
  await card.press("Pause");
  await card.says("Paused");
  // What was under way is cut; what had arrived is confirmed.
  await eventually("nothing is under way", async () => browser.line.openTo(stack.s3) === 0);
  await eventually("what has arrived is confirmed", async () => (await card.count("sent")) === 0);
  const before = [browser.line.bytesTo(stack.s3), browser.line.bytesTo(stack.api), browser.line.requests.length];
  // Time enough for a hundred chunks.
  browser.line.together = Infinity;
  await demo.page.waitForTimeout(2_000);
  const after = [browser.line.bytesTo(stack.s3), browser.line.bytesTo(stack.api), browser.line.requests.length];
  assert.deepEqual(after, before);
  await card.press("Resume");
  await arrives(stack, demo, path);
}

export async function a_chunk_is_confirmed_while_another_takes_long({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "256 KiB" });
  let puts = 0;
  // Longer than the test waits.
  browser.line.delay = ({ method, host }) => (method === "PUT" && host === stack.s3 && puts++ === 0 ? 60_000 : 0);
  await demo.choose(file("slow.bin", 512 * KIB));
  const card = demo.card("slow.bin");
  await card.atLeast(1, "confirmed");
  assert.equal((await stack.upload()).uploaded_chunks_count, 1);
  await card.press("Cancel");
  await card.says("Cancelled;");
}

export async function cancelled_it_leaves_nothing_in_the_bucket(test) {
  const { demo } = await begun(test);
  const { upload_id } = await test.stack.upload();
  const card = demo.card("resume.bin");
  await card.press("Cancel");
  await card.says("Cancelled; what was sent is being removed from the bucket");
  await test.stack.nothing(upload_id);
  assert.equal((await test.stack.upload()).status, "aborted");
  // Nor is it offered again.
  await demo.page.reload();
  assert.deepEqual((await kept(demo.page)).uploads, []);

  // One of an earlier visit too.
  const { demo: again } = await begun(test);
  await again.page.reload();
  const earlier = await test.stack.upload();
  assert.notEqual(earlier.upload_id, upload_id);
  await again.card("resume.bin").press("Cancel");
  await again.card("resume.bin").says("Cancelled; what was sent is being removed from the bucket");
  await test.stack.nothing(earlier.upload_id);
}


/** Memory that a process has written, in bytes: of pages of the program another browser may have a share. */
function own(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return Number(/^Private_Dirty: +(\d+) kB/m.exec(text)[1]) * KIB;
  } catch {
    // It has ended meanwhile.
    return 0;
  }
}

/** The most MiB that each kind of Chromium's processes had of their own while `work` went on, and all together. */
async function peak(browser, work) {
  const most = { together: 0 };
  let over = false;
  const watching = (async () => {
    while (!over) {
      const now = { together: 0 };
      for (const { type, id } of await browser.processes()) {
        const size = Math.round(own(id) / MIB);
        now[type] = (now[type] ?? 0) + size;
        now.together += size;
      }
      for (const [type, size] of Object.entries(now)) most[type] = Math.max(most[type] ?? 0, size);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  await work();
  over = true;
  await watching;
  return most;
}

function zeros(name, size) {
  const path = join(process.env.TEST_FOLDER, name);
  const out = openSync(path, "w");
  ftruncateSync(out, size);
  closeSync(out);
  return path;
}

export async function memory_does_not_grow_with_the_file({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  const send = (name, size) =>
    peak(browser, async () => {
      await demo.choose(zeros(name, size));
      await demo.card(name).completed();
    });
  await send("warm.bin", 48 * MIB);
  const small = await send("small.bin", 48 * MIB);
  const large = await send("large.bin", 512 * MIB);
  console.error("48 MiB of file took", small, "512 MiB took", large);
  const more = large.together - small.together;
  assert.ok(more < 32, `464 MiB more of file took ${more} MiB more of memory`);
}

export async function the_number_of_connections_follows_the_line({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "64 KiB" });
  const { line } = browser;
  // So slow that the line decides, and not this machine. More connections give more; where the machine stood still
  // for a moment, that shows at one of the next looks.
  line.perRequest = 64 * KIB;
  await demo.choose(file("line.bin", 96 * MIB));
  await eventually("as many as the browser has", async () => line.openTo(stack.s3) === 6, 180_000);
  // A storage that takes two at a time and says so gets fewer.
  line.instead = ({ method, host }) => (method === "PUT" && host === stack.s3 && line.openTo(host) > 2 ? { status: 503 } : null);
  let since = performance.now();
  await eventually("no more than three for a while", async () => {
    if (line.openTo(stack.s3) > 3) since = performance.now();
    return performance.now() - since > 2_000;
  });
  await demo.card("line.bin").press("Cancel");
  await demo.card("line.bin").says("Cancelled");
}
