// The page's arithmetic, by node's own test runner: node --test tests/viewer/viewer_geometry.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const STATIC = new URL("../../monai_iste/viewer/static/", import.meta.url);

/** A module of the page; without a package.json beside it node would not take it for one. */
const load = (name) => import(`data:text/javascript,${encodeURIComponent(readFileSync(new URL(name, STATIC), "utf8"))}`);

const { partsOf, pitch, snapToGrid, requestFor, sameView, micronsPerPixel, equivalentObjective, scaleBar, formatScale } =
  await load("geometry.js");
const { format, parse } = await load("address.js");

const SLIDE = { width: 2220, height: 2967, mpp: [0.5, 0.25] };
const LIMITS = { side: 4096, area: 9_000_000 };
const near = (value, expected) => assert.ok(Math.abs(value - expected) < 1e-9, `${value} is not ${expected}`);

test("the output has a whole number of pixels, and their distance follows from it", () => {
  near(pitch(2220, 3.37), 2220 / 7481); // 2220 * 3.37 = 7481.4
  near(pitch(3, 0.1), 3);
  near(pitch(2967, 1.5), 2967 / 4450); // 4450.5, as Python rounds it
  near(pitch(2969, 1.5), 2969 / 4454);
});

test("a view is moved to the grid by half a pixel at the most", () => {
  const view = { x: 1000.4, y: 500, w: 300, h: 200 };
  const found = snapToGrid(view, SLIDE, 3.37);
  near(found.x, (3371 * 2220) / 7481); // 1000.4 * 7481 / 2220 = 3371.16
  near(found.y, (1685 * 2967) / 9999);
  assert.deepEqual([found.w, found.h], [300, 200]);
  assert.deepEqual(snapToGrid(found, SLIDE, 3.37), found);
});

test("inside the slide a request is the view, at exactly its scale", () => {
  const found = requestFor({ x: 100.5, y: 50.25, w: 700 / 3.37, h: 500 / 3.37 }, { width: 700, height: 500 }, SLIDE, LIMITS);
  assert.deepEqual([found.width, found.height, found.x, found.y], [700, 500, 100.5, 50.25]);
  near(found.width / found.w, 3.37);
  near(found.height / found.h, 3.37);
});

test("at the slide's borders a request is cut to whole pixels, and the scale stays", () => {
  const found = requestFor({ x: -10, y: 2900, w: 100, h: 100 }, { width: 337, height: 337 }, SLIDE, LIMITS);
  assert.deepEqual([found.x, found.y, found.width, found.height], [0, 2900, 303, 225]); // of 303.3 and 225.79
  near(found.width / found.w, 3.37);
  near(found.height / found.h, 3.37);
  assert.ok(found.y + found.h <= SLIDE.height);
});

test("beside the slide there is nothing to ask for", () => {
  assert.equal(requestFor({ x: 2300, y: 0, w: 100, h: 100 }, { width: 300, height: 300 }, SLIDE, LIMITS), null);
});

test("a screen that is too large is asked for with every second pixel, or third", () => {
  const view = { x: 0, y: 0, w: 1000, h: 500 };
  const wide = requestFor(view, { width: 5000, height: 2500 }, SLIDE, LIMITS);
  assert.deepEqual([wide.width, wide.height, wide.scale], [2500, 1250, 2.5]);
  const large = requestFor({ ...view, h: 1000 }, { width: 4000, height: 4000 }, SLIDE, LIMITS);
  assert.deepEqual([large.width, large.height, large.scale], [2000, 2000, 2]);
});

test("views are the same to a hundredth of a device pixel", () => {
  const view = { x: 1, y: 2, w: 3, h: 4 };
  assert.ok(sameView(view, { ...view, x: 1.0009 }, 10));
  assert.ok(!sameView(view, { ...view, h: 4.0011 }, 10));
  assert.ok(!sameView(view, null, 10));
  assert.ok(sameView(null, null, 10));
});

test("micrometers are those along x, and an objective is 10 micrometers by them", () => {
  assert.equal(micronsPerPixel(SLIDE, 2), 0.125);
  assert.equal(micronsPerPixel({ ...SLIDE, mpp: null }, 2), null);
  assert.equal(equivalentObjective(0.25), 40);
});

test("a scale bar is the longest round length that fits, in words", () => {
  assert.deepEqual(scaleBar(0.25, 1, 160), { length: 80, label: "20 µm" });
  assert.deepEqual(scaleBar(0.125, 1, 160), { length: 160, label: "20 µm" });
  assert.deepEqual(scaleBar(16, 1, 160), { length: 125, label: "2 mm" });
  assert.deepEqual(scaleBar(0.003, 1, 100), { length: 0.2 / 0.003, label: "200 nm" });
  assert.deepEqual(scaleBar(null, 4, 160), { length: 80, label: "20 px of the slide" });
});

test("scales have the digits that matter", () => {
  assert.deepEqual([formatScale(3.37), formatScale(0.24267), formatScale(10.0004)], ["×3.37", "×0.24", "×10"]);
});

test("an address says what it was made of, and garbage is left out", () => {
  const view = { image: "a b", x: 12.345, y: 6, zoom: 3.37, mode: "side", map: true };
  assert.deepEqual(parse(format(view)), { ...view, x: 12.35 });
  const nothing = { image: undefined, x: undefined, y: undefined, zoom: undefined, mode: undefined, map: false };
  assert.deepEqual(parse("#zoom=-2&x=NaN&y=&mode=none&map=yes"), nothing);
});

const GRID = { window: 192, overlap: 16, block: 128 };

test("the parts of a view are its pixels, each once, the most central first, and need few windows", () => {
  const windowsOf = (start, length, nativeSize, scale) => {
    const [step, first] = [pitch(nativeSize, scale), Math.round(start / pitch(nativeSize, scale))];
    const [low, high] = [Math.floor(first / 128) * 128 * step, Math.ceil((first + length) / 128) * 128 * step]; // whole blocks
    const count = Math.ceil((Math.min(high, nativeSize) + 8) / 192) - Math.floor((low - 8) / 192);
    return Math.min(count, Math.ceil(nativeSize / 192));
  };
  for (const [scale, width, height] of [[3.37, 1600, 1000], [1.5, 700, 700], [1.05, 1800, 1200], [2.7, 1200, 800], [8, 900, 500]]) {
    const view = snapToGrid({ x: 417.3, y: 1023.8, w: width / scale, h: height / scale }, SLIDE, scale);
    const request = requestFor(view, { width, height }, SLIDE, LIMITS);
    const parts = partsOf(request, SLIDE, GRID);
    const seen = new Uint8Array(request.width * request.height);
    for (const part of parts) {
      near(part.width / part.w, scale);
      near(part.height / part.h, scale);
      const left = Math.round((part.x - request.x) / pitch(SLIDE.width, scale));
      const top = Math.round((part.y - request.y) / pitch(SLIDE.height, scale));
      near(part.x, request.x + left * pitch(SLIDE.width, scale));
      for (let y = top; y < top + part.height; y++) {
        for (let x = left; x < left + part.width; x++) seen[y * request.width + x]++;
      }
      const [across, down] = [windowsOf(part.x, part.width, SLIDE.width, scale), windowsOf(part.y, part.height, SLIDE.height, scale)];
      assert.ok(across * down <= (scale > 1.3 ? 4 : 9), `${across} x ${down} windows at ${scale}`);
    }
    assert.ok(seen.every((count) => count === 1));
    const away = parts.map((part) => Math.hypot(part.x + part.w / 2 - request.x - request.w / 2, part.y + part.h / 2 - request.y - request.h / 2));
    away.slice(1).forEach((distance, i) => assert.ok(distance > away[i] - 1e-9));
    if (scale > 2.67) assert.ok(parts.some((part) => windowsOf(part.y, part.height, SLIDE.height, scale) === 1));
    assert.ok(parts.length <= (width * height) / 256 ** 2 + 20, `${parts.length} parts`);
  }
  const small = requestFor({ x: 20, y: 20, w: 60, h: 60 }, { width: 180, height: 180 }, SLIDE, LIMITS);
  assert.deepEqual(partsOf(small, SLIDE, GRID), [{ ...small }]);
});
