// The API key, where the server asks for one. This tab keeps it in sessionStorage: a reload finds it,
// another tab or another day do not. Uploads that were begun go on without it, by tokens of their own.

import { UpFlow } from "../upflow.js";
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

export class Door {
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
   * @param {(key: ?string) => void} parts.onKey hears of every key from now on, and of none
   */
  constructor({ server, section, unlocked, onKey }) {
    this.#server = server;
    this.#section = section;
    this.#input = section.querySelector("input");
    this.#error = section.querySelector(".error");
    this.#unlocked = unlocked;
    this.#onKey = onKey;
    section.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#take(this.#input.value.trim());
    });
    unlocked.querySelector("button").addEventListener("click", () => this.#forget());
    unlocked.hidden = !this.key;
  }

  /** Asks for a key if the server does. That it cannot be reached, the first upload will tell. */
  async look() {
    const refused = await this.#refusal(this.key).catch(() => null);
    if (refused) this.ask(refused);
  }

  /**
   * Asks for a key because a call was refused with `error`; resolves once there is one that the server
   * takes.
   */
  ask(error) {
    if (this.#opening) return this.#opening;
    this.#opening = new Promise((opened) => (this.#opened = opened));
    this.#section.hidden = false;
    this.#unlocked.hidden = true;
    // Without a key there is nothing wrong yet.
    this.#say(this.key && error ? "The server does not take the key of this tab any more." : "");
    this.#use(undefined);
    announce("The server asks for an API key");
    return this.#opening;
  }

  async #take(key) {
    const button = this.#section.querySelector("button");
    button.disabled = true;
    try {
      const refused = await this.#refusal(key);
      if (refused) return this.#wrong(refused);
    } catch (error) {
      return this.#say(error.detail ?? String(error));
    } finally {
      button.disabled = false;
    }
    this.#use(key);
    this.#input.value = "";
    this.#section.hidden = true;
    this.#unlocked.hidden = false;
    this.#unlocked.querySelector("button").focus();
    announce("The server takes the key");
    this.#opened();
    this.#opening = null;
  }

  #wrong({ code, detail }) {
    const known = code === "credentials_invalid" || code === "credentials_missing";
    this.#say(known ? "The server does not know this key. Is it all of it?" : `This is not the key that it takes: ${detail}.`);
    this.#input.focus();
    this.#input.select();
  }

  #say(text) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
  }

  #forget() {
    this.#use(undefined);
    this.ask();
    this.#input.focus();
  }

  #use(key) {
    this.key = key;
    keep(key);
    this.#onKey(key);
  }

  /** What the server has against the key, or against having none. Not for the panel: no upload does this. */
  async #refusal(key) {
    try {
      await new UpFlow({ server: this.#server, token: key }).list({ limit: 1 });
      return null;
    } catch (error) {
      if (error.status === 401 || error.status === 403) return error;
      throw error;
    }
  }
}
