// The page's upload of a file against a bare parallel PUT of the same chunks by fetch, in the same browser,
// turn about. `node bench.mjs PAGE`, which `run` calls.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FLAGS } from "../../cli/tests/browser/browser.mjs";
import { file, MIB } from "../../cli/tests/browser/files.mjs";
import { Line } from "../../cli/tests/browser/line.mjs";
import { Card } from "../../cli/tests/browser/page.mjs";
import { chromium } from "../../cli/tests/browser/packages.mjs";

const SIZE = 512 * MIB;
const CHUNK = 8 * MIB;
const ROUNDS = Number(process.env.ROUNDS ?? 5);
/** What a browser opens to one host: the most that a bare upload can have. */
const CONNECTIONS = 6;

const [address] = process.argv.slice(2);
const folder = process.env.TEST_FOLDER;
const path = file("bench.bin", SIZE);
const profile = mkdtempSync(join(folder, "profile"));
const options = { executablePath: process.env.TEST_CHROMIUM, headless: true, args: FLAGS };
/** Both sides go over a line of so many MiB a second, if it is set; else over loopback as it is. */
const LINE = Number(process.env.LINE_MIB ?? 0);
const line = new Line();
if (LINE) {
  line.together = LINE * MIB;
  options.proxy = { server: `http://127.0.0.1:${await line.start()}` };
}
const context = await chromium.launchPersistentContext(profile, options);
context.setDefaultTimeout(300_000);

async function call(path, method, body) {
  const headers = body && { "content-type": "application/json" };
  const answer = await fetch(new URL(path, address), { method, headers, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/**
 * Seconds from the first byte read to the last answer of S3. URLs are there before, and nothing is confirmed or
 * shown; `sums` computes the checksum of each chunk before it is sent, which a page must that has it signed.
 */
async function bare(sums) {
  const upload = await call("/uploads/init", "POST", { filename: "bare.bin", file_size: SIZE, chunk_size: CHUNK });
  const chunks = Array.from({ length: upload.total_chunks }, (_, chunk_index) => ({ chunk_index }));
  const presigned = await call(`/uploads/${upload.upload_id}/chunks/presign`, "POST", { chunks });
  const page = await context.newPage();
  await page.goto(address);
  await page.evaluate(() => {
    const input = document.createElement("input");
    [input.type, input.id] = ["file", "bare"];
    document.body.append(input);
  });
  await page.locator("#bare").setInputFiles(path);
  const seconds = await page.evaluate(
    async ({ chunks, size, connections, sums }) => {
      const [file] = document.getElementById("bare").files;
      const { Checksums } = await import("/static/upflow/checksums.js");
      const checksums = new Checksums();
      const queue = [...chunks];
      const lane = async () => {
        for (let chunk; (chunk = queue.shift()); ) {
          const start = chunk.chunk_index * size;
          const body = file.slice(start, start + size);
          if (sums) await checksums.of(body, size);
          const answer = await fetch(chunk.url, { method: chunk.method, headers: chunk.headers, body });
          if (!answer.ok) throw new Error(`S3 says ${answer.status}`);
        }
      };
      const began = performance.now();
      await Promise.all(Array.from({ length: connections }, lane));
      return (performance.now() - began) / 1000;
    },
    { chunks: presigned.chunks, size: CHUNK, connections: CONNECTIONS, sums },
  );
  await page.close();
  await call(`/uploads/${upload.upload_id}`, "DELETE");
  return seconds;
}

/**
 * Seconds from the choice of the file: until every chunk is in S3 and the server has said so, and until the
 * file is completed and its checksum compared.
 */
async function whole() {
  const page = await context.newPage();
  await page.goto(address);
  await page.evaluate(() => {
    const times = (window.times = {});
    const since = () => (performance.now() - times.began) / 1000;
    document.getElementById("files").addEventListener("change", () => (times.began = performance.now()), true);
    new MutationObserver(() => {
      const status = document.querySelector(".lifecycle")?.dataset.status;
      if (status === "pending_assembly" || status === "completed") times.sent ??= since();
      if (document.querySelector("[data-look=done]")) times.completed ??= since();
    }).observe(document.getElementById("uploads"), { subtree: true, attributes: true, childList: true });
  });
  await page.locator("#files").setInputFiles(path);
  await new Card(page, page.getByRole("article", { name: "bench.bin" })).completed();
  const times = await page.evaluate(() => window.times);
  await page.close();
  return times;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(values.length - 1) >> 1] + sorted[values.length >> 1]) / 2;
}

const speed = (seconds) => `${seconds.toFixed(2)} s (${Math.round(SIZE / MIB / seconds)} MiB/s)`;

// Once for the caches.
await bare(false);
await whole();
const times = { bare: [], summed: [], sent: [], completed: [] };
for (let round = 1; round <= ROUNDS; round++) {
  times.bare.push(await bare(false));
  times.summed.push(await bare(true));
  const { sent, completed } = await whole();
  times.sent.push(sent);
  times.completed.push(completed);
  const last = Object.entries(times).map(([name, values]) => `${name} ${speed(values.at(-1))}`);
  console.log(`round ${round}: ${last.join(", ")}`);
}
const way = LINE ? `a line of ${LINE} MiB/s` : "loopback";
console.log(`512 MiB in chunks of 8 MiB over ${way}, medians of ${ROUNDS} rounds, against the first:`);
const names = {
  bare: "bare parallel fetch",
  summed: "the same with checksums",
  sent: "page, everything in S3",
  completed: "page, completed",
};
for (const [name, values] of Object.entries(times)) {
  const ratio = median(values) / median(times.bare);
  console.log(`  ${names[name].padEnd(24)} ${speed(median(values))}, ratio ${ratio.toFixed(2)}`);
}
await context.close();
if (LINE) line.stop();
rmSync(profile, { recursive: true, force: true });
