// What axe-core says of a page, in two looks.

import assert from "node:assert/strict";
import { axeSource } from "./packages.mjs";

/** Every colour and every width, in two looks. */
const LOOKS = [
  { colorScheme: "light", width: 1024 },
  { colorScheme: "dark", width: 360 },
];

/** That axe finds nothing, and that nothing is wider than the screen. */
export async function clean(page, state) {
  const session = await page.context().newCDPSession(page);
  // Into the page past its policy, as a debugger may.
  await session.send("Runtime.evaluate", { expression: axeSource });
  await session.detach();
  for (const { colorScheme, width } of LOOKS) {
    // Half-way through a fade no contrast is right.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height: 800 });
    const found = await page.evaluate(async () => {
      const { violations } = await axe.run(document, { resultTypes: ["violations"] });
      const places = (nodes) => nodes.map(({ html, any }) => `${html} ${any.map((check) => check.message)}`).join("; ");
      return {
        violations: violations.map(({ id, nodes }) => `${id}: ${places(nodes)}`),
        overflows: document.documentElement.scrollWidth > innerWidth,
      };
    });
    assert.deepEqual(found.violations, [], `${state}, ${colorScheme}, ${width} wide`);
    assert.ok(!found.overflows, `${state}: wider than ${width}`);
  }
}
