// Where each chunk of an upload stands. The server plans how a file is cut; here its plan is checked
// and applied.

import { UpFlowError } from "./error.js";

/** What `Chunks.states` holds for each chunk. */
export const ChunkState = Object.freeze({ waiting: 0, sending: 1, sent: 2, confirmed: 3 });

/** The rate is that of the last seconds. */
const RATE_WINDOW_MS = 6_000;

export class Chunks {
  #inFlight = new Map();
  #bytes = [0, 0, 0, 0];
  /** Bytes that went out, those sent again too: for the rate. */
  #moved = 0;
  #samples = [];

  /**
   * @param {Blob} file
   * @param {{file_size: number, chunk_size: number, total_chunks: number}} plan
   */
  constructor(file, { file_size, chunk_size, total_chunks }) {
    if (file_size !== file.size || !(chunk_size > 0) || Math.ceil(file_size / chunk_size) !== total_chunks) {
      throw new UpFlowError(
        "server_unreadable",
        `The server's plan of ${total_chunks} chunks of ${chunk_size} bytes does not fit this file of ${file.size} bytes.`,
      );
    }
    this.file = file;
    this.fileSize = file_size;
    this.chunkSize = chunk_size;
    this.total = total_chunks;
    /** A `ChunkState` for each chunk. */
    this.states = new Uint8Array(total_chunks);
    /** How many chunks are in each state. */
    this.counts = [total_chunks, 0, 0, 0];
    this.#bytes[ChunkState.waiting] = file_size;
    /** The checksum of each chunk, where it was computed. */
    this.checksums = new Array(total_chunks);
  }

  start(index) {
    return index * this.chunkSize;
  }

  length(index) {
    return Math.min(this.chunkSize, this.file.size - this.start(index));
  }

  /** No bytes are read by this. */
  slice(index, count = 1) {
    return this.file.slice(this.start(index), Math.min(this.start(index + count), this.file.size));
  }

  set(index, state) {
    const before = this.states[index];
    const length = this.length(index);
    this.states[index] = state;
    this.counts[before]--;
    this.counts[state]++;
    this.#bytes[before] -= length;
    this.#bytes[state] += length;
    this.#inFlight.delete(index);
  }

  /** Takes over which chunks the server has; those it does not have are to be sent. */
  reset(confirmed) {
    const there = new Set(confirmed);
    for (let i = 0; i < this.total; i++) {
      this.set(i, there.has(i) ? ChunkState.confirmed : ChunkState.waiting);
    }
  }

  missing() {
    const missing = [];
    for (let i = 0; i < this.total; i++) if (this.states[i] === ChunkState.waiting) missing.push(i);
    return missing;
  }

  /** Of a chunk that is being sent, so many bytes are out. Answers how many that is more than before. */
  progress(index, bytes) {
    const more = Math.max(0, bytes - (this.#inFlight.get(index) ?? 0));
    this.#moved += more;
    this.#inFlight.set(index, bytes);
    return more;
  }

  /** How much of a chunk under way is out, 0 to 1. */
  fraction(index) {
    return (this.#inFlight.get(index) ?? 0) / this.length(index);
  }

  /** Bytes that have been sent, those of chunks under way too. */
  get sentBytes() {
    let bytes = this.#bytes[ChunkState.sent] + this.#bytes[ChunkState.confirmed];
    for (const sent of this.#inFlight.values()) bytes += sent;
    return bytes;
  }

  /** Bytes a second over the last seconds; 0 as long as it cannot be told. */
  rate() {
    const now = Date.now();
    const samples = this.#samples;
    if (now - (samples.at(-1)?.at ?? 0) >= 250) samples.push({ at: now, moved: this.#moved });
    while (now - samples[0].at > RATE_WINDOW_MS && samples.length > 2) samples.shift();
    const seconds = (now - samples[0].at) / 1000;
    return seconds < 0.5 ? 0 : (this.#moved - samples[0].moved) / seconds;
  }

  /** What was measured before a pause says nothing about after it. */
  forgetRate() {
    this.#samples = [];
  }
}
