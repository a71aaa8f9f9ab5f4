// Annotations as GeoJSON, the browser's storage of them, and lengths: node --test tests/viewer/viewer_annotations.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const STATIC = new URL("../../monai_iste/viewer/static/", import.meta.url);
const source = (name) => readFileSync(new URL(name, STATIC), "utf8");
const address = (text) => `data:text/javascript,${encodeURIComponent(text)}`;

const geojsonAddress = address(source("geojson.js"));
const geojson = await import(geojsonAddress);
const { Annotations } = await import(address(source("annotations.js").replace("./geojson.js", geojsonAddress)));
const { describePixelSize, measure, slideBox } = await import(address(source("geometry.js")));

const SLIDE = { id: "a", width: 2220, height: 2967, mpp: [0.5, 0.25] };
const { MAX_FEATURES, boundsOf, colorOf, describe, formatFeatures, isOutside, makePoint, makeRectangle, outlines, parseFeatures, titleOf } = geojson;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

// --- lengths -----------------------------------------------------------------------------------------------------------

test("a length counts the pixel size of each axis, and is in pixels where none is known", () => {
  assert.deepEqual(measure({ x: 10, y: 20 }, { x: 26, y: 26 }, SLIDE), { length: 5, label: "5 µm" }); // 4 and 3 um
  assert.deepEqual(measure({ x: 0, y: 0 }, { x: 3, y: 4 }, { ...SLIDE, mpp: null }), { length: 5, label: "5 px of the slide" });
  assert.equal(measure({ x: 0, y: 0 }, { x: 8000, y: 0 }, SLIDE).label, "2 mm");
  assert.equal(measure({ x: 0, y: 0 }, { x: 0.5, y: 0 }, SLIDE).label, "125 nm");
});

test("a whole slide fills 97 % of its view, and a place lies at its scale in the middle", () => {
  const whole = slideBox({ width: 1000, height: 500 }, { width: 600, height: 600 }, 2);
  assert.deepEqual(whole, { left: 9, top: 154.5, width: 582, height: 291 });
  const place = slideBox({ width: 1000, height: 500 }, { width: 600, height: 600 }, 2, { x: 100, y: 50, zoom: 4 });
  assert.deepEqual(place, { left: 100, top: 200, width: 2000, height: 1000 });
  assert.equal(slideBox({ width: 1000, height: 500 }, { width: 600, height: 600 }, 1, { zoom: 1 }).left, -200);
});

test("pixels far from the trained ones are said to be: more than twice as coarse, or less than half as fine", () => {
  const learned = [0.25, 5];
  const of = (mpp) => ({ ...SLIDE, mpp: mpp && [mpp, mpp] });
  assert.equal(describePixelSize(of(10), 2, learned), "");
  assert.equal(describePixelSize(of(10.1), 2, learned), "slide of 10.1 µm/px, more than twice the trained 5");
  assert.equal(describePixelSize(of(0.5), 4, learned), "");
  assert.equal(describePixelSize(of(0.5), 4.1, learned), "0.122 µm/px, less than half the trained 0.25");
  assert.equal(describePixelSize(of(null), 8, learned), "");
  assert.equal(describePixelSize(of(0.1), 8, null), "");
});

// --- features ----------------------------------------------------------------------------------------------------------

test("a rectangle and a point have the form that QuPath reads", () => {
  const box = makeRectangle({ x: 300.456, y: 80 }, { x: 100, y: 200.004 }, SLIDE);
  assert.match(box.id, UUID);
  assert.deepEqual(box.geometry, {
    type: "Polygon",
    coordinates: [[[100, 80], [300.46, 80], [300.46, 200], [100, 200], [100, 80]]],
  });
  assert.deepEqual(box.properties, { objectType: "annotation" }); // QuPath fails on a name that is null
  const named = describe(box, { name: "Crypt 3", className: "Tumor" });
  assert.deepEqual(named.properties, {
    objectType: "annotation",
    name: "Crypt 3",
    classification: { name: "Tumor", color: [200, 0, 0] },
  });
  assert.deepEqual(describe(named, { name: "", className: "" }).properties, { objectType: "annotation" });
  assert.deepEqual(describe(named, { name: "", className: "Own" }).properties.classification, { name: "Own" });
  assert.deepEqual(makePoint({ x: 5.125, y: 6 }, SLIDE).geometry, { type: "Point", coordinates: [5.13, 6] });
});

test("what is drawn beyond the slide is cut, and what has no area is none", () => {
  const box = makeRectangle({ x: -50, y: -1 }, { x: 9999, y: 9999 }, SLIDE);
  assert.deepEqual(boundsOf(box), { left: 0, top: 0, right: 2220, bottom: 2967 });
  assert.equal(makeRectangle({ x: -50, y: 5 }, { x: -3, y: 50 }, SLIDE), null);
  assert.equal(makeRectangle({ x: 5, y: 5 }, { x: 5.001, y: 50 }, SLIDE), null);
  assert.deepEqual(makePoint({ x: -3, y: 1e9 }, SLIDE).geometry.coordinates, [0, 2967]);
});

const QUPATH = {
  type: "FeatureCollection",
  features: [
    {
      type: "Feature",
      id: "7f3a6c1e-3f2a-4a7e-9a55-0f0b5c2d1e00",
      geometry: { type: "Polygon", coordinates: [[[10, 10], [50, 12], [30, 60], [10, 10]], [[20, 20], [30, 20], [25, 30], [20, 20]]] },
      properties: { objectType: "annotation", name: "Gland", classification: { name: "Tumor", color: [200, 0, 0] }, isLocked: true, measurements: { Area: 3.5 } },
    },
    {
      type: "Feature",
      id: "PathCellObject",
      geometry: { type: "MultiPolygon", coordinates: [[[[1, 1], [2, 1], [2, 2], [1, 1]]], [[[5, 5], [6, 5], [6, 6], [5, 5]]]] },
      nucleusGeometry: { type: "Point", coordinates: [1, 1] },
      properties: { objectType: "cell", classification: { names: ["Tumor", "Positive"], color: [1, 2, 3] } },
    },
    { type: "Feature", geometry: { type: "LineString", coordinates: [[0, 0], [9, 9]] }, properties: null },
    { type: "Feature", geometry: { type: "MultiPoint", coordinates: [[1, 2], [3, 4]] }, properties: { classification: "Stroma" } },
    { type: "Feature", geometry: { type: "GeometryCollection", geometries: [{ type: "MultiLineString", coordinates: [[[0, 0], [1, 1]]] }, { type: "Point", coordinates: [7, 8, 0] }] } },
  ],
};

test("files of QuPath come back with all that they hold", () => {
  const found = parseFeatures(JSON.stringify(QUPATH));
  assert.deepEqual(found[0], QUPATH.features[0]);
  assert.deepEqual(found[1].nucleusGeometry, QUPATH.features[1].nucleusGeometry);
  assert.deepEqual(found[1].properties.classification, { names: ["Tumor", "Positive"], color: [1, 2, 3], name: "Tumor: Positive" });
  assert.match(found[1].id, UUID); // an old type is no id
  assert.deepEqual(found[2].properties, { objectType: "annotation" });
  assert.deepEqual(found[3].properties.classification, { name: "Stroma", color: [150, 200, 150] });
  assert.deepEqual(parseFeatures(formatFeatures(found)), found);
  assert.deepEqual(found.map(titleOf), ["Gland", "Area", "Line", "Points", "Area"]);
  assert.equal(colorOf(found[0]), "rgb(200 0 0)");
  assert.equal(colorOf({ properties: { color: [1, 2, 3], classification: { color: [4, 5, 6] } } }), "rgb(1 2 3)");
  assert.equal(colorOf({ properties: { color: ["red;}", 2, 3] } }), "rgb(255 255 0)");
  for (const whole of [QUPATH.features, QUPATH.features[0]]) {
    assert.ok(parseFeatures(JSON.stringify(whole)).length >= 1); // a bare list, and a single object
  }
});

test("outlines of every kind of geometry", () => {
  const count = QUPATH.features.map(({ geometry }) => [...outlines(geometry)].map(({ points, isClosed }) => [points.length, isClosed]));
  assert.deepEqual(count, [
    [[4, true], [4, true]],
    [[4, true], [4, true]],
    [[2, false]],
    [[1, false], [1, false]],
    [[2, false], [1, false]],
  ]);
  assert.deepEqual(boundsOf(QUPATH.features[4]), { left: 0, top: 0, right: 7, bottom: 8 });
  assert.equal(isOutside(QUPATH.features[0], { width: 9, height: 100 }), true);
  assert.equal(isOutside(QUPATH.features[0], { width: 11, height: 100 }), false);
});

const feature = (geometry, more) => JSON.stringify([{ type: "Feature", geometry, properties: {}, ...more }]);

for (const [name, text, part] of [
  ["no JSON", "<html>", "no JSON"],
  ["nothing", "", "no JSON"],
  ["null", "null", "other JSON"],
  ["a number", "5", "other JSON"],
  ["other JSON", '{"type": "Topology"}', "other JSON"],
  ["features that are no list", '{"type": "FeatureCollection", "features": {}}', "other JSON"],
  ["null as an object", "[null]", "object 1"],
  ["a bare geometry", '[{"type": "Point", "coordinates": [1, 2]}]', "got Point"],
  ["no geometry", feature(null), "got null"],
  ["an unknown geometry", feature({ type: "Circle", coordinates: [1, 2] }), "got Circle"],
  ["a name of Object's", feature({ type: "constructor", coordinates: [1, 2] }), "got constructor"],
  ["text as a coordinate", feature({ type: "Point", coordinates: ["1", 2] }), "finite coordinates"],
  ["null as a coordinate", feature({ type: "Point", coordinates: [null, 2] }), "finite coordinates"],
  ["one coordinate", feature({ type: "Point", coordinates: [1] }), "finite coordinates"],
  ["far coordinates", feature({ type: "Point", coordinates: [1e300, 2] }), "finite coordinates"],
  ["a flat polygon", feature({ type: "Polygon", coordinates: [[1, 2], [3, 4]] }), "finite coordinates"],
  ["an empty polygon", feature({ type: "Polygon", coordinates: [] }), "finite coordinates"],
  ["an empty ring", feature({ type: "Polygon", coordinates: [[]] }), "finite coordinates"],
  ["a bad part", feature({ type: "GeometryCollection", geometries: [{ type: "Point" }] }), "finite coordinates"],
  ["an empty collection", feature({ type: "GeometryCollection", geometries: [] }), "geometry"],
  ["a list of properties", feature({ type: "Point", coordinates: [1, 2] }, { properties: [1] }), "properties"],
  ["too many", JSON.stringify(Array(MAX_FEATURES + 1).fill(QUPATH.features[2])), `at most ${MAX_FEATURES}`],
]) {
  test(`refused with a sentence: ${name}`, () => {
    assert.throws(() => parseFeatures(text), (error) => {
      assert.match(error.message, /^Expected .+, got .+\. .+\.$/);
      assert.ok(error.message.includes(part), error.message);
      return true;
    });
  });
}

// --- the browser's storage ---------------------------------------------------------------------------------------------

/** A storage as the browser's; Object.keys lists its keys. */
class Storage {
  getItem(key) {
    return this[key] ?? null;
  }
  setItem(key, value) {
    this[key] = value;
  }
  removeItem(key) {
    delete this[key];
  }
}

function make(storage, more) {
  const problems = [];
  const asked = [];
  const made = new Annotations({
    identify: async ({ id }) => asked.push(id) && `sha-${id}`,
    onChange: () => {},
    onProblem: (message) => problems.push(message),
    getStorage: () => storage,
    ...more,
  });
  return Object.assign(made, { problems, asked });
}

const [ONE, TWO, THREE] = [1, 2, 3].map((x) => makePoint({ x, y: x }, SLIDE));

test("annotations are kept by the slide's content, and found again", async () => {
  const storage = new Storage();
  const first = make(storage);
  await first.open({ id: "a" });
  assert.deepEqual(first.asked, []); // a digest takes time: not before there is anything to find
  await first.add(ONE);
  await first.open({ id: "b" });
  await first.add(TWO);
  assert.deepEqual(Object.keys(storage), ["monai_iste:annotations:sha-a", "monai_iste:annotations:sha-b"]);
  const second = make(storage);
  await second.open({ id: "a" });
  assert.deepEqual(second.features, [ONE]);
  await second.remove(ONE.id);
  assert.deepEqual(Object.keys(storage), ["monai_iste:annotations:sha-b"]);
  assert.deepEqual([...first.problems, ...second.problems], []);
});

test("changes can be undone, one by one", async () => {
  const found = make(new Storage());
  await found.open({ id: "a" });
  assert.equal(found.canUndo, false);
  await found.add(ONE);
  await found.merge([TWO, { ...ONE, properties: { name: "new" } }]);
  assert.deepEqual(found.features.map(({ properties }) => properties.name), [undefined, "new"]);
  await found.remove(TWO.id);
  await found.undo();
  await found.undo();
  assert.deepEqual(found.features, [ONE]);
  await found.undo();
  assert.deepEqual([found.features, found.canUndo], [[], false]);
  await found.undo();
  assert.deepEqual(found.problems, []);
});

test("what is drawn before the kept ones are found does not replace them, nor does undoing it", async () => {
  const storage = new Storage();
  storage.setItem("monai_iste:annotations:sha-a", formatFeatures([ONE]));
  let answer;
  const found = make(storage, { identify: () => new Promise((resolve) => (answer = resolve)) });
  const opened = found.open({ id: "a" });
  const added = found.add(TWO);
  answer("sha-a");
  await Promise.all([opened, added]);
  assert.deepEqual(found.features, [ONE, TWO]);
  assert.deepEqual(parseFeatures(storage.getItem("monai_iste:annotations:sha-a")), [ONE, TWO]);
  await found.undo();
  assert.deepEqual(found.features, [ONE]);
});

test("a slide that is left before its content is known keeps nothing of the next one", async () => {
  const storage = new Storage();
  const answers = {};
  const found = make(storage, { identify: ({ id }) => new Promise((resolve) => (answers[id] = () => resolve(`sha-${id}`))) });
  await found.open({ id: "a" });
  const added = found.add(ONE);
  const opened = found.open({ id: "b" });
  const second = found.add(TWO);
  answers.a();
  await added;
  answers.b();
  await Promise.all([opened, second]);
  assert.deepEqual(found.features, [TWO]);
  assert.deepEqual(parseFeatures(storage.getItem("monai_iste:annotations:sha-b")), [TWO]);
  assert.deepEqual(parseFeatures(storage.getItem("monai_iste:annotations:sha-a")), [ONE]);
});

test("another window's change of the same slide is taken over", async () => {
  const found = make(new Storage());
  await found.open({ id: "a" });
  await found.add(ONE);
  found.onStorage({ key: "monai_iste:annotations:sha-b", newValue: formatFeatures([TWO]) });
  assert.deepEqual(found.features, [ONE]);
  found.onStorage({ key: "monai_iste:annotations:sha-a", newValue: formatFeatures([ONE, THREE]) });
  assert.deepEqual(found.features, [ONE, THREE]);
  found.onStorage({ key: "monai_iste:annotations:sha-a", newValue: "garbage" });
  assert.deepEqual(found.features, [ONE, THREE]);
  found.onStorage({ key: "monai_iste:annotations:sha-a", newValue: null });
  assert.deepEqual(found.features, []);
});

test("a browser that keeps nothing says so, and the page goes on", async () => {
  const full = new Storage();
  const throwing = Object.create(full, { setItem: { value: () => { throw new Error("QuotaExceededError"); } } });
  for (const getStorage of [() => throwing, () => { throw new Error("SecurityError"); }, () => null]) {
    const found = make(null, { getStorage });
    await found.open({ id: "a" });
    await found.add(ONE);
    assert.deepEqual(found.features, [ONE]);
    assert.deepEqual(found.problems, ["This browser keeps no annotations here: save them as a file."]);
  }
});

test("kept annotations that cannot be read are named, not silently dropped", async () => {
  const storage = new Storage();
  storage.setItem("monai_iste:annotations:sha-a", "{");
  const found = make(storage);
  await found.open({ id: "a" });
  assert.match(found.problems[0], /cannot be read/);
});

test("no more objects than can be drawn and loaded again", async () => {
  const found = make(new Storage());
  await found.open({ id: "a" });
  await found.merge(Array.from({ length: MAX_FEATURES }, (_, i) => makePoint({ x: i, y: 0 }, SLIDE)));
  await found.add(ONE);
  assert.equal(found.features.length, MAX_FEATURES);
  assert.match(found.problems[0], /^Expected at most 2000 objects, got 2001\./);
});
