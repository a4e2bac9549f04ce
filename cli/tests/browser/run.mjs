// Runs one scenario: `node run.mjs NAME`, or lists all: `node run.mjs --list`.

import { join } from "node:path";
import * as accessible from "./scenarios/accessible.mjs";
import * as broken from "./scenarios/broken.mjs";
import * as docs from "./scenarios/docs.mjs";
import * as locked from "./scenarios/locked.mjs";
import * as read from "./scenarios/read.mjs";
import * as resumed from "./scenarios/resumed.mjs";
import * as safe from "./scenarios/safe.mjs";
import * as steady from "./scenarios/steady.mjs";
import * as whole from "./scenarios/whole.mjs";

const scenarios = { ...whole, ...read, ...resumed, ...broken, ...steady, ...safe, ...locked, ...docs, ...accessible };
const [name] = process.argv.slice(2);

if (name === "--list") {
  console.log(Object.keys(scenarios).join("\n"));
} else {
  const { Browser } = await import("./browser.mjs");
  const { Stack } = await import("./stack.mjs");
  const scenario = scenarios[name];
  if (!scenario) throw new Error(`there is no scenario ${name}`);
  const stack = new Stack();
  const origin = new URL(stack.page).origin;
  const profile = join(process.env.TEST_FOLDER, "profile");
  const browser = new Browser({ profile, origin, keepsFiles: scenario.keepsFiles ?? false });
  try {
    await browser.start();
    await scenario({ stack, browser });
    browser.check([stack.api, stack.s3]);
  } catch (error) {
    console.error(await browser.said());
    throw error;
  } finally {
    await browser.end();
  }
  process.exit(0);
}
