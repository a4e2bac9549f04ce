// Lines that break, a storage that is overloaded, URLs that have died, servers that restart.

import assert from "node:assert/strict";
import { file, MIB } from "../files.mjs";
import { Demo } from "../page.mjs";
import { arrives, begun } from "../uploads.mjs";

export async function a_line_that_was_cut_costs_nothing_but_time(test) {
  const { demo, path } = await begun(test);
  const { line } = test.browser;
  line.cut();
  await demo.card("resume.bin").says(/Trying again/);
  line.mend();
  line.together = Infinity;
  await arrives(test.stack, demo, path);
}

export async function offline_it_waits_and_goes_on_when_the_connection_is_back(test) {
  const { demo, path } = await begun(test);
  await test.browser.context.setOffline(true);
  await demo.card("resume.bin").says("Offline: it goes on by itself when the connection is back");
  test.browser.line.together = Infinity;
  await test.browser.context.setOffline(false);
  await arrives(test.stack, demo, path);
}

const SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
const EXPIRED = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";

export async function a_storage_that_says_503_is_outlasted({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  const path = file("busy.bin", 24 * MIB);
  // One chunk again and again. Some with CORS headers, which the page can read; many servers leave them out.
  let refused = 0;
  browser.line.instead = ({ method, host, path: key }) => {
    if (method !== "PUT" || host !== stack.s3 || !key.endsWith("/chunks/1") || refused === 5) return null;
    const cors = ++refused === 5 ? {} : { "access-control-allow-origin": "*" };
    return { status: 503, headers: { "content-type": "application/xml", ...cors }, body: SLOW_DOWN };
  };
  await demo.choose(path);
  await demo.card("busy.bin").says(/503 SlowDown.*Trying again/);
  await demo.card("busy.bin").says(/did not get through to the storage.*Trying again/);
  await arrives(stack, demo, path);
  assert.equal(refused, 5);
}

export async function urls_that_have_died_are_replaced({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "1 MiB" });
  const path = file("dead.bin", 12 * MIB);
  // As S3 answers: 403, and no CORS header, so that the page cannot read it. What is dead stays dead.
  const dead = new Set();
  browser.line.instead = ({ method, host, path: key, query }) => {
    if (method !== "PUT" || host !== stack.s3) return null;
    if (dead.size < 6) dead.add(key + query);
    return dead.has(key + query) ? { status: 403, headers: { "content-type": "application/xml" }, body: EXPIRED } : null;
  };
  await demo.choose(path);
  await arrives(stack, demo, path);
  assert.ok(browser.line.chunks.filter(({ status }) => status === 403).length >= 6);
}

/** Runs on a server whose URLs live for two seconds. */
export async function urls_that_really_expire_on_the_way_are_replaced({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "1 MiB" });
  const path = file("late.bin", 6 * MIB);
  let held = 0;
  browser.line.delay = ({ method, host }) => (method === "PUT" && host === stack.s3 && held++ < 3 ? 4_000 : 0);
  await demo.choose(path);
  await arrives(stack, demo, path);
  const late = browser.line.chunks.filter(({ status }) => status === 403 || status === 400);
  assert.ok(late.length > 0, "S3 took URLs that had expired");
}

/** The Rust side kills whatever serves, and starts it again. */
export async function a_server_restarted_in_the_middle_loses_nothing(test) {
  const { demo, path } = await begun(test);
  await test.stack.ask("stop_server");
  await demo.card("resume.bin").says(/Trying again/);
  await test.stack.ask("start_server");
  test.browser.line.together = Infinity;
  await arrives(test.stack, demo, path);
}
