// One file on the page: waits for its turn, runs, is paused, ends; or is of an earlier session.

import { ChunkState } from "../upflow.js";
import { Card, announce } from "./card.js";
import { look } from "./earlier.js";
import * as format from "./format.js";
import { canPick, isReadable, mayRead, pick } from "./handles.js";
import { refusal } from "./recognise.js";
import { forget, hold, release, remember } from "./remembered.js";

/** Codes after which the same upload cannot go on, */
const OVER = new Set(["checksum_mismatch", "file_changed"]);
/** and after which there is none any more. */
const GONE = new Set(["upload_aborted", "upload_expired", "upload_not_found"]);
/** A link is renewed this long before it ends. */
const LINK_REST_MS = 30_000;

export const ELSEWHERE = "Another tab of this browser is sending this file.";

export class Item {
  #page;
  #upload = null;
  #entry = null;
  #handle = null;
  #settings = {};
  #phase = "";
  #gone = false;
  #link = null;
  #sample;
  #tokenRefused = false;

  /**
   * @param {object} page `client()`, `settings()`, `enqueue(item)`, `leave(item)`, `place(item, section)`
   * @param {{name: string, size: number}} file
   */
  constructor(page, { name, size }) {
    this.#page = page;
    this.name = name;
    this.size = size;
    this.card = new Card(name, size, {
      pause: () => this.#pause(true),
      resume: () => this.#pause(false),
      cancel: () => this.#cancel(),
      remove: () => this.#remove(),
      retry: () => this.retry(),
      proceed: () => this.#proceed(),
      choose: (file) => this.#chosen({ file }),
      download: (event) => this.#download(event),
    });
    if (canPick) this.card.onChoose = () => this.#choose();
  }

  /** A file to be sent anew. */
  static of(page, { file, handle }, settings) {
    const item = new Item(page, file);
    item.#settings = settings;
    item.#handle = handle ?? null;
    item.#queue(file);
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

  get stopped() {
    return this.#phase === "failed";
  }

  /** Whether closing the page now would lose it: the server knows nothing of it yet. */
  get unknown() {
    return (this.#phase === "queued" || this.#phase === "locked") && this.#entry === null;
  }

  /** Goes on with the file, if it is the one. Answers why not, or `null`. */
  async goOn({ file, handle }, settings) {
    const why = await refusal(this.#entry, file, this.#page.client());
    if (why) return why;
    if (this.file) return null;
    if (!(await hold(this.#entry.uploadId))) return ELSEWHERE;
    // The plan is the server's: chunks stay as they were cut.
    this.#settings = { ...settings, chunkSize: undefined };
    if (handle) this.#keep({ handle });
    this.#queue(file);
    return null;
  }

  #queue(file) {
    this.file = file;
    this.#phase = "queued";
    this.card.error("");
    this.card.status("Waiting for its turn");
    this.card.progress(0, "off");
    this.card.actions("cancel");
    this.#page.place(this, "uploads");
    this.#page.enqueue(this);
  }

  /** The upload's own, as long as the server takes it. */
  get #token() {
    return this.#tokenRefused ? undefined : this.#entry?.uploadToken;
  }

  /**
   * Makes calls by the upload's token; where the server does not take it any more, by the API key, which is
   * asked for if need be.
   * @param {(client: import("../upflow.js").UpFlow, token: ?string) => Promise} calls
   */
  async #allowed(calls) {
    for (;;) {
      const [token, { key }] = [this.#token, this.#page];
      try {
        return await calls(this.#page.client(), token);
      } catch (error) {
        if (error.status !== 401) throw error;
        await this.#unlocked(token, key);
      }
    }
  }

  /** Resolves once there is something else to try than this token, or this key. */
  async #unlocked(token, key) {
    if (token) {
      // It has ended, or was signed by a key that is no more: an API key can do the same.
      this.#tokenRefused = true;
      if (this.#page.key) return;
    }
    this.card.status("Waiting for an API key");
    this.card.actions(this.#phase === "locked" ? "cancel" : "remove");
    await this.#page.unlock(token ? undefined : key);
  }

  /** Called when it is this item's turn; resolves when the turn is over. */
  async run() {
    if (this.#phase !== "queued") return;
    const client = this.#page.client();
    const { file } = this;
    const [token, { key }] = [this.#token, this.#page];
    announce(`${this.name}: ${this.#entry ? "going on" : "starting"}`);
    try {
      this.card.status("Preparing");
      this.#sample ??= this.#entry?.sample ?? (await client.sample(file));
      if (this.#phase !== "queued") return;
      this.#upload = client.upload(file, {
        ...this.#settings,
        uploadId: this.#entry?.uploadId,
        uploadToken: token,
        onProgress: (progress) => this.#show(progress),
      });
      const finished = await this.#upload.done;
      await this.#completed(finished, this.#upload.verified);
    } catch (error) {
      if (error.status === 401) this.#wait(this.#upload?.uploadToken, key);
      else if (error.code !== "cancelled") this.#failed(error);
    } finally {
      if (this.#entry) release(this.#entry.uploadId);
    }
  }

  #show(progress) {
    const { phase, paused, uploadId, chunks, sentBytes, totalBytes, status } = progress;
    if (uploadId && !this.#entry && phase !== "completed") this.#remember(uploadId);
    if (phase === "completed" || phase === "failed") return;
    const resting = paused && (phase === "starting" || phase === "sending");
    const cancelling = phase.startsWith("cancel");
    const look = resting ? "paused" : phase === "sending" ? "running" : cancelling ? "off" : "busy";
    const percent = phase === "starting" || phase === "sending" ? format.percent(sentBytes, totalBytes) : 100;
    this.card.lifecycle(status);
    this.card.status(format.status(progress), !resting && progress.trouble !== null);
    this.card.progress(cancelling ? 0 : percent, look, format.numbers(progress));
    this.card.chunks(chunks);
    const shown = resting ? "paused" : phase;
    if (shown === this.#phase) return;
    this.#phase = shown;
    const actions = { starting: ["pause", "cancel"], sending: ["pause", "cancel"], paused: ["resume", "cancel"] };
    this.card.actions(...(actions[shown] ?? (cancelling ? [] : ["cancel"])));
    announce(`${this.name}: ${format.status(progress)}`);
  }

  #remember(uploadId) {
    const { name, size, lastModified } = this.file;
    const { uploadToken } = this.#upload;
    const handle = this.#handle;
    this.#keep({ uploadId, uploadToken, name, size, lastModified, sample: this.#sample, since: Date.now(), handle });
    hold(uploadId);
  }

  #pause(paused) {
    if (paused) this.#upload?.pause();
    else this.#upload?.resume();
    if (this.#entry) this.#keep({ paused });
  }

  #keep(changed) {
    this.#entry = { ...this.#entry, ...changed };
    remember(this.#entry);
  }

  async #completed(upload, verified) {
    this.#phase = "completed";
    this.#entry ??= { uploadId: upload.upload_id, uploadToken: this.#upload?.uploadToken };
    if (this.file) forget(upload.upload_id);
    this.card.lifecycle("completed");
    this.card.status("Complete");
    this.card.progress(100, "done");
    this.card.chunks(null);
    this.card.error("");
    this.card.good(format.integrity(upload, verified));
    this.card.facts(format.facts(upload));
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
    const { uploadId } = this.#entry;
    const { url, expires_in } = await this.#allowed((client, token) => client.download(uploadId, { token }));
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
    // Of another owner's key the server says the same; the upload's own token would know.
    const gone = GONE.has(error.code) && !(error.code === "upload_not_found" && this.#tokenRefused);
    const over = gone || OVER.has(error.code);
    const { sentBytes = 0, totalBytes = 0, chunks = null, status = null } = this.#upload?.progress ?? {};
    this.#phase = over ? "over" : "failed";
    this.card.lifecycle(format.statusOf(error.code) ?? status);
    this.card.status("Stopped");
    this.card.progress(format.percent(sentBytes, totalBytes), "off");
    this.card.chunks(chunks);
    const arrived = chunks?.counts[ChunkState.confirmed] > 0;
    this.card.error(error.detail + (arrived && !over ? " What has arrived is kept." : ""));
    if (gone) {
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

  /** Goes on once there is something else to try than this token, or this key. */
  async #wait(token, key) {
    this.#phase = "locked";
    this.card.progress(0, "off");
    await this.#unlocked(token, key);
    if (this.#phase === "locked" && !this.#gone) this.retry();
  }

  async retry() {
    if (!this.file) return this.#look();
    if (this.#entry && !(await hold(this.#entry.uploadId))) return this.card.error(ELSEWHERE);
    this.#queue(this.file);
  }

  async #cancel() {
    const before = this.#phase;
    this.#phase = "cancelling";
    this.card.actions();
    this.card.error("");
    this.card.status("Cancelling");
    try {
      const aborted = await this.#upload?.cancel().catch((error) => {
        if (error.status !== 401) throw error;
      });
      if (!aborted && this.#entry) await this.#abort();
    } catch (error) {
      this.card.status("Not cancelled");
      this.card.error(`The server could not be told: ${error.detail}`);
      this.#phase = before;
      return this.card.actions("cancel");
    }
    this.#phase = "cancelled";
    if (this.#entry) release(this.#entry.uploadId);
    this.#forget();
    this.card.lifecycle("aborted");
    this.card.status(format.status({ phase: "cancelled" }));
    this.card.progress(0, "gone");
    this.card.chunks(null);
    this.card.actions("remove");
    this.card.focus();
    announce(`${this.name}: cancelled`);
  }

  #abort() {
    const { uploadId } = this.#entry;
    return this.#allowed((client, token) => client.abort(uploadId, { token }));
  }

  #remove() {
    this.#forget();
    this.#gone = true;
    this.#page.leave(this);
  }

  #forget() {
    if (this.#entry) forget(this.#entry.uploadId);
  }

  /** What became of an upload of an earlier session, and how it can go on. */
  async #look() {
    const { card } = this;
    card.actions();
    const stopped = () => this.file !== undefined || this.#gone || this.#phase === "cancelling";
    const found = await this.#allowed((client, token) => look(client, this.#entry, token, card, stopped));
    if (found.state === "left") return;
    if (found.state === "completed") {
      this.#page.place(this, "uploads");
      return await this.#completed(found.upload, null);
    }
    if (found.state === "unknown") return card.actions("retry");
    if (found.state === "over") {
      this.#phase = "over";
      this.#forget();
      return card.actions("remove");
    }
    await this.#offer();
  }

  /** By itself where the browser has kept the file and may read it; else it takes a click or the file. */
  async #offer() {
    const { handle, paused } = this.#entry;
    if (!handle) {
      this.card.status("Choose the same file again to go on");
      return this.card.actions("choose", "cancel");
    }
    const readable = await isReadable(handle);
    if (this.file || this.#gone) return;
    if (readable && !paused) return await this.#proceed();
    this.card.status(readable ? "Paused" : "The browser asks for your leave to read the file once more");
    this.card.actions("proceed", "choose", "cancel");
  }

  async #proceed() {
    const { handle } = this.#entry;
    if (!(await mayRead(handle))) {
      this.card.error("The browser may not read the file. Allow it, or choose the file again.");
      return this.card.actions("proceed", "choose", "cancel");
    }
    try {
      await this.#chosen({ file: await handle.getFile() });
    } catch {
      this.card.error("The file is not where it was: it was moved, renamed or deleted. Choose it again.");
      this.card.actions("choose", "cancel");
    }
  }

  async #choose() {
    const picked = await pick();
    if (picked?.length) await this.#chosen(picked[0]);
    return picked !== null;
  }

  async #chosen(picked) {
    const why = await this.goOn(picked, this.#page.settings());
    this.card.error(why ?? "");
    if (why) this.card.actions("choose", "cancel");
  }
}
