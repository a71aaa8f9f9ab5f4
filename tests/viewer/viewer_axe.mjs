// axe-core, focus and forced colors on the viewer's page; tests/viewer/test_accessibility.py judges.
//
// node tests/viewer/viewer_axe.mjs '{"playwright": DIR, "chromium": FILE, "base": URL, "image": ID, "out": DIR, "axe": FILE or null}'
import { readFileSync } from "node:fs";

import { launch } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 375, height: 700 } };
const LOOKS = {
  dark: { colorScheme: "dark", forcedColors: "none" },
  light: { colorScheme: "light", forcedColors: "none" },
  forced: { colorScheme: "dark", forcedColors: "active" },
};
const PLACE = { x: 200, y: 150, zoom: 2.5 };

const { browser, complaints, newPage, open, ready, shot } = await launch(given);
const axe = given.axe && readFileSync(given.axe, "utf8");

/** What axe finds on the page, one line for each element. */
async function findings(page) {
  if (!axe) return [];
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary}`));
}

/** Leave a rectangle in the panel, so that its list is looked at, too. */
async function annotate(page) {
  await page.locator("#annotate").click();
  await page.keyboard.press("b");
  for (const key of ["Enter", "ArrowRight", "ArrowDown", "Enter"]) await page.keyboard.press(key);
  await page.waitForTimeout(300);
}

const STATES = {
  map: async (page) => open(page, { ...PLACE, mode: "curtain", map: 1 }),
  annotations: async (page) => {
    await open(page, { ...PLACE, mode: "single" });
    await annotate(page);
  },
  help: async (page) => {
    await open(page, { ...PLACE, mode: "side" });
    await page.keyboard.press("?");
  },
  slides: async (page, size) => {
    await open(page, { ...PLACE, mode: "single" });
    if (size === "phone") await page.locator("#slides-toggle").click();
  },
};

/** Colors by which a pressed button differs from others. */
function pressed(page) {
  return page.evaluate(() => {
    const colors = (selector) => {
      const { backgroundColor, color } = getComputedStyle(document.querySelector(selector));
      return { backgroundColor, color };
    };
    return { on: colors('[aria-pressed="true"]'), off: colors('[aria-pressed="false"]') };
  });
}

/** Press Tab until it comes around; every stop, and whether its focus is visible. */
async function stops(page) {
  const found = [];
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const ring = getComputedStyle(element.id === "curtain" ? element.querySelector(".grip") : element);
      const { width, height } = element.getBoundingClientRect();
      return {
        name: element.id || element.getAttribute("aria-label") || element.textContent.trim() || element.tagName,
        ring: ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2,
        size: [width, height],
      };
    });
    if (stop === null) continue; // past the last one, before the first
    if (found.length > 0 && stop.name === found[0].name) break;
    found.push(stop);
  }
  const wanted = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, [tabindex='0'], a[href]")]
      .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled && element.tabIndex >= 0 && !element.closest("[inert]"))
      .map((element) => element.id || element.getAttribute("aria-label") || element.textContent.trim() || element.tagName),
  );
  return { found, wanted };
}

/** Keys that the help lists. */
const listed = (page) => page.locator("#help kbd").allTextContents();

const found = { findings: {}, pressed: {}, overflow: {} };
for (const [size, viewport] of Object.entries(SIZES)) {
  for (const [look, options] of Object.entries(LOOKS)) {
    const page = await newPage({ viewport, ...options });
    for (const [state, enter] of Object.entries(STATES)) {
      await enter(page, size);
      await page.waitForTimeout(200);
      const name = `${size}-${look}-${state}`;
      found.findings[name] = await findings(page);
      found.overflow[name] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      await shot(page, name);
    }
    found.pressed[`${size}-${look}`] = await pressed(page);
    if (size === "desktop" && look === "dark") {
      await open(page, { ...PLACE, mode: "curtain" });
      await annotate(page);
      await page.keyboard.press("Escape");
      await ready(page);
      await page.evaluate(() => document.activeElement.blur());
      found.stops = await stops(page);
      found.listed = await listed(page);
    }
    await page.context().close();
  }
}
found.complaints = complaints;
await browser.close();
console.log(JSON.stringify(found));
