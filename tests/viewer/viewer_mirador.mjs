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

/** Wait until the picture has colors, and return how many of its pixels differ from the first one. */
async function drawn() {
  const handle = await page.waitForFunction(() => {
    const canvas = document.querySelector(".openseadragon-canvas canvas");
    if (!canvas || canvas.width === 0) return false;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 0 && data[i] !== data[i + 1]) count++;
    return count > 0.05 * canvas.width * canvas.height && count;
  });
  return handle.jsonValue();
}

const found = { colored: await drawn() };
await page.waitForTimeout(2000);
await page.screenshot({ path: join(given.out, "mirador.png") });
found.text = await page.evaluate(() => document.body.innerText);
found.asked = asked;
found.refused = refused;
await browser.close();
console.log(JSON.stringify(found));
