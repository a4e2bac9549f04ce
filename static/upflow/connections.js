// How many PUTs may run at once, over all uploads of a client, and how that number finds what the line
// gives.
//
// Browsers open six connections to an HTTP/1.1 server; what is started beyond them waits inside the
// browser, where its URL grows old and nobody can tell waiting from a stalled line. Below that, the
// number climbs for as long as one more connection brings more bytes a second, and falls for as long as
// one less brings no fewer: fewer have less to lose when a line breaks. A storage that says "slow down",
// or does not answer, halves it.

/** Where the search begins, and the fewest it tries by itself. */
const FIRST = 4;
const FEWEST = 2;

/** A measurement lasts this long, and so many chunks for each connection, */
const MEASURE_MS = 1_000;
const MEASURE_CHUNKS = 4;
/** but not longer than this: chunks may be large and the line slow. */
const MEASURE_AT_MOST_MS = 8_000;
/** One more connection must bring this much, one less may cost this much. */
const WORTH = 1.08;
const CHEAP = 0.97;
/** Once neither helps, so many measurements go by before it looks again, */
const REST = 8;
/** unless the line has become so much faster or slower. */
const OTHER_LINE = 1.5;
/** Chunks that fail together are one failure. */
const HALVE_AGAIN_MS = 1_000;

export class Connections {
  /** The most that are ever open. */
  max;
  #limit;
  #busy = 0;
  #waiting = new Set();
  /** The measurement under way: bytes, chunks, and connections times milliseconds. */
  #measured = { since: 0, bytes: 0, chunks: 0, used: 0, at: 0 };
  /** Bytes a millisecond with the number that is the best so far. */
  #rate = 0;
  /** Where to look next, and whether the number of now is such a look. */
  #direction = 1;
  #trying = false;
  /** Looks in a row that found nothing better. */
  #misses = 0;
  #rest = 0;
  #halved = -Infinity;

  constructor(max) {
    this.max = max;
    this.#limit = Math.min(FIRST, max);
  }

  /** How many may be open now. */
  get limit() {
    return this.#limit;
  }

  /**
   * Whether there was one. Where not, `retry` is called once when one is free. With `most` the number is
   * the caller's own, as far as the browser has them.
   */
  take(retry, most = this.#limit) {
    if (this.#busy >= Math.min(most, this.max)) {
      this.#waiting.add(retry);
      return false;
    }
    this.#count();
    this.#busy++;
    return true;
  }

  release() {
    this.#count();
    this.#busy--;
    this.#call();
  }

  /** So many bytes more went out. */
  moved(bytes) {
    this.#measured.bytes += bytes;
    this.#measure();
  }

  /** A chunk has arrived. */
  arrived() {
    this.#measured.chunks++;
    this.#measure();
  }

  /** The storage asks for less, or did not answer. */
  strained() {
    const now = performance.now();
    if (now - this.#halved < HALVE_AGAIN_MS) return;
    this.#halved = now;
    this.#limit = Math.max(1, Math.floor(this.#limit / 2));
    [this.#direction, this.#trying, this.#misses, this.#rest] = [1, false, 0, 0];
    this.#begin();
  }

  /** In the order in which they asked; who still wants one asks again and so goes to the end. */
  #call() {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const retry of waiting) retry();
  }

  #begin() {
    const now = performance.now();
    this.#measured = { since: now, bytes: 0, chunks: 0, used: 0, at: now };
  }

  #count() {
    const now = performance.now();
    this.#measured.used += this.#busy * (now - this.#measured.at);
    this.#measured.at = now;
  }

  #measure() {
    this.#count();
    const { since, at, bytes, chunks, used } = this.#measured;
    const lasted = at - since;
    const enough = lasted >= MEASURE_MS && chunks >= MEASURE_CHUNKS * this.#limit;
    if (!enough && lasted < MEASURE_AT_MOST_MS) return;
    this.#begin();
    // A line that was not in full use says nothing: a pause, the end of a file, a number set by hand.
    if (Math.abs(used / lasted - this.#limit) < 0.5) this.#decide(bytes / lasted);
  }

  #decide(rate) {
    if (!this.#trying) {
      const change = rate / this.#rate;
      this.#rate = rate;
      if (change > OTHER_LINE || change < 1 / OTHER_LINE) {
        this.#rest = 0;
        this.#direction = change > 1 ? 1 : -1;
      }
      if (this.#rest > 0) this.#rest--;
      else this.#look();
    } else if (rate >= this.#rate * (this.#direction > 0 ? WORTH : CHEAP)) {
      // Several steps down together may cost no more than one.
      this.#rate = Math.max(this.#rate, rate);
      this.#misses = 0;
      this.#look();
    } else {
      this.#limit -= this.#direction;
      this.#turn();
    }
  }

  /** Tries one more or one less. */
  #look() {
    const limit = this.#limit + this.#direction;
    if (limit < FEWEST || limit > this.max) return this.#turn();
    this.#limit = limit;
    this.#trying = true;
    this.#call();
  }

  /** Nothing better this way. What is now is measured anew before the other way is tried: lines change. */
  #turn() {
    this.#direction = -this.#direction;
    this.#trying = false;
    if (++this.#misses < 2) return;
    this.#misses = 0;
    this.#rest = REST;
  }
}
