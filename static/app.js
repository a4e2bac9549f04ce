// The page: takes files, gives each its turn, and offers what was not finished.

import { UpFlow } from "./upflow.js";
import { announce } from "./demo/card.js";
import { Item } from "./demo/item.js";
import { remembered, runningElsewhere } from "./demo/remembered.js";

/** Files that are sent at once; the others wait. */
const AT_ONCE = 3;

const byId = (id) => document.getElementById(id);
const items = new Set();
const queue = [];
let running = 0;

// The API is where this page comes from, below whatever path a proxy puts before it.
const server = new URL("..", location.href).href;
let client = new UpFlow({ server });

byId("settings").addEventListener("submit", (event) => event.preventDefault());
byId("token").addEventListener("change", (event) => {
  client = new UpFlow({ server, token: event.target.value.trim() || undefined });
});

const page = {
  client: () => client,

  settings() {
    const parallel = Math.min(6, Math.max(1, Math.round(Number(byId("parallel").value)) || 4));
    return { parallel, chunkSize: Number(byId("chunk-size").value) || undefined };
  },

  enqueue(item) {
    queue.push(item);
    next();
  },

  /** Moves the card to a section, newest first. */
  place(item, name) {
    items.add(item);
    const list = byId(name).querySelector(".cards");
    if (item.card.element.parentElement === list) return;
    const focused = item.card.element.contains(document.activeElement);
    list.prepend(item.card.element);
    if (focused) item.card.focus();
    tidy();
  },

  leave(item) {
    const { element } = item.card;
    const beside = element.nextElementSibling ?? element.previousElementSibling;
    items.delete(item);
    element.remove();
    (beside?.querySelector("button:not([hidden]), a:not([hidden])") ?? byId("files")).focus();
    tidy();
  },
};

function tidy() {
  for (const name of ["unfinished", "uploads"]) {
    byId(name).hidden = byId(name).querySelector(".cards").childElementCount === 0;
  }
}

function next() {
  while (running < AT_ONCE && queue.length > 0) {
    running++;
    queue.shift().run().finally(() => {
      running--;
      next();
    });
  }
}

async function add(files) {
  message("");
  const settings = page.settings();
  for (const file of files) {
    const alike = [...items].filter((item) => !item.ended && item.resembles(file));
    const unfinished = alike.find((item) => item.waitsForFile);
    if (unfinished) {
      // Sampled: of the same name, size and date, and yet another file is possible.
      if (!(await unfinished.goOn(file, settings))) continue;
    } else if (alike[0]?.stopped) {
      alike[0].retry();
      continue;
    } else if (alike.length > 0) {
      message(`${file.name} is on its way already.`);
      continue;
    }
    await Item.of(page, file, settings);
  }
}

function message(text) {
  const box = byId("messages");
  box.replaceChildren();
  if (!text) return;
  const line = document.createElement("p");
  line.className = "message note";
  line.textContent = text;
  box.append(line);
  announce(text);
}

byId("files").addEventListener("change", (event) => {
  const files = [...event.target.files];
  // The same file can be chosen again at once.
  event.target.value = "";
  add(files);
});

const drop = byId("drop");
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

// A file dropped anywhere else would replace the page.
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const entries = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory;
  const folders = entries.filter(isFolder).length;
  add(entries.filter((item) => !isFolder(item)).map((item) => item.getAsFile())).then(() => {
    if (folders > 0) message("Folders cannot be sent; drop the files that are in them.");
  });
});

async function offerUnfinished() {
  const elsewhere = await runningElsewhere();
  for (const entry of remembered()) {
    if (!elsewhere.has(entry.uploadId)) items.add(Item.ofEarlier(page, entry));
  }
}

offerUnfinished();
