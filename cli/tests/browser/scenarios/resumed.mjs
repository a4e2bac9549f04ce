// Refreshed, closed, crashed: what has arrived stays, the rest is sent.

import assert from "node:assert/strict";
import { copyFileSync, utimesSync } from "node:fs";
import { dirname, join } from "node:path";
import { file, KIB, WRITTEN } from "../files.mjs";
import { Demo } from "../page.mjs";
import { arrives, begun, CHUNKS } from "../uploads.mjs";
import { eventually } from "../wait.mjs";

/** What the server has, once nobody sends any more, and the chunks that are sent from here on. */
async function standing({ stack, browser }) {
  const before = await stack.upload();
  assert.equal(before.status, "uploading");
  assert.ok(before.uploaded_chunks_count < CHUNKS, "it was interrupted too late to tell");
  const at = browser.line.chunks.length;
  browser.line.together = Infinity;
  return { before, after: () => browser.line.chunks.slice(at) };
}

/** That it is the same upload, and that no chunk that was confirmed has been sent again. */
async function wentOn({ stack }, { before, after }) {
  const upload = await stack.upload();
  assert.equal(upload.upload_id, before.upload_id);
  const again = after().filter(({ chunk }) => before.uploaded_chunks.includes(chunk));
  assert.deepEqual(again, []);
  assert.ok(after().length > 0);
}

export async function refreshed_in_the_middle_it_goes_on_by_itself(test) {
  const { demo, path } = await begun(test, "drop");
  await demo.page.reload();
  const then = await standing(test);
  await arrives(test.stack, demo, path);
  await wentOn(test, then);
}
refreshed_in_the_middle_it_goes_on_by_itself.keepsFiles = true;

export async function refreshed_in_the_middle_it_goes_on_with_the_same_file(test) {
  const { demo, path } = await begun(test);
  await demo.page.reload();
  const card = demo.card("resume.bin");
  await card.says("Choose the same file again to go on");
  const then = await standing(test);
  await card.chooseAgain(path);
  await arrives(test.stack, demo, path);
  await wentOn(test, then);
}

export async function the_tab_closed_and_another_opened_it_goes_on(test) {
  const { demo, path } = await begun(test);
  await demo.page.close();
  const then = await standing(test);
  const again = await Demo.open(test.browser, test.stack.page);
  await again.card("resume.bin").says("Choose the same file again to go on");
  // Chosen as if it were new, it is known.
  await again.choose(path);
  await arrives(test.stack, again, path);
  await wentOn(test, then);
}

export async function the_browser_closed_and_opened_again_it_goes_on_by_itself(test) {
  const { path } = await begun(test, "drop");
  await test.browser.close();
  const then = await standing(test);
  await test.browser.start();
  const demo = await Demo.open(test.browser, test.stack.page);
  await arrives(test.stack, demo, path);
  await wentOn(test, then);
}
the_browser_closed_and_opened_again_it_goes_on_by_itself.keepsFiles = true;

export async function the_browser_crashed_it_goes_on_with_the_same_file(test) {
  const { path } = await begun(test);
  await test.browser.crash();
  const then = await standing(test);
  await test.browser.start();
  const demo = await Demo.open(test.browser, test.stack.page);
  const card = demo.card("resume.bin");
  await card.says("Choose the same file again to go on");
  await card.chooseAgain(path);
  await arrives(test.stack, demo, path);
  await wentOn(test, then);
}

export async function paused_before_a_refresh_it_waits_to_be_told(test) {
  const { demo, path } = await begun(test, "drop");
  await demo.card("resume.bin").press("Pause");
  await demo.card("resume.bin").says("Paused");
  await demo.page.reload();
  const card = demo.card("resume.bin");
  await card.says("Paused");
  const then = await standing(test);
  await card.press("Go on");
  await arrives(test.stack, demo, path);
  await wentOn(test, then);
}
paused_before_a_refresh_it_waits_to_be_told.keepsFiles = true;

export async function while_one_tab_sends_another_leaves_the_upload_alone(test) {
  const { demo, path } = await begun(test, "drop");
  const other = await Demo.open(test.browser, test.stack.page);
  // It has found the upload, and waits for its lock.
  const waiting = async () => (await other.page.evaluate(() => navigator.locks.query())).pending.length;
  await eventually("the other tab waits", async () => (await waiting()) === 1);
  assert.equal(await other.card("resume.bin").element.count(), 0);
  // The tab that sends is gone: then the other goes on.
  await demo.page.close();
  const then = await standing(test);
  await arrives(test.stack, other, path);
  await wentOn(test, then);
}
while_one_tab_sends_another_leaves_the_upload_alone.keepsFiles = true;

export async function a_file_that_changed_is_refused(test) {
  const { demo, path } = await begun(test);
  await demo.page.reload();
  const card = demo.card("resume.bin");
  await card.says("Choose the same file again to go on");
  const then = await standing(test);
  const folder = dirname(path);
  const kept = join(folder, "kept");
  copyFileSync(path, kept);
  const size = CHUNKS * 256 * KIB;

  await card.chooseAgain(kept);
  await card.says("This is “kept”; the upload is of “resume.bin”");
  await card.chooseAgain(file("resume.bin", size - 1));
  await card.says("The file has changed: it has 16,777,215 bytes now");
  file("resume.bin", size);
  utimesSync(path, WRITTEN + 60, WRITTEN + 60);
  await card.chooseAgain(path);
  await card.says("The file has changed: it was last written");
  await card.chooseAgain(file("resume.bin", size, 1));
  await card.says("same name, size and date, but other contents");
  assert.deepEqual(then.after(), [], "a chunk of a refused file was sent");

  copyFileSync(kept, path);
  utimesSync(path, WRITTEN, WRITTEN);
  await card.chooseAgain(path);
  await arrives(test.stack, demo, path);
  await wentOn(test, then);
}

export async function a_file_that_changed_is_refused_when_it_would_go_on_by_itself(test) {
  const { demo } = await begun(test, "drop");
  await demo.page.goto("about:blank");
  const then = await standing(test);
  file("resume.bin", CHUNKS * 256 * KIB, 1);
  const again = await Demo.open(test.browser, test.stack.page);
  await again.card("resume.bin").says("same name, size and date, but other contents");
  assert.deepEqual(then.after(), []);
}
a_file_that_changed_is_refused_when_it_would_go_on_by_itself.keepsFiles = true;
