// The last requests of the flow, as they happen. What is secret in them was masked by the client module.

import { bytes, count } from "./format.js";

/** So many are kept. */
const KEPT = 40;

/** What a request is for, by method and path below `uploads/`; the first that fits. */
const PURPOSES = [
  ["POST", /^init$/, () => "plans the upload: how the file is cut"],
  ["POST", /\/chunks\/presign$/, ({ body }) => `signs ${urls(listed(body?.chunks))} to send chunks by`],
  ["POST", /\/chunks\/confirm$/, ({ body }) => `has the server ask S3 for ${chunksOf(listed(body?.chunks))}`],
  ["POST", /\/reconcile$/, () => "asks what S3 has, to go on from there"],
  ["POST", /\/complete$/, () => "has S3 put the chunks together"],
  ["GET", /\/download$/, () => "signs a link to the finished file"],
  ["GET", /\?wait_for=/, () => "waits for the finished file"],
  ["GET", /./, () => "asks how far the upload is"],
  ["DELETE", /./, () => "cancels: what was sent is removed"],
];

const plural = (word) => (n) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const urls = plural("URL");
const chunksOf = plural("chunk");

/** Lists come cut, the rest as a line that begins with its number. */
function listed(list = []) {
  const cut = typeof list.at(-1) === "string" && /^… (\d+) more$/.exec(list.at(-1));
  return cut ? list.length - 1 + Number(cut[1]) : list.length;
}

export class Requests {
  #list;
  #empty;
  #panel;
  #rows = new Map();
  #changed = new Set();
  #frame = 0;

  /**
   * @param {HTMLElement} list an `ol`, newest first
   * @param {HTMLElement} empty shown as long as there is nothing
   */
  constructor(list, empty) {
    this.#list = list;
    this.#empty = empty;
    this.#panel = list.closest("details");
    this.#panel.addEventListener("toggle", () => this.#later());
  }

  /** @param {import("../upflow/trace.js").RequestSeen} request */
  show(request) {
    this.#changed.add(request);
    // Only what stays: the oldest go first.
    for (const old of this.#changed) {
      if (this.#changed.size <= KEPT) break;
      this.#changed.delete(old);
    }
    this.#later();
  }

  /** Nothing is drawn that nobody sees. */
  #later() {
    if (!this.#panel.open) return;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      for (const changed of this.#changed) this.#draw(changed);
      this.#changed.clear();
      this.#trim();
    });
  }

  #draw(request) {
    let row = this.#rows.get(request.id);
    if (!row) {
      row = new Row(request);
      this.#rows.set(request.id, row);
      this.#list.prepend(row.element);
      this.#empty.hidden = true;
    }
    row.draw();
  }

  /** What somebody is reading stays. */
  #trim() {
    let beyond = this.#rows.size - KEPT;
    for (const [id, { element }] of this.#rows) {
      if (beyond <= 0) return;
      beyond--;
      if (element.firstElementChild.open || element.contains(document.activeElement)) continue;
      element.remove();
      this.#rows.delete(id);
    }
  }
}

class Row {
  #request;
  #parts;

  constructor(request) {
    this.#request = request;
    this.element = document.createElement("li");
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    this.#parts = Object.fromEntries(["status", "method", "path", "purpose", "took"].map((name) => [name, part(name)]));
    summary.append(...Object.values(this.#parts));
    details.append(summary);
    details.addEventListener("toggle", () => this.draw());
    this.element.append(details);
    this.#parts.method.textContent = request.method;
    this.#parts.path.textContent = shortPath(request);
    this.#parts.purpose.textContent = purpose(request);
  }

  draw() {
    const { milliseconds } = this.#request;
    const [text, look] = outcome(this.#request);
    this.#parts.status.textContent = text;
    this.#parts.status.dataset.look = look;
    this.#parts.took.textContent = milliseconds === null ? "" : `${count(Math.round(milliseconds))} ms`;
    const details = this.element.firstElementChild;
    if (!details.open) return;
    details.querySelector("pre")?.remove();
    const pre = document.createElement("pre");
    pre.textContent = written(this.#request);
    details.append(pre);
  }
}

function outcome({ status, stopped }) {
  if (status === null) return ["…", "open"];
  if (stopped) return ["cut", "open"];
  if (status === 0) return ["none", "bad"];
  return [String(status), status < 300 ? "good" : "bad"];
}

/** Without the host, the bucket and most of the upload's id. */
function shortPath({ url }) {
  const path = new URL(url).pathname;
  return path.slice(path.indexOf("/uploads/")).replace(/\/([0-9a-f]{4})[0-9a-f-]{32}/, "/$1…");
}

function part(name) {
  const element = document.createElement("span");
  element.className = name;
  return element;
}

function purpose(request) {
  if (request.to === "storage") {
    const index = /\/chunks\/(\d+)/.exec(request.url)?.[1];
    return `sends chunk ${index} to S3, ${bytes(request.bytes)}`;
  }
  const path = request.url.slice(request.url.indexOf("uploads/") + "uploads/".length);
  const [, , say] = PURPOSES.find(([method, pattern]) => method === request.method && pattern.test(path)) ?? [];
  return say?.(request) ?? path;
}

/** As it goes over the wire. */
function written({ method, url, headers, body, bytes: sent, status, stopped, answer }) {
  const lines = [`${method} ${url}`];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  if (body) lines.push("", JSON.stringify(body, null, 2));
  if (sent !== null) lines.push("", `(${count(sent)} bytes of the file)`);
  if (status !== null) lines.push("", status ? `→ ${status}` : stopped ? "→ broken off here" : "→ no answer");
  if (answer) lines.push(typeof answer === "string" ? answer : JSON.stringify(answer, null, 2));
  return lines.join("\n");
}
