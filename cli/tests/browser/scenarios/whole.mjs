// Files of every shape arrive whole.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { file, KIB, MIB } from "../files.mjs";
import { Demo } from "../page.mjs";
import { arrives } from "../uploads.mjs";

export async function files_of_no_byte_and_of_one_arrive({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  const paths = [file("empty.bin", 0), file("one.bin", 1)];
  await demo.choose(...paths);
  await (await arrives(stack, demo, paths[0])).says("The file is empty, here and in the bucket.");
  await (await arrives(stack, demo, paths[1])).says("Identical to your file");
}

export async function a_file_of_200_mib_arrives_in_chunks_of_8_mib({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  const path = file("large.bin", 200 * MIB);
  await demo.choose(path);
  const card = await arrives(stack, demo, path);
  await card.says("Identical to your file");
  const chunks = browser.line.chunks;
  assert.equal(chunks.length, 25);
  assert.ok(chunks.every(({ status, bytes }) => status === 200 && bytes === 8 * MIB));
}

export async function a_file_of_10_mib_arrives_in_chunks_of_64_kib({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "64 KiB" });
  // The last chunk is a short one.
  const path = file("small-chunks.bin", 10 * MIB - 1);
  await demo.choose(path);
  await arrives(stack, demo, path);
  const chunks = browser.line.chunks;
  assert.equal(chunks.length, 160);
  assert.equal(chunks.filter(({ bytes }) => bytes === 64 * KIB).length, 159);
}

export async function several_files_at_once_arrive({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  const sizes = { "été à la mer.mov": 9 * MIB, "a & b #1 100%.txt": 5, "日本.zip": 17 * MIB, "no extension": 300 * KIB, "five.bin": MIB };
  const paths = Object.entries(sizes).map(([name, size], seed) => file(name, size, seed));
  await demo.choose(...paths);
  for (const path of paths) await arrives(stack, demo, path);
}

export async function the_download_of_the_page_is_the_file({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  const path = file("größe 1.bin", 9 * MIB + 5);
  await demo.choose(path);
  const card = await arrives(stack, demo, path);
  const [download] = await Promise.all([
    demo.page.waitForEvent("download"),
    card.element.getByRole("link", { name: /^Download/ }).click(),
  ]);
  assert.equal(download.suggestedFilename(), "größe 1.bin");
  assert.ok((await readFile(path)).equals(await readFile(await download.path())));
}
