/**
 * Annotations as GeoJSON, as QuPath reads and writes it. Does not use the browser, so that it can be tested alone.
 *
 * Coordinates are pixels of the slide's level 0, (x, y) from its top left corner. What a file holds and the page does
 * not show, such as measurements, stays in the features and is saved again.
 */

/** Largest number of objects, and of bytes of a file. */
export const MAX_FEATURES = 2000;
export const MAX_BYTES = 20_000_000;

/** QuPath's usual classes and their colors. */
export const CLASSES = {
  Tumor: [200, 0, 0],
  Stroma: [150, 200, 150],
  "Immune cells": [160, 90, 160],
  Necrosis: [50, 50, 50],
  Other: [255, 200, 0],
  "Region*": [0, 0, 180],
  "Ignore*": [180, 180, 180],
};

// Depth of the lists of each geometry's coordinates; a position has depth 1.
const DEPTHS = { Point: 1, MultiPoint: 2, LineString: 2, MultiLineString: 3, Polygon: 3, MultiPolygon: 4 };

const SAVE_AS_GEOJSON = "Export the objects as GeoJSON.";

/** A file that cannot be used; the message is shown in the status line. */
export class FileError extends Error {
  constructor(expected, got, remedy = SAVE_AS_GEOJSON) {
    super(`Expected ${expected}, got ${got}. ${remedy}`);
    this.name = "FileError";
  }
}

/** Return a random UUID; crypto.randomUUID exists on encrypted and local pages only. */
export function makeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

const round = (number) => Math.round(number * 100) / 100;

const inside = ({ x, y }, { width, height }) => [
  round(Math.min(Math.max(x, 0), width)),
  round(Math.min(Math.max(y, 0), height)),
];

const makeFeature = (geometry) => ({ type: "Feature", id: makeId(), geometry, properties: { objectType: "annotation" } });

/** Return the annotation of a point, which is moved into the slide. */
export function makePoint(at, image) {
  return makeFeature({ type: "Point", coordinates: inside(at, image) });
}

/** Return the annotation of a rectangle between two corners, cut to the slide; null if it has no area. */
export function makeRectangle(a, b, image) {
  const [[ax, ay], [bx, by]] = [inside(a, image), inside(b, image)];
  const [left, right, top, bottom] = [Math.min(ax, bx), Math.max(ax, bx), Math.min(ay, by), Math.max(ay, by)];
  if (left === right || top === bottom) return null;
  const ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]];
  return makeFeature({ type: "Polygon", coordinates: [ring] });
}

/** Return a feature with another name and class; empty ones are left out, which QuPath expects. */
export function describe(feature, { name, className }) {
  const old = feature.properties.classification;
  const classification = className === old?.name ? old : classOf(className);
  const properties = { ...feature.properties, name, classification };
  if (!name) delete properties.name;
  if (!className) delete properties.classification;
  return { ...feature, properties };
}

function classOf(name) {
  return { name, ...(Object.hasOwn(CLASSES, name) && { color: CLASSES[name] }) };
}

/** Return the text of a file. */
export function formatFeatures(features) {
  return JSON.stringify({ type: "FeatureCollection", features }, null, 1);
}

/** Return the features of a file, or throw FileError. */
export function parseFeatures(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new FileError("a GeoJSON file", "one that is no JSON");
  }
  const found = Array.isArray(content) ? content : content?.type === "Feature" ? [content] : content?.features;
  if (!Array.isArray(found)) throw new FileError("a GeoJSON FeatureCollection", "other JSON");
  if (found.length > MAX_FEATURES) {
    throw new FileError(`at most ${MAX_FEATURES} objects`, `${found.length}`, "Export fewer, such as annotations only.");
  }
  return found.map(checkFeature);
}

function checkFeature(feature, index) {
  const which = `object ${index + 1}`;
  if (feature?.type !== "Feature") throw new FileError(`a Feature as ${which}`, typeName(feature));
  checkGeometry(feature.geometry, which);
  const { properties } = feature;
  if (properties != null && (typeof properties !== "object" || Array.isArray(properties))) {
    throw new FileError(`properties with names as those of ${which}`, typeName(properties));
  }
  const id = typeof feature.id === "string" && /^[0-9a-f-]{36}$/i.test(feature.id) ? feature.id : makeId();
  return { ...feature, id, properties: checkProperties(properties ?? {}) };
}

/** Return properties in QuPath's form; a class may be stated by its name alone. */
function checkProperties({ name, classification, ...rest }) {
  const className = typeof classification === "string" ? classification : nameOfClass(classification);
  return {
    objectType: "annotation",
    ...rest,
    ...(name != null && name !== "" && { name: String(name) }),
    ...(className && { classification: typeof classification === "string" ? classOf(className) : { ...classification, name: className } }),
  };
}

function nameOfClass(classification) {
  const { name, names } = classification ?? {};
  return typeof name === "string" ? name : Array.isArray(names) ? names.join(": ") : "";
}

function checkGeometry(geometry, which) {
  if (geometry?.type === "GeometryCollection" && geometry.geometries?.length > 0 && Array.isArray(geometry.geometries)) {
    geometry.geometries.forEach((part) => checkGeometry(part, which));
    return;
  }
  const depth = Object.hasOwn(DEPTHS, geometry?.type ?? "") && DEPTHS[geometry.type];
  if (!depth) throw new FileError(`a geometry of ${which}`, typeName(geometry));
  if (!hasDepth(geometry.coordinates, depth)) {
    throw new FileError(`finite coordinates of ${which}, a ${geometry.type}`, "others");
  }
}

function hasDepth(value, depth) {
  if (!Array.isArray(value) || value.length === 0) return false;
  if (depth > 1) return value.every((part) => hasDepth(part, depth - 1));
  return value.length >= 2 && value.slice(0, 2).every((n) => Number.isFinite(n) && Math.abs(n) < 1e8);
}

function typeName(value) {
  return typeof value?.type === "string" ? value.type.slice(0, 40) : value === null ? "null" : typeof value;
}

/** Yield the outlines of a geometry as {points, isClosed}; a single point is an outline of one. */
export function* outlines({ type, coordinates, geometries }) {
  if (type === "GeometryCollection") for (const part of geometries) yield* outlines(part);
  if (type === "Point") yield { points: [coordinates], isClosed: false };
  if (type === "MultiPoint") for (const point of coordinates) yield { points: [point], isClosed: false };
  if (type === "LineString") yield { points: coordinates, isClosed: false };
  if (type === "MultiLineString") for (const points of coordinates) yield { points, isClosed: false };
  if (type === "Polygon") for (const points of coordinates) yield { points, isClosed: true };
  if (type === "MultiPolygon") for (const points of coordinates.flat()) yield { points, isClosed: true };
}

/** Return the bounding box {left, top, right, bottom} of a feature. */
export function boundsOf(feature) {
  const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const { points } of outlines(feature.geometry)) {
    for (const [x, y] of points) {
      [box.left, box.right] = [Math.min(box.left, x), Math.max(box.right, x)];
      [box.top, box.bottom] = [Math.min(box.top, y), Math.max(box.bottom, y)];
    }
  }
  return box;
}

/** Return true if no part of a feature's bounding box lies on the slide. */
export function isOutside(feature, { width, height }) {
  const { left, top, right, bottom } = boundsOf(feature);
  return right < 0 || bottom < 0 || left > width || top > height;
}

const KINDS = { Point: "Point", MultiPoint: "Points", LineString: "Line", MultiLineString: "Lines" };

/** Return what a feature is called in the list: its name, or its kind. */
export function titleOf(feature) {
  if (feature.properties.name) return feature.properties.name;
  return isRectangle(feature.geometry) ? "Rectangle" : (KINDS[feature.geometry.type] ?? "Area");
}

function isRectangle({ type, coordinates }) {
  if (type !== "Polygon" || coordinates.length !== 1 || coordinates[0].length !== 5) return false;
  return coordinates[0].slice(1).every(([x, y], i) => (x === coordinates[0][i][0]) !== (y === coordinates[0][i][1]));
}

/** Return a feature's color as CSS writes it: its own, or that of its class. */
export function colorOf({ properties: { color, classification } }) {
  const found = color ?? classification?.color;
  const isColor = Array.isArray(found) && found.length === 3 && found.every((n) => Number.isFinite(n));
  return isColor ? `rgb(${found.join(" ")})` : "rgb(255 255 0)";
}
