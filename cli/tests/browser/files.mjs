// The files that are uploaded: the same bytes at every run, different everywhere.

import { createCipheriv } from "node:crypto";
import { closeSync, openSync, utimesSync, writeSync } from "node:fs";
import { join } from "node:path";

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** Yesterday, in whole seconds: the browser tells dates in milliseconds. */
export const WRITTEN = Math.floor(Date.now() / 1000) - 24 * 3600;

/** @returns {string} the path of a file of so many bytes */
export function file(name, size, seed = 0) {
  const path = join(process.env.TEST_FOLDER, name);
  const noise = createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16));
  const zeros = Buffer.alloc(Math.min(size, 4 * MIB));
  const out = openSync(path, "w");
  for (let left = size; left > 0; left -= zeros.length) {
    writeSync(out, noise.update(left < zeros.length ? zeros.subarray(0, left) : zeros));
  }
  closeSync(out);
  utimesSync(path, WRITTEN, WRITTEN);
  return path;
}
