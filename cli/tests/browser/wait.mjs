/** Looks until it is so: waits for an event, whenever it comes. */
export async function eventually(what, isSo, longest = 30_000) {
  const until = performance.now() + longest;
  while (!(await isSo())) {
    if (performance.now() > until) throw new Error(`this did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
