// Chromium behind a line, with a fresh profile. What no page of ours may do is watched in every scenario:
// break its Content-Security-Policy, throw, or ask for another host than the API and S3.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { Line, OWN } from "./line.mjs";
import { chromium } from "./packages.mjs";

export const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Chromium goes past a proxy to this machine's own addresses unless told.
  "--proxy-bypass-list=<-loopback>",
];

export class Browser {
  line = new Line();
  /** What a page did that it may not. */
  faults = [];
  /** Hosts that pages and their workers asked for. */
  #asked = new Set();
  #options;
  #context = null;
  #port;

  /**
   * @param {{profile: string, origin: string, keepsFiles: boolean}} options the folder of the profile; the
   *   page's origin; whether somebody has told the browser to let that page read its files at every visit
   */
  constructor(options) {
    this.#options = options;
  }

  async start(extra = {}) {
    const { profile, origin, keepsFiles } = this.#options;
    if (!this.#port) {
      this.#port = await this.line.start();
      mkdirSync(`${profile}/Default`, { recursive: true });
      // What the browser itself writes when somebody chooses "Allow on every visit".
      const allowed = { [`${origin},*`]: { last_modified: "13370000000000000", setting: 1 } };
      const exceptions = keepsFiles ? { file_system_access_extended_permission: allowed } : {};
      writeFileSync(`${profile}/Default/Preferences`, JSON.stringify({ profile: { content_settings: { exceptions } } }));
    }
    this.#context = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.TEST_CHROMIUM,
      headless: true,
      args: FLAGS,
      proxy: { server: `http://127.0.0.1:${this.#port}` },
      viewport: { width: 1024, height: 900 },
      ...extra,
    });
    this.#context.setDefaultTimeout(60_000);
    await this.#context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        console.error(`CSP violation: ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}`);
      });
    });
    this.#context.on("page", (page) => this.#watch(page));
    for (const page of this.#context.pages()) this.#watch(page);
  }

  #watch(page) {
    page.on("request", (request) => this.#asked.add(new URL(request.url()).host));
    page.on("pageerror", (error) => this.faults.push(`error in the page: ${error} ${error.stack}`));
    page.on("console", (message) => {
      if (/CSP violation|Content Security Policy/i.test(message.text())) this.faults.push(message.text());
    });
  }

  /** The tab that Chromium opens with, or another. */
  async tab() {
    const blank = this.#context.pages().find((page) => page.url() === "about:blank");
    return blank ?? (await this.#context.newPage());
  }

  get context() {
    return this.#context;
  }

  /** Ends Chromium; the profile stays, so that it can start again. */
  async close() {
    await this.#context?.close();
    this.#context = null;
  }

  async end() {
    await this.close();
    this.line.stop();
  }

  /** What is to be read on every tab, for whoever looks why something failed. */
  async said() {
    const pages = this.#context?.pages() ?? [];
    const texts = await Promise.all(pages.map((page) => page.locator("main").innerText({ timeout: 2_000 }).catch(String)));
    return [...texts, ...this.faults].join("\n---\n");
  }

  /** Chromium's processes, `{type, id}` each. */
  async processes() {
    const session = await this.#context.browser().newBrowserCDPSession();
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    await session.detach();
    return processInfo;
  }

  /** As if it had crashed: it is killed, and has no time to write anything. */
  async crash() {
    const browser = (await this.processes()).find(({ type }) => type === "browser");
    const closed = this.#context.waitForEvent("close");
    process.kill(browser.id, "SIGKILL");
    await closed;
    this.#context = null;
  }

  /** @param {string[]} hosts those that may be asked */
  check(hosts) {
    assert.deepEqual(this.faults, []);
    const other = (asked, allowed) => [...asked].filter((host) => host !== "" && !allowed.includes(host));
    assert.deepEqual(other(this.#asked, hosts), [], "a page asked other hosts");
    assert.deepEqual(other(this.line.hosts, [...hosts, ...OWN]), [], "the browser asked other hosts");
  }

}
