// A server with API keys: the page asks for one, and gives it to nobody.

import assert from "node:assert/strict";
import { clean } from "../axe.mjs";
import { file, KIB, MIB } from "../files.mjs";
import { kept, rememberedToken } from "../kept.mjs";
import { Demo } from "../page.mjs";
import { arrives, CHUNKS } from "../uploads.mjs";

/** An upload of 64 chunks on a slow line, a few of them confirmed, by a key that was asked for. */
async function begun({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.door.waitFor();
  await demo.settings({ chunkSize: "256 KiB" });
  browser.line.together = 4 * MIB;
  const path = file("locked.bin", CHUNKS * 256 * KIB);
  await demo.choose(path);
  const card = demo.card("locked.bin");
  // What is chosen too early waits.
  await card.says("Waiting for an API key");
  return { demo, card, path };
}

export async function a_locked_server_asks_for_a_key_and_a_refresh_goes_on_with_the_token(test) {
  const { stack, browser } = test;
  const { demo, card, path } = await begun(test);
  const { page } = demo;
  await clean(page, "locked");
  await demo.unlock("upk_wrong");
  await demo.door.getByText("The server does not know this key").waitFor();
  await clean(page, "a wrong key");
  await demo.unlock(stack.key);
  await demo.door.waitFor({ state: "hidden" });
  await card.atLeast(8, "confirmed");

  // The tab keeps the key over a refresh, and the upload its token: the key is nowhere else.
  const looked = page.waitForResponse((response) => response.url().endsWith("/uploads?limit=1"));
  await page.reload();
  assert.equal((await looked).status(), 200);
  await card.says("Choose the same file again to go on");
  await page.getByText("An API key is in use.").waitFor();
  assert.equal(await demo.door.isVisible(), false);
  const { session, ...elsewhere } = await kept(page);
  assert.ok(Object.values(session).includes(stack.key));
  assert.ok(!JSON.stringify(elsewhere).includes(stack.key), "the key is kept outside of the tab");
  assert.ok(elsewhere.uploads[0].uploadToken);
  await clean(page, "unlocked");

  // Another tab has no key, and goes on with what the first has begun.
  await page.close();
  const other = await Demo.open(browser, stack.page);
  await other.door.waitFor();
  const again = other.card("locked.bin");
  await again.says("Choose the same file again to go on");
  browser.line.together = Infinity;
  await again.chooseAgain(path);
  await arrives(stack, other, path);
  assert.ok(await other.door.isVisible());
}

export async function a_token_that_has_died_is_replaced_by_the_key(test) {
  const { stack, browser } = test;
  const { demo, card, path } = await begun(test);
  const { page } = demo;
  await demo.unlock(stack.key);
  await card.atLeast(8, "confirmed");
  await page.reload();
  await card.says("Choose the same file again to go on");
  // As one that has ended, or was signed by a key that is no more.
  await rememberedToken(page, (token) => `${token}x`);
  await page.reload();
  await card.says("Choose the same file again to go on");
  // Nor does the tab lose the upload when its key is forgotten meanwhile.
  await page.getByRole("button", { name: "Forget it" }).click();
  await demo.door.waitFor();
  browser.line.together = Infinity;
  await card.chooseAgain(path);
  await card.says("Waiting for an API key");
  await demo.unlock(stack.key);
  await arrives(stack, demo, path);
}

export async function a_late_refusal_takes_no_key_away({ stack, browser }) {
  let held = 0;
  browser.line.delay = ({ path }) => (path.startsWith("/uploads?") || path === "/uploads" ? (held++ ? 0 : 5_000) : 0);
  const page = await browser.tab();
  const late = page.waitForResponse((response) => response.url().endsWith("/uploads?limit=1") && response.status() === 401);
  const demo = await Demo.open(browser, stack.page);
  const path = file("locked.bin", MIB);
  // The upload is refused first, and a key given.
  await demo.choose(path);
  await demo.unlock(stack.key);
  await demo.card("locked.bin").completed();
  await late;
  await arrives(stack, demo, path);
  await page.getByText("An API key is in use.").waitFor();
  assert.equal(await demo.door.isVisible(), false);
  assert.ok(Object.values((await kept(page)).session).includes(stack.key));
}
