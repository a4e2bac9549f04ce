// The page: takes files, gives each its turn, and offers what was not finished.

import { UpFlow } from "./upflow.js";
import { announce } from "./demo/card.js";
import { Door } from "./demo/door.js";
import { canPick, dropped, pick } from "./demo/handles.js";
import { ELSEWHERE, Item } from "./demo/item.js";
import { recall, remembered, whenFree } from "./demo/remembered.js";
import { Requests } from "./demo/requests.js";

/** Files that are sent at once; the others wait. */
const AT_ONCE = 3;

const byId = (id) => document.getElementById(id);
const items = new Set();
const queue = [];
let running = 0;

const requests = new Requests(byId("requests"), byId("no-requests"));

// The API is where this page comes from, below whatever path a proxy puts before it.
const server = new URL("..", location.href).href;
const door = new Door({
  server,
  section: byId("door"),
  unlocked: byId("unlocked"),
  onOpen: () => byId("files").focus(),
  onKey: (key) => (client.token = key),
});
const client = new UpFlow({ server, token: door.key, onRequest: (request) => requests.show(request) });
door.look();

byId("settings").addEventListener("submit", (event) => event.preventDefault());

const page = {
  client: () => client,

  settings() {
    const number = (id) => Number(byId(id).value) || undefined;
    return { parallel: number("parallel"), chunkSize: number("chunk-size") };
  },

  /** The API key in use. */
  get key() {
    return door.key;
  },

  /** Resolves once there is another key than this, which the server has refused, or than none. */
  unlock(key) {
    return door.ask(key);
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
    item.card.end();
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

/** @param {Array<{file: File, handle: ?FileSystemFileHandle}>} picked */
async function add(picked) {
  message("");
  const settings = page.settings();
  for (const { file, handle } of picked) {
    const alike = [...items].filter((item) => !item.ended && item.resembles(file));
    const unfinished = alike.find((item) => item.waitsForFile);
    if (unfinished) {
      // Sampled: of the same name, size and date, and yet another file is possible.
      const why = await unfinished.goOn({ file, handle }, settings);
      if (why === ELSEWHERE) message(`${file.name}: ${ELSEWHERE}`);
      if (!why || why === ELSEWHERE) continue;
    } else if (alike[0]?.stopped) {
      alike[0].retry();
      continue;
    } else if (alike.length > 0) {
      message(`${file.name} is on its way already.`);
      continue;
    }
    Item.of(page, { file, handle }, settings);
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
  add(files.map((file) => ({ file, handle: null })));
});

// Files that come with a handle go on by themselves after a reload.
let plainDialog = !canPick;
byId("files").addEventListener("click", async (event) => {
  if (plainDialog) return;
  event.preventDefault();
  const picked = await pick({ multiple: true });
  if (picked) return add(picked);
  plainDialog = true;
  event.target.click();
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
document.addEventListener("drop", async (event) => {
  drop.classList.remove("over");
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const { picked, folders } = await dropped(event.dataTransfer);
  await add(picked);
  if (folders > 0) message("Folders cannot be sent; drop the files that are in them.");
});

// What the server knows goes on after a reload; what still waits for its turn would be forgotten.
addEventListener("beforeunload", (event) => {
  if ([...items].some((item) => item.unknown)) event.preventDefault();
});

async function offer(uploadId) {
  // Another tab may be sending it: then it is offered once that tab is done or gone.
  await whenFree(uploadId);
  const entry = await recall(uploadId);
  if (entry) Item.ofEarlier(page, entry);
}

remembered().then((entries) => entries.forEach(({ uploadId }) => offer(uploadId)));
