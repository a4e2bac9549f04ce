// What the browser keeps of the page.

/** `{session, local, cookies, uploads}`. */
export function kept(page) {
  return page.evaluate(async () => {
    const open = indexedDB.open("upflow");
    await new Promise((resolve) => (open.onsuccess = resolve));
    const all = open.result.transaction("uploads").objectStore("uploads").getAll();
    await new Promise((resolve) => (all.onsuccess = resolve));
    open.result.close();
    const [session, local] = [{ ...sessionStorage }, { ...localStorage }];
    return { session, local, cookies: document.cookie, uploads: all.result };
  });
}

/** Puts another token in place of the only upload's. */
export async function rememberedToken(page, change) {
  const { uploads } = await kept(page);
  await page.evaluate(async ([uploadId, token]) => {
    const open = indexedDB.open("upflow");
    await new Promise((resolve) => (open.onsuccess = resolve));
    const store = open.result.transaction("uploads", "readwrite").objectStore("uploads");
    const get = store.get(uploadId);
    await new Promise((resolve) => (get.onsuccess = resolve));
    const put = store.put({ ...get.result, uploadToken: token });
    await new Promise((resolve) => (put.onsuccess = resolve));
    open.result.close();
  }, [uploads[0].uploadId, change(uploads[0].uploadToken)]);
}
