// How a file is read, and what is said when it cannot be.

import assert from "node:assert/strict";
import { truncateSync, unlinkSync } from "node:fs";
import { file, KIB, MIB } from "../files.mjs";
import { Demo } from "../page.mjs";
import { begun, CHUNKS } from "../uploads.mjs";

export async function checksums_are_right_however_the_browser_reads({ stack, browser }) {
  const { page } = await Demo.open(browser, stack.page);
  await page.clock.install();
  await page.evaluate(async () => {
    const { checksumsOf } = await import("/static/upflow/crc64nvme.js");
    const bytes = Uint8Array.from({ length: 5 * 1024 * 1024 + 3 }, (_, i) => i * 2654435761 >>> 24);
    const blob = new Blob([bytes]);
    const native = Blob.prototype.stream;
    const streams = {
      native,
      ofNoBytes: () => new ReadableStream({ pull: (controller) => controller.close() }),
      silent: () => new ReadableStream({ type: "bytes", pull: () => new Promise(() => {}) }),
      // One that gives some, and then nothing more.
      halting() {
        const reader = native.call(this).getReader();
        let given = 0;
        return new ReadableStream({
          type: "bytes",
          async pull(controller) {
            if (given++ === 3) return new Promise(() => {});
            controller.enqueue((await reader.read()).value);
          },
        });
      },
    };
    /** Each way by a module of its own: one whose stream fell silent asks for no other. */
    window.read = async (way) => {
      Blob.prototype.stream = streams[way];
      const { checksumsOf } = await import(`/static/upflow/crc64nvme.js?${way}`);
      return checksumsOf(blob, 1024 * 1024);
    };
    window.known = await checksumsOf(new Blob(["123456789"]), 9);
  });
  assert.deepEqual(await page.evaluate(() => window.known), [Buffer.from("ae8b14860a799888", "hex").toString("base64")]);
  const read = (way) => page.evaluate((way) => window.read(way), way);
  const expected = await read("native");
  assert.equal(new Set(expected).size, 6);
  assert.deepEqual(await read("ofNoBytes"), expected);
  for (const way of ["silent", "halting"]) {
    const found = read(way);
    let over = false;
    found.then(() => (over = true), () => (over = true));
    while (!over) await page.clock.runFor(1_000);
    assert.deepEqual(await found, expected, way);
  }
}

export async function a_file_that_is_gone_is_not_taken_for_an_empty_one({ stack, browser }) {
  const { page } = await Demo.open(browser, stack.page);
  await page.evaluate(() => {
    const input = Object.assign(document.createElement("input"), { type: "file", id: "alone" });
    document.body.append(input);
  });
  const path = file("gone.bin", 9);
  await page.locator("#alone").setInputFiles(path);
  // Nobody has asked the browser for its size yet.
  unlinkSync(path);
  const ended = await page.evaluate(async () => {
    const { UpFlow } = await import("/static/upflow.js");
    const [file] = document.getElementById("alone").files;
    const { size } = file;
    const end = await new UpFlow({ server: location.origin }).upload(file).done.catch((error) => error.code);
    return { size, end };
  });
  assert.deepEqual(ended, { size: 0, end: "file_unreadable" });
  assert.ok(!browser.line.requests.some(({ path }) => path.endsWith("/uploads/init")), "an upload was begun");
}

export async function a_file_cut_short_or_deleted_while_it_is_sent_says_so(test) {
  for (const spoil of [(path) => truncateSync(path, 6 * MIB), unlinkSync]) {
    const { demo, path } = await begun(test);
    const card = demo.card("resume.bin");
    spoil(path);
    test.browser.line.together = Infinity;
    await card.says("The file cannot be read any more: it was changed, moved or deleted");
    await card.says("What has arrived is kept");
    // The same file again, and it goes on.
    await card.chooseAgain(file("resume.bin", CHUNKS * 256 * KIB));
    await card.completed();
    await test.stack.whole(await card.uploadId(), path);
  }
}
