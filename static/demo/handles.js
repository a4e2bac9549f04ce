// File handles (File System Access API): with one that the browser lets a page keep, an upload goes on
// without its file being chosen again. Where the browser has none, the file is chosen again.

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
