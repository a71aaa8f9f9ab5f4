// Drives the viewer's page in a real browser, and prints as JSON what was seen; tests/viewer/test_page.py judges.
//
// node tests/viewer/viewer_page.mjs '{"playwright": DIR, "chromium": FILE, "base": URL, "image": ID, "out": DIR, "moves": 200}'
import { join } from "node:path";

import { PHONE, launch } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const DESKTOP = { width: 1280, height: 800 };
const WINDOW = { width: 760, height: 520 }; // with a smaller picture, where many have to be made

const { browser, complaints, hosts, newPage, address, open, ready, shot } = await launch(given);

/**
 * How far the canvas of a pane is from a picture of the server, pixel by pixel, between two columns.
 *
 * @returns {{size, expected, mean, max, aside}} of 8-bit levels; aside: the least mean if it lay a pixel aside
 */
function compare(page, pane, url, columns = [0, 1]) {
  return page.evaluate(
    async ([pane, url, columns]) => {
      const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      const bitmap = await createImageBitmap(await (await fetch(url)).blob());
      const picture = document.createElement("canvas");
      [picture.width, picture.height] = [bitmap.width, bitmap.height];
      picture.getContext("2d").drawImage(bitmap, 0, 0);
      const canvas = document.querySelector(`#${pane} canvas`);
      const [seen, sent] = [pixels(canvas), pixels(picture)];
      const { width, height } = canvas;
      const [left, right] = columns.map((share) => Math.round(share * width));
      const difference = (right_by, down_by) => {
        let [sum, max, count] = [0, 0, 0];
        for (let y = 2; y < height - 2; y++) {
          for (let x = left + 2; x < right - 2; x++) {
            for (let c = 0; c < 3; c++) {
              const d = Math.abs(seen[4 * (y * width + x) + c] - sent[4 * ((y + down_by) * width + x + right_by) + c]);
              sum += d;
              max = Math.max(max, d);
              count++;
            }
          }
        }
        return { mean: sum / count, max };
      };
      const beside = [[1, 0], [-1, 0], [0, 1], [0, -1]].map((shift) => difference(...shift).mean);
      const size = [width, height];
      return { size, expected: [bitmap.width, bitmap.height], ...difference(0, 0), aside: Math.min(...beside) };
    },
    [pane, url, columns],
  );
}

const text = (page, selector) => page.locator(selector).textContent();

// --- scenarios --------------------------------------------------------------------------------------------------------

/** At 1:1 the picture is the slide's own pixels. */
async function native(page) {
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await open(page, { x: 500.3, y: 400.6, zoom: 1, mode: "single" });
  const { x, y } = Object.fromEntries(new URLSearchParams((await page.evaluate(() => location.hash)).slice(1)));
  const [width, height] = await page.evaluate(() => {
    const canvas = document.querySelector("#pane-a canvas");
    return [canvas.width, canvas.height];
  });
  const region = { x: Math.round(x - width / 2), y: Math.round(y - height / 2), w: width, h: height, width, height };
  const url = `${given.base}/api/view/${given.image}?${new URLSearchParams({ ...region, method: "native" })}`;
  const found = await compare(page, "pane-a", url);
  return { ...found, badge: await page.locator("#badge").isVisible(), views: asked.filter((u) => u.includes("/view/")).length };
}

/** Both panes show the same place at the same scale, to the pixel. */
async function sideBySide(page) {
  await open(page, { x: 512.3, y: 401.7, zoom: 3.37, mode: "side" });
  await shot(page, "side");
  const { bicubic, sr } = page.asked;
  return {
    bicubic,
    sr,
    left: await compare(page, "pane-a", bicubic.url),
    right: await compare(page, "pane-b", sr.url),
    apart: await compare(page, "pane-a", sr.url),
    badge: await text(page, "#badge"),
    readout: await text(page, "#readout"),
    bar: await text(page, "#scale-label"),
    barWidth: await page.locator("#scale-line").evaluate((line) => line.getBoundingClientRect().width),
  };
}

/** While the other parts of a view are still awaited, the first one is seen, as it will be in the whole. */
async function parts(page) {
  const asked = [];
  let release;
  const held = new Promise((resolve) => (release = resolve));
  const hold = async (route) => {
    const query = new URL(route.request().url()).searchParams;
    if (query.get("method") === "sr") {
      asked.push(Object.fromEntries(["x", "y", "width", "height"].map((name) => [name, Number(query.get(name))])));
      if (asked.length > 1) await held;
    }
    await route.continue();
  };
  const canvas = () =>
    page.evaluate(() => {
      const canvas = document.querySelector("#pane-a canvas");
      const { width, height } = canvas;
      const context = canvas.getContext("2d");
      return { width, height, pixels: [...context.getImageData(0, 0, width, height).data] };
    });
  await page.route("**/api/view/**", hold);
  await page.goto("about:blank");
  await page.goto(address({ x: 384, y: 384, zoom: 2, mode: "single" }));
  await page.waitForFunction(() => performance.getEntriesByName("viewer:part").length === 1);
  await page.waitForTimeout(300);
  const badge = await text(page, "#badge");
  const early = await canvas();
  await shot(page, "parts");
  release();
  await ready(page);
  const late = await canvas();
  await page.unroute("**/api/view/**");
  const [first, whole] = [asked[0], asked.at(-1)];
  const [left, top] = [2 * (first.x - whole.x), 2 * (first.y - whole.y)];
  const found = { inside: 0, outside: 0 };
  for (let y = 2; y < early.height - 2; y++) {
    for (let x = 2; x < early.width - 2; x++) {
      const isInside = x > left + 1 && x < left + first.width - 2 && y > top + 1 && y < top + first.height - 2;
      const i = 4 * (y * early.width + x);
      const apart = Math.max(...[0, 1, 2].map((c) => Math.abs(early.pixels[i + c] - late.pixels[i + c])));
      found[isInside ? "inside" : "outside"] = Math.max(found[isInside ? "inside" : "outside"], apart);
    }
  }
  const center = ({ x, y, width, height }) => Math.hypot(x + width / 4 - whole.x - whole.width / 4, y + height / 4 - whole.y - whole.height / 4);
  return { ...found, badge, away: asked.slice(0, -1).map(center), whole: [whole.width, whole.height], size: [late.width, late.height] };
}

/** Left of the line bicubic, right of it super-resolved; keys, mouse and finger move it. */
async function curtain(page) {
  await open(page, { x: 512.3, y: 401.7, zoom: 3.37, mode: "curtain" });
  const { bicubic, sr } = page.asked;
  const grip = page.locator("#curtain");
  const place = async () => Number(await grip.getAttribute("aria-valuenow")) / 100;
  const places = [await place()];
  await grip.focus();
  for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowLeft");
  places.push(await place());
  const box = await page.locator("#stage").boundingBox();
  const at = (share) => [box.x + share * box.width, box.y + box.height / 3];
  await page.mouse.move(...at(places[1]));
  await page.mouse.down();
  await page.mouse.move(...at(0.7), { steps: 4 });
  await page.mouse.up();
  places.push(await place());
  await page.waitForTimeout(300);
  await shot(page, "curtain");
  const left = await compare(page, "pane-a", bicubic.url, [0, 0.69]);
  const right = await compare(page, "pane-a", sr.url, [0.71, 1]);
  return { places, left, right, hash: await page.evaluate(() => location.hash) };
}

/** What the keys do, by what is then to be seen. */
async function keys(page) {
  await open(page, { x: 512.3, y: 401.7, zoom: 2.5, mode: "single" });
  const scale = async () => Number(new URLSearchParams((await page.evaluate(() => location.hash)).slice(1)).get("zoom"));
  const found = { start: await scale() };
  const press = async (key, name, phases) => {
    await page.keyboard.press(key);
    await page.waitForTimeout(700); // a movement takes a third of a second
    await ready(page, phases);
    found[name] = await scale();
  };
  await press("+", "in");
  await press("-", "out");
  await press("1", "one");
  await press("0", "fit");
  await open(page, { x: 512.3, y: 401.7, zoom: 2.5, mode: "single" });
  await page.keyboard.press("m");
  await ready(page);
  found.legend = await page.locator("#legend").isVisible();
  await shot(page, "map");
  await page.keyboard.press("m");
  await page.keyboard.press("i");
  await ready(page);
  found.plainBadge = await text(page, "#badge");
  found.plain = await compare(page, "pane-a", page.asked.bicubic.url);
  await page.keyboard.press("i");
  await page.keyboard.press("?");
  found.help = await page.locator("#help").isVisible();
  await page.keyboard.press("Escape");
  await ready(page);
  const download = page.waitForEvent("download");
  await page.keyboard.press("e");
  const file = await download;
  await file.saveAs(join(given.out, "export.png"));
  found.exported = file.suggestedFilename();
  return found;
}

/** The view in the address is the view that was seen. */
async function shared(page) {
  await open(page, { x: 300, y: 300, zoom: 2.2, mode: "side" });
  await page.keyboard.press("ArrowRight");
  await page.waitForTimeout(800);
  await ready(page);
  const before = { hash: await page.evaluate(() => location.hash), region: page.asked.sr.region };
  await page.goto("about:blank");
  await page.goto(`${given.base}/${before.hash}`);
  await ready(page);
  return { before, after: { hash: await page.evaluate(() => location.hash), region: page.asked.sr.region } };
}

/** Many movements; memory is read after the first quarter, and at the end, in the same view. */
async function endurance(page) {
  const devtools = await page.context().newCDPSession(page);
  const heap = async () => {
    await page.goto(address({ x: 512, y: 400, zoom: 3, mode: "curtain" }));
    await page.waitForTimeout(600);
    await ready(page);
    await devtools.send("HeapProfiler.collectGarbage");
    return (await devtools.send("Runtime.getHeapUsage")).usedSize;
  };
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const pick = (...items) => items[Math.floor(random() * items.length)];
  const found = { heap: [] };
  await open(page, { x: 512, y: 400, zoom: 3, mode: "curtain" });
  const box = await page.locator("#stage").boundingBox();
  const spot = () => [box.x + box.width * (0.1 + 0.3 * random()), box.y + box.height * (0.2 + 0.6 * random())];
  const movements = [
    async () => {
      await page.mouse.move(...spot());
      await page.mouse.wheel(0, pick(-120, 120, -240, 240));
    },
    async () => {
      await page.mouse.move(...spot());
      await page.mouse.down();
      await page.mouse.move(...spot(), { steps: 3 });
      await page.mouse.up();
    },
    () => page.keyboard.press(pick("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown")),
    () => page.keyboard.press(pick("+", "-")),
    () => page.keyboard.press(pick("c", "s", "c")),
  ];
  for (let move = 1; move <= given.moves; move++) {
    await pick(...movements)();
    await page.waitForTimeout(30 + 200 * random());
    if (move % 20 === 0) {
      const place = { x: 200 + 600 * random(), y: 200 + 400 * random(), zoom: 1.2 + 4 * random() };
      await page.goto(address({ ...place, mode: pick("single", "curtain", "side") }));
      await page.waitForTimeout(500);
      await ready(page);
    }
    if (move === Math.ceil(given.moves / 4) || move === given.moves) found.heap.push(await heap());
  }
  found.objects = await page.evaluate(() => window.heldObjects.size);
  await shot(page, "endurance");
  return found;
}

/** Of everything that lies over or around the picture: what leaves the window, or covers something else. */
async function layout(page, name, mode) {
  await open(page, { x: 512, y: 400, zoom: 3.37, mode, map: 1 });
  await shot(page, name);
  return page.evaluate(() => {
    const parts = ".bar button, .bar h1, .label, .badge, .legend, .scale-bar, .overview, #readout, #status";
    const boxes = [...document.querySelectorAll(parts)]
      .filter((element) => element.checkVisibility() && element.textContent + element.id !== "status")
      .map((element) => ({ name: element.id || element.textContent, box: element.getBoundingClientRect() }));
    const outside = boxes
      .filter(({ box }) => box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight)
      .map((part) => part.name);
    const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    const covered = [];
    boxes.forEach((a, i) => {
      for (const b of boxes.slice(i + 1)) if (meet(a.box, b.box)) covered.push([a.name, b.name]);
    });
    const chrome = document.querySelectorAll("body, .bar, .slides, .stage, .info, .bar button, .slides button");
    const tinted = [...chrome].map((element) => getComputedStyle(element).backgroundColor).filter((color) => {
      const [red, green, blue] = color.match(/\d+/g).map(Number);
      return red !== green || green !== blue;
    });
    return { outside, covered, tinted, count: boxes.length };
  });
}

/** A failed request shows a message, and the page goes on working. */
async function failure(page) {
  await open(page, { x: 512, y: 400, zoom: 2, mode: "single" });
  await page.route("**/api/view/**", (route) => route.fulfill({ status: 503, json: { error: "Too much waits." } }));
  await page.keyboard.press("ArrowRight");
  await ready(page, ["failed"]);
  const refused = await text(page, "#status");
  await page.unroute("**/api/view/**");
  await page.keyboard.press("ArrowRight");
  await page.waitForTimeout(700);
  await ready(page, ["ready"]);
  return { refused, after: await text(page, "#status"), badge: await text(page, "#badge") };
}

async function timed(name, work) {
  const started = performance.now();
  const result = await work;
  console.error(`${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

const page = await newPage({ viewport: WINDOW, acceptDownloads: true });
const found = {
  native: await timed("native", native(page)),
  side: await timed("side", sideBySide(page)),
  parts: await timed("parts", parts(page)),
  curtain: await timed("curtain", curtain(page)),
  keys: await timed("keys", keys(page)),
  shared: await timed("shared", shared(page)),
  endurance: await timed("endurance", endurance(page)),
};
const desktop = await newPage({ viewport: DESKTOP });
const phone = await newPage(PHONE);
found.layout = {};
for (const mode of ["single", "curtain", "side"]) {
  for (const [name, device] of Object.entries({ desktop, phone })) {
    const full = `${name}-${mode}`;
    found.layout[full] = await timed(full, layout(device, full, mode));
  }
}
found.complaints = [...complaints];
found.hosts = [...hosts];
found.failure = await failure(page); // the browser itself complains of a 503: after the others
await browser.close();
console.log(JSON.stringify(found));
