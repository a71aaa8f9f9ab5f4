// A headless Chromium on the viewer's page, for the programs beside this module.
import { createRequire } from "node:module";
import { join } from "node:path";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const POLICY = "default-src 'self'; img-src 'self' blob: data:"; // no inline script or style, no other host
const PATIENCE = 240_000;

export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/**
 * Start the browser.
 *
 * @param given {playwright, chromium, base, image, out}
 */
export async function launch(given) {
  const { chromium } = createRequire(import.meta.url)(given.playwright);
  const browser = await chromium.launch({
    executablePath: given.chromium,
    args: [...FLAGS, "--disable-component-update", "--disable-sync"],
  });
  const complaints = [];
  const hosts = new Set();

  async function newPage(options) {
    const page = await (await browser.newContext(options)).newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on("console", (message) => {
      const isOurs = message.text().includes("willReadFrequently"); // compare() reads canvases, the page does not
      if (["error", "warning"].includes(message.type()) && !isOurs) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => !request.url().startsWith("blob:") && hosts.add(new URL(request.url()).host));
    await page.route("**/", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, headers: { ...response.headers(), "content-security-policy": POLICY } });
    });
    // Object addresses that were made and not given back: pictures that the browser would keep for good.
    await page.addInitScript(() => {
      const { createObjectURL, revokeObjectURL } = URL;
      const held = new Set();
      window.heldObjects = held;
      URL.createObjectURL = (blob) => {
        const url = createObjectURL.call(URL, blob);
        held.add(url);
        return url;
      };
      URL.revokeObjectURL = (url) => {
        held.delete(url);
        revokeObjectURL.call(URL, url);
      };
    });
    page.asked = {};
    page.on("response", async (response) => {
      const url = new URL(response.url());
      if (!url.pathname.startsWith("/api/view/") || !response.ok()) return;
      const { "x-region": region, "x-scale": scale } = response.headers();
      page.asked[url.searchParams.get("method")] = { url: url.href, region, scale };
    });
    return page;
  }

  const address = (values) => `${given.base}/#${new URLSearchParams({ image: given.image, ...values })}`;

  async function ready(page, phases = ["ready", "native"]) {
    await page.waitForTimeout(250); // the page itself waits for rest before it asks
    await page.waitForFunction((wanted) => wanted.includes(document.body.dataset.phase), phases);
    await page.waitForTimeout(150); // and a picture that was placed is drawn with the next frame
  }

  /** Open a view, whatever was there before. */
  async function open(page, values) {
    await page.goto("about:blank");
    await page.goto(address(values));
    await ready(page);
  }

  const shot = (page, name) => page.screenshot({ path: join(given.out, `${name}.png`) });

  return { browser, complaints, hosts, newPage, address, open, ready, shot };
}
