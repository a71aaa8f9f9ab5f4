/**
 * Geometry of views and requests. Does not use the browser, so that it can be tested alone.
 *
 * Units: "native" is pixels of the slide's level 0, (x, y) from the top left corner. "Device" is physical pixels of the
 * screen; a CSS pixel may have several. A scale is device pixels per native pixel.
 */

/** Largest scale at which the slide's own pixels are shown; slightly above 1, so that 1:1 is never resampled. */
export const MAX_NATIVE_SCALE = 1 + 1e-6;

/** Smallest side of the parts of a request in device pixels. */
const MIN_PART = 256;

/** Fraction of a view that a whole slide fills. */
export const FIT = 0.97;

/**
 * Return the distance between output pixels, in native pixels, along an axis of `nativeSize` native pixels. The output
 * has a whole number of pixels.
 */
export function pitch(nativeSize, scale) {
  return nativeSize / Math.max(1, roundHalfEven(nativeSize * scale));
}

/** Round as the server does: 4450.5 to 4450, 4451.5 to 4452. */
function roundHalfEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** Move a view by less than half a device pixel, so that device pixels coincide with output pixels. */
export function snapToGrid(view, image, scale) {
  const stepX = pitch(image.width, scale);
  const stepY = pitch(image.height, scale);
  return { ...view, x: Math.round(view.x / stepX) * stepX, y: Math.round(view.y / stepY) * stepY };
}

/**
 * Return the request for a view: its part that lies on the slide, at exactly the view's scale.
 *
 * If the screen has more pixels than the server renders, only every second or third pixel is requested.
 *
 * @param view {x, y, w, h} native; it may reach beyond the slide
 * @param device {width, height} of the view
 * @param image {width, height} native
 * @param limits {side, area} of an image that the server renders
 * @returns {{x, y, w, h, width, height, scale}} native and whole device pixels; null if the slide is not visible
 */
export function requestFor(view, device, image, limits) {
  const excess = Math.max(
    device.width / limits.side,
    device.height / limits.side,
    Math.sqrt((device.width * device.height) / limits.area),
  );
  const scale = device.width / view.w / Math.ceil(excess);
  const [x, width] = clipAxis(view.x, view.w, image.width, scale);
  const [y, height] = clipAxis(view.y, view.h, image.height, scale);
  if (width < 1 || height < 1) return null;
  return { x, y, w: width / scale, h: height / scale, width, height, scale };
}

function clipAxis(start, extent, limit, scale) {
  const first = Math.max(0, start);
  const end = Math.min(limit, start + extent);
  // Round down: a further pixel would reach beyond the slide, or change the scale.
  return [first, Math.floor((end - first) * scale + 1e-6)];
}

/**
 * Divide a request into parts that are shown as they are finished, the one nearest to the center of the view first.
 *
 * Few windows of the server are needed for each part, and none of its blocks belong to two parts. From left to right a
 * part reaches from the middle of a window to that of another, so that two threads have a window each. From top to bottom
 * it lies inside a window, or it is the strip where two of them are blended; where windows are small on the screen it
 * reaches from middle to middle, too.
 *
 * @param request see requestFor
 * @param grid {window, overlap} of the server's windows in native pixels, {block} of what it computes in device pixels
 * @returns requests at the same scale whose pixels make up those of the request
 */
export function partsOf(request, image, grid) {
  const { scale } = request;
  const columns = piecesOf(request.x, request.width, pitch(image.width, scale), grid, cutInMiddles);
  const isSmall = grid.window * scale < 4 * grid.block;
  const rows = piecesOf(request.y, request.height, pitch(image.height, scale), grid, isSmall ? cutInMiddles : cutBesideBlending);
  const away = ({ x, y, w, h }) => Math.hypot(x - request.x + (w - request.w) / 2, y - request.y + (h - request.h) / 2);
  return rows
    .flatMap(([y, height]) => columns.map(([x, width]) => ({ x, y, w: width / scale, h: height / scale, width, height, scale })))
    .sort((a, b) => away(a) - away(b));
}

/** Cut one axis of a request: native position and device pixels of each piece. */
function piecesOf(start, length, step, grid, cut) {
  const first = Math.round(start / step); // device pixels are counted from the slide's border here
  const found = cut(first, first + length, grid.window / step, grid.overlap / step, grid.block);
  const inner = [...new Set(found)].map((pixel) => pixel - first).filter((pixel) => pixel > 0 && pixel < length);
  const cuts = [0, ...inner.sort((a, b) => a - b)];
  return cuts.map((pixel, i) => [start + pixel * step, (cuts[i + 1] ?? length) - pixel]);
}

/** Return the border of blocks that is nearest to the middle of every window, or of every n-th of small ones. */
function cutInMiddles(first, end, window, overlap, block) {
  const distance = window * Math.ceil(MIN_PART / window);
  const cuts = [];
  for (let k = Math.floor(first / distance) - 1; k * distance < end; k++) {
    cuts.push(Math.floor((k * distance + window / 2) / block + 0.5) * block);
  }
  return cuts;
}

/** Return the borders of blocks above and below every strip in which two windows are blended. */
function cutBesideBlending(first, end, window, overlap, block) {
  const cuts = [];
  for (let k = Math.max(1, Math.floor(first / window)); k * window < end + window; k++) {
    cuts.push(Math.floor((k * window - overlap / 2) / block) * block, Math.ceil((k * window + overlap / 2) / block) * block);
  }
  return cuts;
}

/** Return true if two views or requests agree to a hundredth of a device pixel. */
export function sameView(a, b, scale) {
  if (!a || !b) return a === b;
  const far = (key) => Math.abs(a[key] - b[key]) * scale > 0.01;
  return !["x", "y", "w", "h"].some(far);
}

/** Return micrometers per device pixel along x, or null if the slide's pixel size is unknown. */
export function micronsPerPixel(image, scale) {
  return image.mpp ? image.mpp[1] / scale : null;
}

/** Return the equivalent objective magnification by the convention 10 um / (um per pixel): 0.25 um is 40x. */
export function equivalentObjective(microns) {
  return 10 / microns;
}

/**
 * Return the longest scale bar of 1, 2, 5, 10, 20, ... micrometers (or native pixels) that fits.
 *
 * @param microns per device pixel, or null
 * @param scale device pixels per native pixel
 * @param room available device pixels
 * @returns {{length, label}} length in device pixels, and its label
 */
export function scaleBar(microns, scale, room) {
  const unit = microns ?? 1 / scale;
  const longest = room * unit;
  const power = 10 ** Math.floor(Math.log10(longest));
  const value = [5, 2, 1].find((digit) => digit * power <= longest) * power;
  const label = microns === null ? `${formatNumber(value)} px of the slide` : formatLength(value);
  return { length: value / unit, label };
}

/**
 * Measure the distance between two native positions.
 *
 * @returns {{length, label}} in micrometers if the slide's pixel size is known, else in native pixels
 */
export function measure(a, b, image) {
  const [perY, perX] = image.mpp ?? [1, 1];
  const length = Math.hypot((b.x - a.x) * perX, (b.y - a.y) * perY);
  return { length, label: image.mpp ? formatLength(length) : `${formatNumber(length)} px of the slide` };
}

/**
 * Return where a whole slide lies in a view of it, in CSS pixels.
 *
 * @param image {width, height} native
 * @param box {width, height} of the view in CSS pixels
 * @param ratio device pixels per CSS pixel
 * @param place {x, y, zoom}: center in native pixels and scale; without zoom the whole slide is shown
 */
export function slideBox(image, box, ratio, { x, y, zoom } = {}) {
  const fit = FIT * Math.min(box.width / image.width, box.height / image.height);
  const scale = zoom === undefined ? fit : zoom / ratio;
  const center = zoom === undefined ? {} : { x, y };
  return {
    left: box.width / 2 - (center.x ?? image.width / 2) * scale,
    top: box.height / 2 - (center.y ?? image.height / 2) * scale,
    width: image.width * scale,
    height: image.height * scale,
  };
}

/**
 * Describe in which way the pixels of a view are far from those that the network learned; empty if they are not.
 *
 * Coarser than twice the largest pixels of its training's images, or finer than half of the smallest.
 *
 * @param learned [smallest, largest] micrometers per pixel, or null if unknown
 */
export function describePixelSize(image, scale, learned) {
  if (!image.mpp || !learned) return "";
  const [finest, coarsest] = learned;
  const [own, shown] = [Math.sqrt(image.mpp[0] * image.mpp[1]), micronsPerPixel(image, scale)];
  if (own > 2 * coarsest) return `slide of ${formatNumber(own)} µm/px, more than twice the trained ${coarsest}`;
  return shown < finest / 2 ? `${formatNumber(shown)} µm/px, less than half the trained ${finest}` : "";
}

function formatLength(microns) {
  if (microns >= 1000) return `${formatNumber(microns / 1000)} mm`;
  return microns >= 1 ? `${formatNumber(microns)} µm` : `${formatNumber(microns * 1000)} nm`;
}

function formatNumber(value) {
  return String(Number(value.toPrecision(3)));
}

/** Format a scale: x3.37. */
export function formatScale(scale) {
  return `×${Number(scale.toPrecision(scale < 1 ? 2 : 4))}`;
}

/** Limit a number to a range. */
export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
