// One file on the page: waits for its turn, runs, is paused, ends; or waits to be chosen again.

import { ChunkState, Chunks } from "../upflow/chunks.js";
import { Card, announce } from "./card.js";
import * as format from "./format.js";
import { forget, hold, release, remember, runningElsewhere } from "./remembered.js";

/** Codes after which the same upload cannot go on. */
const OVER = new Set(["upload_aborted", "upload_expired", "upload_not_found", "checksum_mismatch", "file_changed"]);
const WATCH_PAUSE_MS = 2_000;
/** A link is renewed this long before it ends. */
const LINK_REST_MS = 30_000;

export class Item {
  #page;
  #upload = null;
  #entry = null;
  #settings = {};
  #phase = "";
  #gone = false;
  #link = null;
  #sample;

  /**
   * @param {object} page `client()`, `enqueue(item)`, `leave(item)`, `place(item, section)`
   * @param {{name: string, size: number}} file
   */
  constructor(page, { name, size }) {
    this.#page = page;
    this.name = name;
    this.size = size;
    this.card = new Card(name, size, {
      pause: () => this.#upload?.pause(),
      resume: () => this.#upload?.resume(),
      cancel: () => this.#cancel(),
      remove: () => this.#remove(),
      retry: () => this.retry(),
      choose: (file) => this.#choose(file),
      download: (event) => this.#download(event),
    });
  }

  /** A file to be sent anew, or with `entry` to be gone on with. */
  static async of(page, file, settings) {
    const item = new Item(page, file);
    item.#settings = settings;
    await item.#queue(file);
    return item;
  }

  /** An upload of an earlier session. */
  static ofEarlier(page, entry) {
    const item = new Item(page, entry);
    item.#entry = entry;
    page.place(item, "unfinished");
    item.#look();
    return item;
  }

  /** Whether this is about the same file, as far as can be told without reading it. */
  resembles(file) {
    const ours = this.file ?? this.#entry;
    return ours.name === file.name && ours.size === file.size && ours.lastModified === file.lastModified;
  }

  get waitsForFile() {
    return !this.file && this.#entry !== null && !this.#gone;
  }

  get ended() {
    return this.#phase === "completed" || this.#phase === "cancelled" || this.#phase === "over";
  }

  /** Goes on with the file, if it is the one. Answers why not, or `null`. */
  async goOn(file, settings) {
    const refusal = await this.#refusal(file);
    if (refusal) return refusal;
    this.#settings = { ...settings, chunkSize: undefined };
    await this.#queue(file);
    return null;
  }

  async #queue(file) {
    this.file = file;
    this.#phase = "queued";
    this.card.error("");
    this.card.status("Waiting for its turn");
    this.card.progress(0, "off");
    this.card.actions("cancel");
    this.#page.place(this, "uploads");
    this.#page.enqueue(this);
  }

  /** Called when it is this item's turn; resolves when the turn is over. */
  async run() {
    if (this.#phase !== "queued") return;
    const client = this.#page.client();
    const { file } = this;
    announce(`${this.name}: ${this.#entry ? "going on" : "starting"}`);
    if (this.#entry) hold(this.#entry.uploadId);
    try {
      this.card.status("Preparing");
      this.#sample ??= this.#entry?.sample ?? (await client.sample(file));
      if (this.#phase !== "queued") return;
      this.#upload = client.upload(file, {
        ...this.#settings,
        uploadId: this.#entry?.uploadId,
        uploadToken: this.#entry?.uploadToken,
        onProgress: (progress) => this.#show(progress),
      });
      const finished = await this.#upload.done;
      await this.#completed(finished, this.#upload.verified);
    } catch (error) {
      if (error.code !== "cancelled") this.#failed(error);
    } finally {
      if (this.#entry) release(this.#entry.uploadId);
    }
  }

  #show(progress) {
    const { phase, paused, uploadId, chunks, sentBytes, totalBytes } = progress;
    if (uploadId && !this.#entry && phase !== "completed") this.#remember(uploadId);
    if (phase === "completed" || phase === "failed") return;
    this.card.status(format.status(progress));
    const resting = paused && (phase === "starting" || phase === "sending");
    const look = resting ? "paused" : phase === "sending" ? "running" : phase.startsWith("cancel") ? "off" : "busy";
    const percent = phase === "starting" || phase === "sending" ? format.percent(sentBytes, totalBytes) : 100;
    this.card.progress(phase.startsWith("cancel") ? 0 : percent, look, format.numbers(progress));
    this.card.chunks(chunks);
    const shown = resting ? "paused" : phase;
    if (shown === this.#phase) return;
    this.#phase = shown;
    const actions = { starting: ["pause", "cancel"], sending: ["pause", "cancel"], paused: ["resume", "cancel"] };
    this.card.actions(...(actions[shown] ?? (shown.startsWith("cancel") ? [] : ["cancel"])));
    announce(`${this.name}: ${format.status(progress)}`);
  }

  #remember(uploadId) {
    const { name, size, lastModified } = this.file;
    const { uploadToken } = this.#upload;
    this.#entry = { uploadId, uploadToken, name, size, lastModified, sample: this.#sample, since: Date.now() };
    remember(this.#entry);
    hold(uploadId);
  }

  async #completed(upload, verified) {
    this.#phase = "completed";
    this.#entry ??= { uploadId: upload.upload_id, uploadToken: this.#upload?.uploadToken };
    if (this.file) forget(upload.upload_id);
    this.card.status("Complete");
    this.card.progress(100, "done");
    this.card.chunks(null);
    this.card.error("");
    this.card.good(format.integrity(upload, verified));
    const facts = [
      ["Key in the bucket", upload.final_s3_key],
      ["Upload", upload.upload_id],
      ["Chunks", upload.total_chunks ? `${format.count(upload.total_chunks)} of ${format.bytes(upload.chunk_size)}` : "none"],
    ];
    facts.push(["Checked by the server", format.integrityLevel(upload.integrity?.level)]);
    if (upload.integrity?.value) facts.push([upload.integrity.algorithm.toUpperCase(), upload.integrity.value]);
    this.card.facts(facts);
    try {
      await this.#renewLink();
      this.card.actions("download", "remove");
      announce(`${this.name}: complete. ${format.integrity(upload, verified)}`);
    } catch (error) {
      this.card.actions("remove");
      this.card.error(`The file is complete, but there is no download link: ${error.detail}`);
    }
  }

  async #renewLink() {
    const { uploadId, uploadToken } = this.#entry;
    const { url, expires_in } = await this.#page.client().download(uploadId, { token: uploadToken });
    this.#link = { url, until: Date.now() + expires_in * 1000 - LINK_REST_MS };
    this.card.download(url);
  }

  async #download(event) {
    if (Date.now() < this.#link.until) return;
    event.preventDefault();
    try {
      await this.#renewLink();
      location.assign(this.#link.url);
    } catch (error) {
      this.card.error(`There is no download link: ${error.detail}`);
    }
  }

  #failed(error) {
    const over = OVER.has(error.code);
    this.#phase = over ? "over" : "failed";
    this.card.status("Stopped");
    this.card.progress(this.#percent(), "off");
    this.card.chunks(this.#upload?.progress.chunks);
    const arrived = this.#upload?.progress.chunks?.counts[ChunkState.confirmed] > 0;
    const keeps = arrived && !over ? " What has arrived is kept." : "";
    this.card.error(error.detail + keeps);
    if (error.code === "upload_aborted" || error.code === "upload_expired" || error.code === "upload_not_found") {
      this.#forget();
      this.card.actions("remove");
    } else if (over) {
      this.card.actions("cancel");
    } else if (error.code === "file_unreadable" && this.#entry) {
      this.file = null;
      this.card.actions("choose", "cancel");
    } else {
      this.card.actions("retry", this.#entry ? "cancel" : "remove");
    }
  }

  #percent() {
    const { sentBytes = 0, totalBytes = 0 } = this.#upload?.progress ?? {};
    return format.percent(sentBytes, totalBytes);
  }

  get stopped() {
    return this.#phase === "failed";
  }

  retry() {
    if (this.file) this.#queue(this.file);
    else this.#look();
  }

  async #cancel() {
    const before = this.#phase;
    this.#phase = "cancelling";
    this.card.actions();
    this.card.error("");
    this.card.status("Cancelling");
    try {
      if (this.#upload) await this.#upload.cancel();
      else if (this.#entry) await this.#abort();
    } catch (error) {
      this.card.status("Not cancelled");
      this.card.error(`The server could not be told: ${error.detail}`);
      this.#phase = before;
      return this.card.actions("cancel");
    }
    this.#phase = "cancelled";
    if (this.#entry) release(this.#entry.uploadId);
    this.#forget();
    this.card.status(format.status({ phase: "cancelled" }));
    this.card.progress(0, "gone");
    this.card.chunks(null);
    this.card.actions("remove");
    this.card.focus();
    announce(`${this.name}: cancelled`);
  }

  async #abort() {
    const { uploadId, uploadToken } = this.#entry;
    await this.#page.client().abort(uploadId, { token: uploadToken });
  }

  #remove() {
    this.#forget();
    this.#gone = true;
    this.#page.leave(this);
  }

  #forget() {
    if (this.#entry) forget(this.#entry.uploadId);
  }

  /** What became of an upload of an earlier session. */
  async #look() {
    const { card } = this;
    const { uploadId, uploadToken, since } = this.#entry;
    card.error("");
    card.status("Asking the server how far it is");
    card.actions();
    const client = this.#page.client();
    try {
      for (;;) {
        const upload = await client.get(uploadId, { token: uploadToken });
        if (this.file || this.#gone) return;
        if (upload.status === "completed") {
          this.#page.place(this, "uploads");
          return await this.#completed(upload, null);
        }
        if (upload.status === "aborted" || upload.status === "expired") {
          const word = upload.status === "aborted" ? "cancelled" : "expired";
          this.#phase = "over";
          this.#forget();
          card.status(`It has ${word === "expired" ? "expired" : "been cancelled"}; what was sent is removed`);
          card.progress(0, "gone");
          return card.actions("remove");
        }
        const chunks = new Chunks({ size: this.size }, upload);
        chunks.reset(upload.uploaded_chunks);
        card.chunks(chunks);
        const arrived = `${format.bytes(upload.uploaded_bytes)} of ${format.bytes(this.size)} arrived · begun ${format.moment(since)}`;
        if (upload.status !== "pending_assembly") {
          card.status("Choose the same file again to go on");
          card.progress(format.percent(upload.uploaded_bytes, this.size), "paused", arrived);
          return card.actions("choose", "cancel");
        }
        card.status("Everything is sent; S3 puts the file together");
        card.progress(100, "busy", arrived);
        card.actions("cancel");
        await new Promise((resolve) => setTimeout(resolve, WATCH_PAUSE_MS));
      }
    } catch (error) {
      if (this.file || this.#gone) return;
      if (error.code === "upload_not_found") {
        this.#phase = "over";
        this.#forget();
        card.status("The server does not know this upload any more");
        card.progress(0, "gone");
        return card.actions("remove");
      }
      card.status("Its state is not known");
      card.error(error.detail);
      card.actions("retry");
    }
  }

  async #choose(file) {
    const refusal = await this.goOn(file, this.#page.settings());
    this.card.error(refusal ?? "");
  }

  async #refusal(file) {
    const { name, size, lastModified, sample } = this.#entry;
    const instead = "Choose the original, or cancel this upload and send the file anew.";
    if (file.name !== name) return `This is “${file.name}”; the upload is of “${name}”. ${instead}`;
    if (file.size !== size) {
      const [is, was] = [format.count(file.size), format.count(size)];
      return `This file has ${is} bytes; the one that was being sent had ${was}. ${instead}`;
    }
    if (file.lastModified !== lastModified) {
      const [is, was] = [format.moment(file.lastModified), format.moment(lastModified)];
      if (is === was) return `This file was changed within the second after the one that was being sent. ${instead}`;
      return `This file was last changed ${is}; the one that was being sent, ${was}. ${instead}`;
    }
    if ((await runningElsewhere()).has(this.#entry.uploadId)) return "Another tab is sending this file already.";
    try {
      if ((await this.#page.client().sample(file)) === sample) return null;
    } catch (error) {
      return error.detail;
    }
    return `This file has the same name, size and date, but other contents. ${instead}`;
  }
}
