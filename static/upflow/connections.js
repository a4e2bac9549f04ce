/**
 * How many PUTs may run at once, over all uploads of a client. Browsers open six connections to an
 * HTTP/1.1 server; what is started beyond them waits inside the browser, where its URL grows old and
 * nobody can tell waiting from a stalled line.
 */
export class Connections {
  #free;
  #waiting = new Set();

  constructor(count) {
    this.#free = count;
  }

  /** Whether there was one. Where not, `retry` is called once when one is free. */
  take(retry) {
    if (this.#free === 0) {
      this.#waiting.add(retry);
      return false;
    }
    this.#free--;
    return true;
  }

  release() {
    this.#free++;
    // In the order in which they asked; who still wants one asks again and so goes to the end.
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const retry of waiting) retry();
  }
}
