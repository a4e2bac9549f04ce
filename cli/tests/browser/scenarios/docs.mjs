// Swagger UI, as somebody explores the API with it: under its own policy, and without any other host.

import assert from "node:assert/strict";

/** An operation of the page: opened, filled in and executed, as a person does it. Answers its JSON. */
async function execute(page, operation, status, { parameters = {}, body } = {}) {
  const block = page.locator(`.opblock[id$="-${operation}"]`);
  await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Try it out" }).click();
  for (const [name, value] of Object.entries(parameters)) {
    await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
  }
  if (body) await block.locator("textarea.body-param__text").fill(JSON.stringify(body));
  const answered = page.waitForResponse((response) => new URL(response.url()).pathname.startsWith("/uploads"));
  await block.getByRole("button", { name: "Execute" }).click();
  const answer = await answered;
  assert.equal(answer.status(), status, await answer.text());
  // It shows what came.
  await block.locator(".live-responses-table .response-col_status", { hasText: String(status) }).waitFor();
  return answer.json();
}

export async function the_documentation_page_runs_a_whole_upload({ stack, browser }) {
  const page = await browser.tab();
  await page.goto(new URL("/docs", stack.page).href);
  // What stands in the form already is a good request.
  const init = page.locator('.opblock[id$="-init_upload"]');
  const made = await execute(page, "init_upload", 201);
  assert.ok(made.upload_id);
  await init.locator(".opblock-summary-control").click();
  await page.reload();

  const bytes = "straight to S3";
  const body = { filename: "explored.txt", file_size: bytes.length };
  const { upload_id } = await execute(page, "init_upload", 201, { body });
  const parameters = { upload_id };
  const chunks = [{ chunk_index: 0 }];
  const { chunks: [signed] } = await execute(page, "presign_chunks", 200, { parameters, body: { chunks } });
  const put = await fetch(signed.url, { method: signed.method, headers: signed.headers, body: bytes });
  assert.equal(put.status, 200);
  const confirmed = await execute(page, "confirm_chunk", 200, { parameters: { upload_id, chunk_index: "0" } });
  assert.equal(confirmed.uploaded_chunks_count, 1);
  await execute(page, "complete_upload", 202, { parameters });
  // The form waits for the end already.
  const upload = await execute(page, "get_upload", 200, { parameters });
  assert.equal(upload.status, "completed");
  const { url } = await execute(page, "get_download", 200, { parameters });
  assert.equal(await (await fetch(url)).text(), bytes);

  // Both ways to be let in can be typed in.
  await page.getByRole("button", { name: "Authorize" }).first().click();
  const schemes = await page.locator(".auth-container h4").allInnerTexts();
  assert.equal(schemes.length, 2, String(schemes));
}
