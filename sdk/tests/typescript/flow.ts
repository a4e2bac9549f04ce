// The generated TypeScript client against a live server: a whole upload, one that is interrupted and resumed
// with nothing but its id and token, an error read by its type, and an answer of a newer server. Ends with 0 only
// if all of it is so.

import { strict as assert } from "node:assert";
import { createHash, randomBytes } from "node:crypto";
import {
  ChunksApi,
  Configuration,
  DownloadsApi,
  type NewUpload,
  type Problem,
  ProblemFromJSON,
  ResponseError,
  type Upload,
  UploadsApi,
} from "./client/index.js";

const CHUNK = 64 * 1024;
const basePath = process.env.UPFLOW_SERVER;
const key = process.env.UPFLOW_API_KEY;
assert(basePath && key, "UPFLOW_SERVER and UPFLOW_API_KEY are to be set");

/** The calls of somebody who holds `accessToken`. */
function calls(accessToken: string) {
  const configuration = new Configuration({ basePath, accessToken });
  return {
    uploads: new UploadsApi(configuration),
    chunks: new ChunksApi(configuration),
    downloads: new DownloadsApi(configuration),
  };
}

type Calls = ReturnType<typeof calls>;

const server = calls(key);

function init(bytes: Buffer, filename: string): Promise<NewUpload> {
  const initUpload = { filename, fileSize: bytes.length, chunkSize: CHUNK, metadata: { sdk: "typescript" } };
  return server.uploads.initUpload({ initUpload, idempotencyKey: `ts-${filename}-${Date.now()}` });
}

/** Sends these chunks to S3, and has them confirmed. */
async function send(client: Calls, upload: Upload, bytes: Buffer, indexes: number[]): Promise<void> {
  const { uploadId } = upload;
  const wanted = { chunks: indexes.map((chunkIndex) => ({ chunkIndex })) };
  const { chunks } = await client.chunks.presignChunks({ uploadId, presignChunks: wanted });
  for (const { chunkIndex, method, url, headers, sizeBytes } of chunks) {
    const start = chunkIndex * upload.chunkSize;
    const body = new Uint8Array(bytes.subarray(start, start + sizeBytes));
    const answer = await fetch(url, { method, headers, body });
    assert.equal(answer.status, 200);
  }
  const confirmed = await client.chunks.confirmChunks({ uploadId, confirmChunks: { chunks: indexes } });
  assert.deepEqual(confirmed.confirmed, indexes);
  assert.deepEqual(confirmed.rejected, []);
}

async function finish(client: Calls, uploadId: string, bytes: Buffer): Promise<void> {
  await client.uploads.completeUpload({ uploadId });
  const done = await client.uploads.getUpload({ uploadId, waitFor: "completed", timeoutSeconds: 60 });
  assert.equal(done.status, "completed");
  assert(done.createdAt instanceof Date);
  const { url } = await client.downloads.getDownload({ uploadId });
  const found = Buffer.from(await (await fetch(url)).arrayBuffer());
  const hash = (data: Buffer) => createHash("sha256").update(data).digest("hex");
  assert.equal(hash(found), hash(bytes));
}

async function wholeUpload(): Promise<void> {
  const bytes = randomBytes(3 * CHUNK + 100);
  const upload = await init(bytes, "whole.bin");
  assert.equal(upload.totalChunks, 4);
  await send(server, upload, bytes, [0, 1, 2, 3]);
  await finish(server, upload.uploadId, bytes);
}

async function interruptedUpload(): Promise<void> {
  const bytes = randomBytes(3 * CHUNK);
  const { uploadId, uploadToken } = await init(bytes, "resumed.bin").then(async (upload) => {
    await send(calls(upload.uploadToken), upload, bytes, [1]);
    return upload;
  });
  // The app was ended. What it has kept is the id and the token; what S3 has, the server finds out.
  const client = calls(uploadToken);
  const upload = await client.uploads.reconcileUpload({ uploadId });
  assert.deepEqual(upload.uploadedChunks, [1]);
  const missing = [...Array(upload.totalChunks).keys()].filter((i) => !upload.uploadedChunks?.includes(i));
  await send(client, upload, bytes, missing);
  await finish(client, uploadId, bytes);
}

async function problem(call: Promise<unknown>): Promise<Problem> {
  const error = await call.then(() => assert.fail("this is refused"), (error: unknown) => error);
  assert(error instanceof ResponseError, String(error));
  assert.equal(error.response.headers.get("content-type"), "application/problem+json");
  return ProblemFromJSON(await error.response.json());
}

async function typedErrors(): Promise<void> {
  const { uploadId, uploadToken } = await init(randomBytes(10), "error.bin");
  const incomplete = await problem(server.uploads.completeUpload({ uploadId }));
  assert.equal(incomplete.code, "upload_incomplete");
  assert.deepEqual(incomplete.missingChunks, [0]);
  const refused = await problem(server.uploads.initUpload({ initUpload: { filename: "a/b", fileSize: 1 } }));
  assert.equal(refused.errors?.[0]?.pointer, "/filename");
  assert.equal((await problem(calls("upk_wrong").uploads.listUploads())).code, "credentials_invalid");
  assert.equal((await problem(calls(uploadToken).uploads.listUploads())).code, "api_key_required");
}

/** A status and a field that this version does not know are no reason to stop. */
async function newerServer(): Promise<void> {
  const { uploadId } = await init(randomBytes(10), "newer.bin");
  const newer = new UploadsApi(new Configuration({ basePath, accessToken: key })).withPostMiddleware(async ({ response }) => {
    const answer = { ...((await response.json()) as object), status: "archived", shelf: 7 };
    return new Response(JSON.stringify(answer), { status: response.status, headers: response.headers });
  });
  const upload = await newer.getUpload({ uploadId });
  assert.equal(upload.uploadId, uploadId);
  assert.equal(upload.status as string, "archived");
}

await wholeUpload();
await interruptedUpload();
await typedErrors();
await newerServer();
console.log("done");
