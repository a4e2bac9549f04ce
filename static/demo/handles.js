// File handles kept in this browser (File System Access API, IndexedDB), so that an upload can go on
// without its file being chosen again. Where the browser has no such handles, or is not to keep them,
// there are none, and the file is chosen again.

const STORE = "handles";

let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("upflow", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/** Never rejects: without storage there is nothing, and nothing is kept. */
async function store(mode, act) {
  try {
    const request = act((await open()).transaction(STORE, mode).objectStore(STORE));
    return await new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result ?? null);
      request.onerror = () => reject(request.error);
    });
  } catch {
    return null;
  }
}

/** @param {FileSystemFileHandle} handle */
export function keepHandle(uploadId, handle) {
  return store("readwrite", (handles) => handles.put(handle, uploadId));
}

/** @returns {Promise<?FileSystemFileHandle>} */
export function keptHandle(uploadId) {
  return store("readonly", (handles) => handles.get(uploadId));
}

export function dropHandle(uploadId) {
  return store("readwrite", (handles) => handles.delete(uploadId));
}

/** Whether the file may be read without anybody being asked. */
export async function isReadable(handle) {
  try {
    return (await handle.queryPermission({ mode: "read" })) === "granted";
  } catch {
    return false;
  }
}

/** Has the browser ask, where it must; only after a click. */
export async function mayRead(handle) {
  try {
    return (await handle.requestPermission({ mode: "read" })) === "granted";
  } catch {
    return false;
  }
}

/** Whether files can be chosen with handles here. */
export const canPick = "showOpenFilePicker" in window;

/**
 * Lets the user choose files.
 * @param {{multiple?: boolean}} options
 * @returns {Promise<?Array<{file: File, handle: FileSystemFileHandle}>>} `null` where the browser refuses
 *   to show its dialog
 */
export async function pick({ multiple = false } = {}) {
  try {
    const handles = await window.showOpenFilePicker({ multiple });
    return await Promise.all(handles.map(async (handle) => ({ file: await handle.getFile(), handle })));
  } catch (error) {
    return error.name === "AbortError" ? [] : null;
  }
}

/**
 * What was dropped: files, with handles where the browser gives them. Must be called before the event
 * is over.
 * @param {DataTransfer} transfer
 * @returns {Promise<{picked: Array<{file: File, handle: ?FileSystemFileHandle}>, folders: number}>}
 */
export async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const files = items.filter((item) => !item.webkitGetAsEntry?.()?.isDirectory);
  const asked = files.map((item) => [item.getAsFile(), item.getAsFileSystemHandle?.()]);
  const picked = asked.map(async ([file, handle]) => ({ file, handle: await Promise.resolve(handle).catch(() => null) }));
  return { picked: await Promise.all(picked), folders: items.length - files.length };
}
