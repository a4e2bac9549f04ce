// What the page may do, and what it may show.

import assert from "node:assert/strict";
import { file, MIB } from "../files.mjs";
import { Demo } from "../page.mjs";
import { arrives } from "../uploads.mjs";

export async function the_policy_refuses_foreign_scripts_and_hosts({ stack, browser }) {
  const answer = await fetch(stack.page);
  const policy = answer.headers.get("content-security-policy");
  assert.ok(policy.includes(`connect-src 'self' http://${stack.s3};`), policy);
  assert.ok(!/unsafe|\*|data:|https:/.test(policy), policy);

  const demo = await Demo.open(browser, stack.page);
  const ran = await demo.page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    return window.ran === true;
  });
  assert.equal(ran, false);
  const reached = await demo.page.evaluate(() => fetch("http://127.0.0.2:1/").then(() => true, (error) => error.message));
  assert.equal(reached, "Failed to fetch");
  // Both were refused by the policy, and that is how other scenarios would know.
  assert.ok(browser.faults.some((fault) => fault.includes("script-src")), String(browser.faults));
  assert.ok(browser.faults.some((fault) => fault.includes("connect-src")), String(browser.faults));
  assert.ok(!browser.line.hosts.has("127.0.0.2:1"));
  browser.faults.length = 0;
}

export async function the_panel_shows_the_flow_and_no_secret({ stack, browser }) {
  const demo = await Demo.open(browser, stack.page);
  await demo.settings({ chunkSize: "1 MiB", parallel: "2" });
  const secrets = [];
  demo.page.on("response", async (response) => {
    const { searchParams } = new URL(response.url());
    for (const name of ["X-Amz-Signature", "X-Amz-Credential"]) secrets.push(searchParams.get(name));
  });
  const path = file("shown.bin", 20 * MIB);
  await demo.choose(path);
  await arrives(stack, demo, path);
  const rows = demo.page.locator("#requests > li");
  const said = await rows.allInnerTexts();
  const flow = [/plans the upload/, /signs 8 URLs/, /chunk 19 .*1 MiB/, /ask S3 for \d+ chunks/, /put the chunks together/, /waits for/, /signs a link/];
  for (const step of flow) assert.ok(said.some((row) => step.test(row.replaceAll("\n", " "))), `${step} is not in ${said}`);
  for (const row of await rows.locator("summary").all()) await row.click();
  const shown = await demo.page.content();
  assert.match(shown, /x-amz-checksum-crc64nvme: /i);
  assert.match(shown, /X-Amz-Signature=••••/);
  const real = [...new Set(secrets)].filter(Boolean);
  assert.ok(real.length > 5);
  // The link to the finished file has to be one.
  const links = demo.page.locator("a[data-action=download]");
  const linked = new URL(await links.first().getAttribute("href")).searchParams.get("X-Amz-Signature");
  for (const secret of real.filter((secret) => secret !== linked)) assert.ok(!(await panel(demo)).includes(secret));
  assert.ok(!(await panel(demo)).includes(linked));
  assert.ok(browser.line.openTo(stack.s3) === 0);
}

const panel = (demo) => demo.page.locator(".advanced").innerText();
