// What the page shows of one upload. Knows nothing of uploading.

import { ChunkMap } from "./chunk-map.js";
import { bytes, count } from "./format.js";

/** Status to step, and the end that it is if not the good one. */
const LIFECYCLE = {
  initialized: [0, ""],
  uploading: [1, ""],
  pending_assembly: [2, ""],
  completed: [3, ""],
  failed: [3, "Failed"],
  aborted: [3, "Cancelled"],
  expired: [3, "Expired"],
};

const template = document.getElementById("card");
const live = document.getElementById("live");
let cards = 0;

/** Told to screen readers, without moving anything. */
export function announce(text) {
  const line = document.createElement("p");
  line.textContent = text;
  live.append(line);
  while (live.childElementCount > 5) live.firstElementChild.remove();
}

export class Card {
  #map;
  #actions = new Map();
  #bar;
  #fill;
  /** Instead of the browser's plain dialog: answers whether it has shown one. */
  onChoose = null;

  /**
   * @param {string} name of the file
   * @param {number} size
   * @param {Object<string, Function>} on a function for each action; `choose` gets the file
   */
  constructor(name, size, on) {
    this.element = template.content.firstElementChild.cloneNode(true);
    const id = `upload-${++cards}`;
    this.#text(".name", name).id = id;
    this.#text(".size", bytes(size));
    this.element.firstElementChild.setAttribute("aria-labelledby", id);
    this.#bar = this.#find(".bar");
    this.#bar.setAttribute("aria-labelledby", id);
    this.#fill = this.#find(".fill");
    this.#map = new ChunkMap(this.#find("canvas"));
    for (const element of this.element.querySelectorAll("[data-action]")) {
      const { action } = element.dataset;
      const control = element.querySelector("input") ?? element;
      control.setAttribute("aria-label", `${element.textContent.trim()}: ${name}`);
      this.#actions.set(action, element);
      if (action === "choose") {
        control.addEventListener("click", (event) => this.#choose(event, control));
        control.addEventListener("change", () => {
          if (control.files[0]) on.choose(control.files[0]);
          control.value = "";
        });
      } else {
        element.addEventListener("click", (event) => on[action]?.(event));
      }
    }
  }

  async #choose(event, control) {
    if (!this.onChoose) return;
    event.preventDefault();
    if (await this.onChoose()) return;
    this.onChoose = null;
    control.click();
  }

  /** Shows these actions and no others; where the focused one goes, the focus goes to one that stays. */
  actions(...names) {
    const focused = document.activeElement;
    for (const [name, element] of this.#actions) element.hidden = !names.includes(name);
    if (this.#find(".actions").contains(focused) && focused.closest("[hidden]")) this.focus();
  }

  focus() {
    const shown = [...this.#actions.values()].find((element) => !element.hidden);
    (shown?.querySelector("input") ?? shown)?.focus();
  }

  /** @param {boolean} troubled something is being tried again */
  status(text, troubled = false) {
    this.#text(".status", text).classList.toggle("troubled", troubled);
  }

  /** @param {?string} status the upload's own, in the server's word; `null` before it has one */
  lifecycle(status) {
    const list = this.#find(".lifecycle");
    if (list.dataset.status === (status ?? "")) return;
    const [step, end] = LIFECYCLE[status] ?? [0, ""];
    list.dataset.end = end;
    [...list.children].forEach((item, i) => {
      item.className = i < step ? "past" : i === step ? "now" : "";
      if (i === step) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    const last = list.lastElementChild;
    last.textContent = end || "Completed";
    list.dataset.status = status ?? "";
  }

  /** @param {"running"|"paused"|"busy"|"off"|"done"|"gone"} look */
  progress(percent, look, numbers = "") {
    this.element.dataset.look = look;
    this.#fill.style.transform = `scaleX(${percent / 100})`;
    this.#bar.setAttribute("aria-valuenow", percent);
    this.#text(".numbers", numbers).hidden = !numbers;
  }

  /** Takes it off the page. */
  end() {
    this.#map.end();
    this.element.remove();
  }

  /** @param {?import("../upflow/chunks.js").Chunks} chunks `null` hides the map; of a single chunk the bar says it all */
  chunks(chunks) {
    this.#find(".map").hidden = !chunks || chunks.total < 2;
    if (!chunks) return;
    this.#map.onScale = (each) => {
      const what = each === 1 ? "" : `, ${each} to a square`;
      this.#text(".scale", `${plural(chunks.total, "chunk")} of ${bytes(Math.min(chunks.chunkSize, chunks.fileSize))}${what}`);
    };
    this.#map.show(chunks);
    ["waiting", "sending", "sent", "confirmed"].forEach((name, state) => {
      this.#text(`.n-${name}`, count(chunks.counts[state]));
    });
  }

  error(text) {
    const element = this.#find(".message.error");
    element.hidden = !text;
    if (element.textContent !== text) element.textContent = text;
  }

  good(text) {
    this.#text(".message.good", text).hidden = !text;
  }

  download(url) {
    this.#actions.get("download").href = url;
  }

  facts(pairs) {
    const list = this.#find(".facts dl");
    list.replaceChildren(
      ...pairs.flatMap(([term, text]) => {
        const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
        [dt.textContent, dd.textContent] = [term, text];
        return [dt, dd];
      }),
    );
    this.#find(".facts").hidden = pairs.length === 0;
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  #text(selector, text) {
    const element = this.#find(selector);
    if (element.textContent !== text) element.textContent = text;
    return element;
  }
}

function plural(n, word) {
  return `${count(n)} ${word}${n === 1 ? "" : "s"}`;
}
