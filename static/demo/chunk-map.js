// A square for each chunk, or for a few where there are thousands.

import { ChunkState } from "../upflow.js";

const LARGEST = 16;
const MIDDLE = 9;
const SMALLEST = 5;
const MAX_HEIGHT = 132;

/** From the left of a square: the furthest along first. `rest` is what is still to come of a chunk under way. */
const COLOURS = ["confirmed", "sent", "sending", "rest", "waiting"];
const COLOUR_OF = { [ChunkState.confirmed]: 0, [ChunkState.sent]: 1, [ChunkState.waiting]: 4 };

export class ChunkMap {
  #canvas;
  #chunks = null;
  #frame = 0;
  #width = 0;
  /** Called with the number of chunks that each square stands for. */
  onScale = () => {};
  #perSquare = 0;
  #resized = new ResizeObserver(() => this.#later());
  #gone = new AbortController();

  constructor(canvas) {
    this.#canvas = canvas;
    this.#resized.observe(canvas.parentElement);
    const { signal } = this.#gone;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#later(), { signal });
  }

  /** Nothing holds it any more. */
  end() {
    this.#resized.disconnect();
    this.#gone.abort();
  }

  /** @param {import("../upflow/chunks.js").Chunks} chunks */
  show(chunks) {
    this.#chunks = chunks;
    this.#later();
  }

  #later() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const canvas = this.#canvas;
    const width = canvas.parentElement.clientWidth;
    if (!this.#chunks || width === 0) return;
    const { states } = this.#chunks;
    const { pitch, columns, perSquare } = plan(states.length, width);
    const squares = Math.ceil(states.length / perSquare);
    const height = Math.ceil(squares / columns) * pitch;
    const scale = devicePixelRatio || 1;
    const pixels = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) {
      [canvas.width, canvas.height] = pixels;
      canvas.style.height = `${height}px`;
    }
    if (perSquare !== this.#perSquare) this.onScale((this.#perSquare = perSquare));

    const style = getComputedStyle(canvas);
    const colours = COLOURS.map((name) => style.getPropertyValue(`--chunk-${name}`));
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const side = pitch - (pitch > 7 ? 2 : 1);
    for (let square = 0; square < squares; square++) {
      const x = (square % columns) * pitch;
      const y = Math.floor(square / columns) * pitch;
      const first = square * perSquare;
      const last = Math.min(first + perSquare, states.length);
      let at = 0;
      for (const [colour, share] of this.#shares(first, last).entries()) {
        if (share === 0) continue;
        context.fillStyle = colours[colour];
        context.fillRect(x + side * at, y, side * share, side);
        at += share;
      }
    }
  }

  /** How much of a square has each colour; 1 in all. */
  #shares(first, last) {
    const { states } = this.#chunks;
    const each = 1 / (last - first);
    const shares = [0, 0, 0, 0, 0];
    for (let i = first; i < last; i++) {
      if (states[i] === ChunkState.sending) {
        const out = this.#chunks.fraction(i);
        shares[2] += out * each;
        shares[3] += (1 - out) * each;
      } else {
        shares[COLOUR_OF[states[i]]] += each;
      }
    }
    return shares;
  }
}

/** One row where it does; otherwise the largest squares with which all chunks fit, one each if possible. */
function plan(chunks, width) {
  const inOneRow = Math.min(LARGEST, Math.floor(width / chunks));
  if (inOneRow >= MIDDLE) return { pitch: inOneRow, columns: chunks, perSquare: 1 };
  for (let pitch = LARGEST; pitch >= SMALLEST; pitch--) {
    const columns = Math.floor(width / pitch);
    if (Math.ceil(chunks / columns) * pitch <= MAX_HEIGHT) return { pitch, columns, perSquare: 1 };
  }
  const columns = Math.floor(width / SMALLEST);
  const squares = columns * Math.floor(MAX_HEIGHT / SMALLEST);
  return { pitch: SMALLEST, columns, perSquare: Math.ceil(chunks / squares) };
}
