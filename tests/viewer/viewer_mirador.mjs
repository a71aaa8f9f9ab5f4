// Opens a manifest in Mirador, and prints what it shows; tests/viewer/test_mirador.py judges.
//
// node tests/viewer/viewer_mirador.mjs '{"playwright": DIR, "chromium": FILE, "base": URL, "page": URL, "out": DIR}'
import { join } from "node:path";

import { launch } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const { browser } = await launch(given);
const page = await (await browser.newContext({ viewport: { width: 1200, height: 760 } })).newPage();
page.setDefaultTimeout(240_000);
const refused = [];
const asked = [];
page.on("requestfailed", (request) => refused.push(`${request.url()} ${request.failure().errorText}`));
page.on("response", (response) => {
  if (response.url().startsWith(given.base)) asked.push([new URL(response.url()).pathname, response.status()]);
});
await page.goto(given.page);

// The canvas cannot be read, because Mirador loads pictures of other sites without asking for that: a picture of it can.
const canvas = page.locator(".openseadragon-canvas canvas").first();
await canvas.waitFor();
while (!asked.some(([path]) => path.includes("/512,"))) await page.waitForTimeout(500);
await page.waitForTimeout(5000);
const found = { box: await canvas.boundingBox() };
await page.screenshot({ path: join(given.out, "mirador.png") });
found.text = await page.evaluate(() => document.body.innerText);
found.asked = asked;
found.refused = refused;
await browser.close();
console.log(JSON.stringify(found));
