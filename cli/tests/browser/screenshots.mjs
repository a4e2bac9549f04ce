// The pictures of the demo in `docs/`: `node screenshots.mjs PAGE FOLDER`, which scripts/screenshots calls.

import { join } from "node:path";
import { Browser } from "./browser.mjs";
import { file, KIB, MIB } from "./files.mjs";
import { Demo } from "./page.mjs";

const [address, folder] = process.argv.slice(2);
const origin = new URL(address).origin;
const browser = new Browser({ profile: join(process.env.TEST_FOLDER, "profile"), origin, keepsFiles: false });
const { line } = browser;

const WIDE = { width: 860, height: 700 };
const PHONE = { width: 390, height: 760 };

async function picture(page, name, { size = WIDE, colorScheme = "light", of } = {}) {
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement.blur());
  // Two frames: the chunk map is drawn in one.
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  const path = join(folder, `demo-${name}.png`);
  if (of) await of.screenshot({ path });
  else await page.screenshot({ path, fullPage: true });
}

await browser.start();
const demo = await Demo.open(browser, address);
const { page } = demo;
await demo.settings({ chunkSize: "256 KiB" });
await page.getByText("Advanced", { exact: true }).click();
await demo.choose(file("contract.pdf", 1_288_490));
await demo.card("contract.pdf").completed();
line.together = 6 * MIB;
await demo.choose(file("summer film.mov", 96 * MIB));
const film = demo.card("summer film.mov");
await film.atLeast(120, "confirmed");
await picture(page, "sending");
await picture(page, "sending-dark", { colorScheme: "dark" });
await picture(page, "phone", { size: PHONE });

await page.setViewportSize(WIDE);
await page.getByText("Advanced", { exact: true }).click();
await page.locator("#requests > li", { hasText: "has the server ask S3" }).first().locator("summary").click();
await page.locator("#requests").evaluate((list) => {
  const row = list.querySelector("pre").closest("li");
  list.scrollTop = row.offsetTop - list.offsetTop - 3 * row.previousElementSibling.offsetHeight;
});
await picture(page, "requests", { of: page.locator(".advanced") });
await page.getByText("Advanced", { exact: true }).click();

line.cut();
await film.says(/Trying again/);
await picture(page, "trouble", { of: film.element.locator("..") });
await page.goto("about:blank");
line.mend();
await page.goto(address);
await film.says("Choose the same file again to go on");
await film.chooseAgain(file("summer film.mov", 96 * MIB - 70_000));
await film.says("The file has changed");
await picture(page, "unfinished", { colorScheme: "dark", of: film.element.locator("..") });
await film.press("Cancel");
await film.says("Cancelled;");

// As many chunks as there can be.
line.together = Infinity;
await demo.settings({ chunkSize: "64 KiB" });
await page.getByText("Advanced", { exact: true }).click();
await demo.choose(file("archive.tar", 10_000 * 64 * KIB));
const archive = demo.card("archive.tar");
await archive.atLeast(2_400, "confirmed", 300_000);
await picture(page, "10000-chunks", { of: archive.element.locator("..") });
await archive.press("Cancel");
await archive.says("Cancelled;");
await browser.end();
process.exit(0);
