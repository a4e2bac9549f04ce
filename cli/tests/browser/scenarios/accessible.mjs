// For everybody: axe-core's rules in every state and look, and the keyboard alone.

import assert from "node:assert/strict";
import { file, MIB } from "../files.mjs";
import { clean } from "../axe.mjs";
import { Demo } from "../page.mjs";
import { begun } from "../uploads.mjs";

export async function axe_finds_no_violation_in_any_state(test) {
  const { stack, browser } = test;
  const first = await Demo.open(browser, stack.page);
  await clean(first.page, "empty");
  const { demo, path } = await begun(test);
  const card = demo.card("resume.bin");
  await demo.page.locator("#requests summary").first().click();
  await clean(demo.page, "sending");
  await card.press("Pause");
  await card.says("Paused");
  await clean(demo.page, "paused");
  await card.press("Resume");
  browser.line.cut();
  await card.says(/Trying again/);
  await clean(demo.page, "in trouble");
  await demo.page.goto("about:blank");
  browser.line.mend();
  await demo.page.goto(stack.page);
  await card.says("Choose the same file again to go on");
  await clean(demo.page, "unfinished");
  await card.chooseAgain(file("another.bin", 5));
  await card.says("This is “another.bin”");
  await clean(demo.page, "refused");
  browser.line.together = Infinity;
  await card.chooseAgain(path);
  await card.completed();
  await card.element.getByText("Details").click();
  await clean(demo.page, "completed");
  const { demo: other } = await begun(test);
  await other.card("resume.bin").press("Cancel");
  await other.card("resume.bin").says("Cancelled;");
  await clean(other.page, "cancelled");
}

export async function everything_can_be_done_with_the_keyboard({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  const { page } = demo;
  const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.id ?? "");
  const tabTo = async (name) => {
    for (let i = 0; i < 30; i++) {
      await page.keyboard.press("Tab");
      if ((await focused()).startsWith(name)) return;
    }
    assert.fail(`Tab never reaches ${name}`);
  };
  await tabTo("files");
  browser.line.together = MIB;
  await demo.choose(file("keys.bin", 24 * MIB));
  const card = demo.card("keys.bin");
  await card.says("Sending");
  await tabTo("Pause: keys.bin");
  await page.keyboard.press("Enter");
  await card.says("Paused");
  // The focus has moved to what is there instead.
  assert.equal(await focused(), "Resume: keys.bin");
  await page.keyboard.press("Enter");
  await card.says("Sending");
  await tabTo("Cancel: keys.bin");
  await page.keyboard.press("Enter");
  await card.says("Cancelled;");
  assert.equal(await focused(), "Remove from list: keys.bin");
  // What a screen reader was told, in order.
  const told = await page.locator("#live p").allTextContents();
  assert.ok(told.some((line) => line === "keys.bin: Paused"), String(told));
  assert.equal(told.at(-1), "keys.bin: cancelled");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "files");
}
