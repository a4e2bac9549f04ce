// The npm packages of package-lock.json, from wherever scripts/lib/fetch.sh has put them: npm does not
// write into the checkout.

import { createRequire } from "node:module";

const folder = process.env.TEST_BROWSER_PACKAGES;
if (!folder) throw new Error("TEST_BROWSER_PACKAGES is not set: use scripts/test");
const require = createRequire(`${folder}/`);

export const { chromium } = require("playwright-core");
export const axeSource = require("axe-core").source;
