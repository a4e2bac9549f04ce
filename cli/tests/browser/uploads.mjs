// What most scenarios do: an upload that is begun, and one that has arrived.

import { basename } from "node:path";
import { file, KIB, MIB } from "./files.mjs";
import { Demo } from "./page.mjs";

/** Of the upload that `begun` begins. */
export const CHUNKS = 64;

/** An upload of 64 chunks on a slow line, a few of them confirmed. */
export async function begun({ stack, browser }, give = "choose") {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "256 KiB" });
  const path = file("resume.bin", CHUNKS * 256 * KIB);
  browser.line.together = 4 * MIB;
  await demo[give](path);
  await demo.card("resume.bin").atLeast(8, "confirmed");
  return { demo, path };
}

/** That the page says so, and that it is so. */
export async function arrives(stack, demo, path) {
  const card = demo.card(basename(path));
  await card.completed();
  await stack.whole(await card.uploadId(), path);
  return card;
}
