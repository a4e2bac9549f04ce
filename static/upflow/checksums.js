// Checksums from a worker, which lives as long as there is something to do.

import { UpFlowError } from "./error.js";
import { checksumsOf } from "./crc64nvme.js";

/** A worker without work is ended after this long. */
const IDLE_MS = 5_000;

export class Checksums {
  #worker = null;
  #jobs = new Map();
  #next = 0;
  #idle = 0;

  /**
   * The checksums of the consecutive pieces of `blob`, `size` bytes each but the last.
   * @param {Blob} blob
   * @param {number} size
   * @returns {Promise<string[]>}
   */
  of(blob, size) {
    clearTimeout(this.#idle);
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#jobs.set(id, { blob, size, resolve, reject });
      if (this.#worker === null) this.#start();
      if (this.#worker) this.#worker.postMessage({ id, blob, size });
      else this.#here(id);
    });
  }

  #start() {
    try {
      this.#worker = new Worker(new URL("./crc64nvme-worker.js", import.meta.url), { type: "module" });
    } catch {
      // No module workers here, or this module came from another origin.
      this.#worker = false;
      return;
    }
    this.#worker.onmessage = ({ data }) => {
      if (data.checksums) this.#finish(data.id, (job) => job.resolve(data.checksums));
      else this.#finish(data.id, (job) => job.reject(unreadable(data)));
    };
    this.#worker.onerror = () => {
      this.#worker.terminate();
      this.#worker = false;
      for (const id of this.#jobs.keys()) this.#here(id);
    };
  }

  /** On the page's own thread, in blocks: slower, and the same result. */
  async #here(id) {
    const { blob, size } = this.#jobs.get(id);
    try {
      const checksums = await checksumsOf(blob, size);
      this.#finish(id, (job) => job.resolve(checksums));
    } catch (error) {
      this.#finish(id, (job) => job.reject(unreadable(error)));
    }
  }

  #finish(id, settle) {
    const job = this.#jobs.get(id);
    if (!job) return;
    this.#jobs.delete(id);
    settle(job);
    if (this.#jobs.size > 0 || !this.#worker) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      this.#worker.terminate();
      this.#worker = null;
    }, IDLE_MS);
  }
}

function unreadable({ name, message }) {
  return new UpFlowError(
    "file_unreadable",
    "The file cannot be read any more: it was changed, moved or deleted, or access to it was taken back. " +
      "Choose it again.",
    { cause: `${name}: ${message}` },
  );
}
