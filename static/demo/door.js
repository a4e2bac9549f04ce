// The API key, where the server asks for one. This tab keeps it in sessionStorage: a reload finds it,
// another tab or another day do not. Uploads that were begun go on without it, by tokens of their own.

import { announce } from "./card.js";

const KEPT = "upflow.api-key";

/** Without storage the key lasts until the next reload. */
function kept() {
  try {
    return sessionStorage.getItem(KEPT) ?? undefined;
  } catch {
    return undefined;
  }
}

function keep(key) {
  try {
    if (key) sessionStorage.setItem(KEPT, key);
    else sessionStorage.removeItem(KEPT);
  } catch {
    // As said above.
  }
}

/** A person waits for the answer. */
const PATIENCE_MS = 10_000;

export class Door {
  /** The key in use. */
  key = kept();
  #server;
  #section;
  #input;
  #error;
  #unlocked;
  #onKey;
  #opening = null;
  #opened = () => {};

  /**
   * @param {object} parts
   * @param {string} parts.server its address
   * @param {HTMLElement} parts.section the form that asks, with an input and a place for what is wrong
   * @param {HTMLElement} parts.unlocked what says that a key is in use, with a button that forgets it
   * @param {() => void} parts.onOpen called when somebody has given a key that the server takes
   * @param {(key: ?string) => void} parts.onKey hears of every key from now on, and of none
   */
  constructor({ server, section, unlocked, onOpen, onKey }) {
    this.#server = server;
    this.#section = section;
    this.#input = section.querySelector("input");
    this.#error = section.querySelector(".error");
    this.#unlocked = unlocked;
    this.#onKey = onKey;
    section.querySelector("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      if (await this.#take(this.#input.value.trim())) onOpen();
    });
    unlocked.querySelector("button").addEventListener("click", () => this.#forget());
    unlocked.hidden = !this.key;
  }

  /** Asks for a key if the server does. That it cannot be reached, the first upload will tell. */
  async look() {
    const { key } = this;
    if (await this.#refusal(key).catch(() => null)) this.ask(key);
  }

  /**
   * Asks for a key because the server has refused `key`; resolves once there is one that it takes, at once
   * where that is so already.
   * @param {string} [key] none where a call was made without
   */
  ask(key) {
    if (this.key !== key) return Promise.resolve();
    if (this.#opening) return this.#opening;
    this.#opening = new Promise((opened) => (this.#opened = opened));
    this.#section.hidden = false;
    this.#unlocked.hidden = true;
    // Without a key there is nothing wrong yet.
    this.#say(key ? "The server does not take the key of this tab any more." : "");
    this.#use(undefined);
    announce("The server asks for an API key");
    return this.#opening;
  }

  /** Answers whether the server takes it. */
  async #take(key) {
    const button = this.#section.querySelector("button");
    button.disabled = true;
    this.#say("");
    const wrong = await this.#refusal(key).catch((error) => error.message);
    button.disabled = false;
    if (wrong) {
      this.#say(wrong);
      this.#input.focus();
      this.#input.select();
      return false;
    }
    this.#use(key);
    this.#input.value = "";
    this.#section.hidden = true;
    this.#unlocked.hidden = false;
    announce("The server takes the key");
    this.#opened();
    this.#opening = null;
    return true;
  }

  #say(text) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
  }

  async #forget() {
    this.#use(undefined);
    this.#unlocked.hidden = true;
    await this.look();
    if (!this.#section.hidden) this.#input.focus();
  }

  #use(key) {
    this.key = key;
    keep(key);
    this.#onKey(key);
  }

  /**
   * What the server has against the key, or against having none; `null` where it lets in. Asked once and
   * not shown among the requests: no upload does this.
   */
  async #refusal(key) {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const url = new URL("uploads?limit=1", this.#server);
    const signal = AbortSignal.timeout(PATIENCE_MS);
    let answer;
    try {
      answer = await fetch(url, { headers, signal, cache: "no-store", credentials: "omit" });
    } catch {
      throw new Error("The server does not answer. Check the connection, and whether it runs.");
    }
    if (answer.ok) return null;
    if (answer.status === 401) return "The server does not know this key. Was all of it copied?";
    if (answer.status === 403) return "This is no API key, but the token of one upload: it takes a key.";
    throw new Error(`The server cannot tell now (HTTP ${answer.status}). Try again in a moment.`);
  }
}
