// Paused, cancelled, and what it costs the browser.

import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, ftruncateSync } from "node:fs";
import { join } from "node:path";
import { file, KIB, MIB } from "../files.mjs";
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
  assert.equal(await demo.card("resume.bin").element.count(), 0);
}

export async function an_upload_of_an_earlier_visit_is_cancelled_too(test) {
  const { demo } = await begun(test);
  await demo.page.reload();
  const { upload_id } = await test.stack.upload();
  const card = demo.card("resume.bin");
  await card.press("Cancel");
  await card.says("Cancelled; what was sent is being removed from the bucket");
  await test.stack.nothing(upload_id);
}

/** Memory that only this process has, in bytes. */
function own(pid) {
  try {
    const lines = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB/gm);
    return [...lines].reduce((sum, [, kilobytes]) => sum + Number(kilobytes) * KIB, 0);
  } catch {
    return 0;
  }
}

/** The most that Chromium's processes together had of their own while `work` went on. */
async function peak(browser, work) {
  let most = 0;
  let over = false;
  const watching = (async () => {
    while (!over) {
      const processes = await browser.processes();
      most = Math.max(most, processes.reduce((sum, { id }) => sum + own(id), 0));
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
  const [before, after] = [small, large].map((bytes) => Math.round(bytes / MIB));
  console.error(`at most ${before} MiB of memory for 48 MiB of file, ${after} MiB for 512 MiB`);
  assert.ok(after - before < 32, `464 MiB more of file took ${after - before} MiB more of memory`);
}

export async function the_number_of_connections_follows_the_line({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "64 KiB" });
  const { line } = browser;
  // So slow that the line decides, and not this machine. More connections give more.
  line.perRequest = 128 * KIB;
  await demo.choose(file("line.bin", 48 * MIB));
  await eventually("as many as the browser has", async () => line.openTo(stack.s3) === 6, 60_000);
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
