// Ruler, annotations, link, export and thumbnails in a real browser; tests/viewer/test_tools.py judges.
//
// node tests/viewer/viewer_tools.mjs '{"playwright": DIR, "chromium": FILE, "base": URL, "image": ID, "other": ID, "unknown": ID, "out": DIR, "files": DIR}'
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { PHONE, launch } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const WINDOW = { width: 1100, height: 560 };
const PLACE = { x: 400, y: 300, zoom: 1, mode: "single" }; // at 1:1 a device pixel is a pixel of the slide

const { browser, complaints, newPage, address, open, ready, shot } = await launch(given);

const text = (page, selector) => page.locator(selector).textContent();

/** Kept annotations: those that the browser's storage has for any slide. */
const kept = (page) => page.evaluate(() => Object.entries(localStorage).map(([key, value]) => [key, JSON.parse(value).features]));

/** Return a function from native to window positions, at the page's present view. */
async function toWindow(page) {
  const box = await page.locator("#pane-a").boundingBox();
  const view = Object.fromEntries(new URLSearchParams((await page.evaluate(() => location.hash)).slice(1)));
  const ratio = await page.evaluate(() => devicePixelRatio);
  const scale = Number(view.zoom) / ratio;
  return ([x, y]) => [box.x + box.width / 2 + (x - view.x) * scale, box.y + box.height / 2 + (y - view.y) * scale];
}

/** Wait for the digest, under which annotations are kept, and return them. */
async function whenKept(page, count) {
  await page.waitForFunction((count) => Object.values(localStorage).some((value) => JSON.parse(value).features.length === count), count);
  return kept(page);
}

/** Wait for a sentence in the status line that begins with some words. */
async function said(page, words) {
  await page.waitForFunction((words) => document.getElementById("status").textContent.startsWith(words), words);
  return text(page, "#status");
}

async function dragged(page, from, to) {
  const at = await toWindow(page);
  await page.mouse.move(...at(from));
  await page.mouse.down();
  await page.mouse.move(...at(to), { steps: 5 });
  await page.mouse.up();
  await page.waitForTimeout(100);
}

async function clicked(page, ...places) {
  const at = await toWindow(page);
  for (const place of places) {
    await page.mouse.click(...at(place));
    await page.waitForTimeout(400); // two clicks, not a double click
  }
}

async function press(page, key, times = 1) {
  for (let i = 0; i < times; i++) await page.keyboard.press(key);
  await page.waitForTimeout(60);
}

/** Lengths that the ruler shows: dragged, clicked, by keys, on a slide of unknown pixel size. */
async function ruler(page) {
  await open(page, PLACE);
  const hash = () => page.evaluate(() => location.hash);
  const before = await hash();
  await press(page, "r");
  const found = { hint: await text(page, "#status") };
  await dragged(page, [300, 200], [500, 350]);
  found.dragged = { status: await text(page, "#status"), label: await text(page, "#pane-a .marks text") };
  await shot(page, "ruler");
  await clicked(page, [350, 250], [350, 370]);
  found.clicked = await text(page, "#status");
  await press(page, "Escape");
  found.gone = await page.locator("#pane-a .marks text").count();
  await press(page, "r");
  await press(page, "Enter");
  await press(page, "ArrowRight", 3);
  await press(page, "Shift+ArrowDown", 40);
  await press(page, "Enter");
  found.keys = await text(page, "#status"); // 30 to the right, 40 down
  await shot(page, "ruler-keys");
  found.stood = (await hash()) === before; // no drag, key or click has moved the view
  await press(page, "Escape");
  await press(page, "ArrowRight");
  await page.waitForTimeout(800);
  await ready(page);
  found.pans = (await hash()) !== before; // and without a tool they do
  await page.goto(address({ ...PLACE, image: given.unknown }));
  await page.waitForTimeout(800);
  await ready(page);
  await press(page, "r");
  await dragged(page, [100, 100], [130, 140]);
  found.unknown = await text(page, "#status");
  return found;
}

/** Rectangles and points, named, saved, deleted, undone, loaded, and found again after the page is opened anew. */
async function annotations(page) {
  await open(page, PLACE);
  await press(page, "a");
  await press(page, "b");
  await page.waitForTimeout(200);
  await dragged(page, [300, 200], [400, 260]);
  await clicked(page, [420, 240], [480, 330]); // without dragging
  await press(page, "p");
  await clicked(page, [350, 350]);
  await press(page, "ArrowLeft"); // the cross begins in the middle, and is gone while the mouse draws
  await press(page, "Enter");
  await press(page, "Escape");
  const fields = page.locator("#annotation-list input");
  await fields.nth(0).fill("Crypt 3");
  await fields.nth(1).fill("Tumor");
  await press(page, "Tab"); // a field counts once it is left
  await fields.nth(0).press("End");
  await page.keyboard.type("c"); // a shortcut elsewhere; here a letter
  await press(page, "Tab");
  const found = { mode: await page.evaluate(() => document.body.dataset.mode), kept: await whenKept(page, 4) };
  await shot(page, "annotations");
  const download = page.waitForEvent("download");
  await page.locator("#annotations-save").click();
  const file = await download;
  await file.saveAs(join(given.out, "saved.geojson"));
  found.name = file.suggestedFilename();
  // In the second pane, and at another scale, marks lie at the same places.
  found.marks = await page.locator("#pane-a .marks .mark").evaluateAll((all) => all.map((mark) => mark.getAttribute("d")));
  const remove = page.locator("#annotation-list .remove");
  await remove.nth(0).click();
  await press(page, "Enter"); // the focus went on to the next one
  found.left = await remove.count();
  await page.locator("#annotations-undo").click();
  await press(page, "u");
  found.undone = await remove.count();
  await page.reload();
  await ready(page);
  await page.waitForFunction(() => document.querySelectorAll("#annotation-list li").length > 0);
  found.reloaded = (await kept(page))[0][1];
  found.shown = await page.locator("#annotation-list li").count();
  // Another slide has none of them.
  await page.goto(address({ ...PLACE, image: given.other }));
  await page.waitForTimeout(800);
  await ready(page);
  found.other = await page.locator("#annotation-list li").count();
  return found;
}

/** Files: one that was saved here, one of QuPath's, and bad ones. */
async function loading(page) {
  await open(page, { ...PLACE, image: given.other });
  await press(page, "a");
  const good = new Set(["qupath.geojson", "outside.geojson"]);
  const load = async (name) => {
    await page.evaluate(() => (document.getElementById("status").textContent = ""));
    await page.locator("#annotation-file").setInputFiles(join(given.files, name));
    const status = await said(page, good.has(name) ? "Loaded" : "Expected");
    return { status, count: await page.locator("#annotation-list li").count() };
  };
  await page.locator("#annotation-file").setInputFiles(join(given.out, "saved.geojson"));
  const found = { back: (await whenKept(page, 4))[0][1], saved: JSON.parse(readFileSync(join(given.out, "saved.geojson"), "utf8")).features };
  found.again = await load("qupath.geojson");
  found.twice = await load("qupath.geojson"); // objects are known by their ids
  await shot(page, "loaded");
  found.all = (await kept(page))[0][1];
  for (const name of ["broken.geojson", "picture.geojson", "outside.geojson"]) found[name] = await load(name);
  await page.locator("#annotation-list .go").nth(0).click();
  await page.waitForTimeout(900);
  await ready(page);
  found.went = await page.evaluate(() => location.hash);
  await shot(page, "went");
  await press(page, "s");
  await ready(page);
  found.inBoth = await page.locator(".marks .mark").count();
  await shot(page, "annotations-side");
  return found;
}

/** The link in the clipboard, where the browser allows it and where it does not. */
async function link(page) {
  await open(page, { ...PLACE, zoom: 2 });
  await press(page, "l");
  const found = { status: await said(page, "Link"), copied: await page.evaluate(() => navigator.clipboard.readText()) };
  found.address = await page.evaluate(() => location.href);
  await page.evaluate(() => {
    Object.defineProperty(navigator, "clipboard", { value: undefined }); // as on a page that is not encrypted
    document.getElementById("status").textContent = "";
  });
  await page.locator("#link").click();
  found.plain = await said(page, "Link");
  await page.evaluate(() => (document.execCommand = () => false));
  await page.locator("#link").click();
  found.refused = await said(page, "This");
  found.focus = await page.evaluate(() => document.activeElement.id);
  return found;
}

async function exported(page) {
  await open(page, { ...PLACE, zoom: 2.5 });
  const download = page.waitForEvent("download");
  await press(page, "e");
  await (await download).saveAs(join(given.out, "export.png"));
  return page.evaluate(() => {
    const canvas = document.querySelector("#pane-a canvas");
    return { width: canvas.width, height: canvas.height };
  });
}

/** Until the tiles of another slide are there, its thumbnail lies where it will be. */
async function placeholder(page) {
  await open(page, { ...PLACE, image: given.image });
  await page.evaluate(() => fetch("/api/images")); // the list has loaded the thumbnails
  await page.waitForFunction(() => [...document.querySelectorAll("#slide-list img")].every((img) => img.complete && img.src));
  let go;
  const gate = new Promise((resolve) => (go = resolve));
  await page.route(/\/iiif\/[^/]+\/[0-9]+,/, async (route) => {
    await gate;
    await route.continue();
  });
  await page.goto(address({ ...PLACE, image: given.other, x: 300, y: 250 }));
  await page.waitForTimeout(1200);
  const found = await page.evaluate(() => {
    const image = document.querySelector("#pane-a .placeholder");
    const { left, top, width, height } = image.getBoundingClientRect();
    const stage = document.querySelector("#pane-a").getBoundingClientRect();
    return { hidden: image.hidden, src: image.src, box: { left, top, width, height }, stage: { left: stage.left, top: stage.top, width: stage.width, height: stage.height } };
  });
  await shot(page, "placeholder");
  go();
  await page.waitForFunction(() => document.querySelector("#pane-a .placeholder").hidden);
  await page.unroute(/\/iiif\/[^/]+\/[0-9]+,/);
  await shot(page, "placeholder-after");
  return found;
}

/** On the consistency map, the sentence with both means; the mark where pixels are far from the trained ones. */
async function words(page) {
  await open(page, { x: 400, y: 300, zoom: 2, mode: "single", map: 1 });
  const found = { consistency: await text(page, "#consistency"), near: await text(page, "#badge") };
  await shot(page, "map");
  await open(page, { x: 400, y: 300, zoom: 4.5, mode: "single" });
  found.fine = await text(page, "#badge");
  return found;
}

/** A finger sets ends and draws, on a phone. */
async function touch(page) {
  await open(page, { x: 400, y: 300, zoom: 2, mode: "single" });
  await page.locator("#annotate").tap();
  await page.locator("#tool-point").tap();
  const at = await toWindow(page);
  await page.touchscreen.tap(...at([400, 250]));
  await page.waitForTimeout(500);
  await page.locator("#tool-rectangle").tap();
  for (const place of [[360, 210], [420, 240]]) {
    await page.touchscreen.tap(...at(place));
    await page.waitForTimeout(500);
  }
  await shot(page, "phone-annotations");
  return (await kept(page))[0][1].map(({ geometry }) => geometry);
}

const options = { viewport: WINDOW, acceptDownloads: true, permissions: ["clipboard-read", "clipboard-write"] };
const page = await newPage(options);
const found = { ruler: await ruler(page), annotations: await annotations(page) };
found.loading = await loading(await newPage(options)); // of another profile: nothing is kept there
found.link = await link(page);
found.exported = await exported(page);
found.placeholder = await placeholder(page);
found.words = await words(page);
found.touch = await touch(await newPage(PHONE));
found.complaints = complaints;
await browser.close();
console.log(JSON.stringify(found));
