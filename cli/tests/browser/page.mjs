// The page as a person uses it: by names and words.

/** A tab that shows the demo. */
export class Demo {
  constructor(page) {
    this.page = page;
  }

  static async open(browser, url) {
    const page = await browser.tab();
    await page.goto(url);
    return new Demo(page);
  }

  /** @param {string[]} paths */
  choose(...paths) {
    return this.page.locator("#files").setInputFiles(paths);
  }

  /** As from a file manager: these come with handles that the page can keep. */
  async drop(...paths) {
    const box = await this.page.locator("#drop").boundingBox();
    const at = { x: box.x + box.width / 2, y: box.y + 20 };
    const data = { items: [], files: paths, dragOperationsMask: 1 };
    const session = await this.page.context().newCDPSession(this.page);
    for (const type of ["dragEnter", "dragOver", "drop"]) {
      await session.send("Input.dispatchDragEvent", { type, ...at, data });
    }
    await session.detach();
  }

  async settings({ chunkSize, parallel }) {
    await this.page.getByText("Advanced", { exact: true }).click();
    if (chunkSize) await this.page.getByLabel("Chunk size").selectOption(chunkSize);
    if (parallel) await this.page.getByLabel("Chunks at once").selectOption(parallel);
  }

  /** What asks for an API key. */
  get door() {
    return this.page.getByRole("region", { name: "This server asks for an API key" });
  }

  async unlock(key) {
    await this.door.getByLabel("API key").last().fill(key);
    await this.door.getByRole("button", { name: "Unlock" }).click();
  }

  /** @param {string} name of the file */
  card(name) {
    return new Card(this.page, this.page.getByRole("article", { name, exact: true }));
  }
}

/** What the page shows of one upload. */
export class Card {
  constructor(page, element) {
    this.page = page;
    this.element = element;
  }

  press(action) {
    return this.element.getByRole("button", { name: new RegExp(`^${action}`) }).click();
  }

  chooseAgain(path) {
    return this.element.locator("[data-action=choose] input").setInputFiles(path);
  }

  /** Waits until it says this. */
  says(text, timeout) {
    return this.element.getByText(text).first().waitFor({ timeout });
  }

  async completed() {
    await this.element.locator("[data-status=completed]").waitFor({ timeout: 120_000 });
    await this.element.getByRole("link", { name: /^Download/ }).waitFor();
  }

  /** Chunks in a state: waiting, sending, sent or confirmed. */
  async count(state) {
    const text = await this.element.locator(`.n-${state}`).textContent();
    return Number(text.replaceAll(",", ""));
  }

  /** Waits until at least so many chunks are in a state. */
  async atLeast(number, state, timeout) {
    const handle = await this.element.locator(`.n-${state}`).elementHandle();
    await this.page.waitForFunction(
      ([element, least]) => Number(element.textContent.replaceAll(",", "")) >= least,
      [handle, number],
      { timeout },
    );
  }

  async uploadId() {
    return this.element.locator(".facts dd").nth(1).textContent();
  }
}
