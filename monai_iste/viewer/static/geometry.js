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
 * Parts are bounded by the server's windows, so that few windows are computed for each: two beside each other, which
 * two threads compute at once, or more where they are small.
 *
 * @param request see requestFor
 * @param window side of the server's windows in native pixels
 * @returns requests at the same scale whose pixels make up those of the request
 */
export function partsOf(request, image, window) {
  const columns = cutAxis(request.x, request.width, request.scale, pitch(image.width, request.scale), window, 2);
  const rows = cutAxis(request.y, request.height, request.scale, pitch(image.height, request.scale), window, 1);
  const parts = rows.flatMap(([y, height]) => columns.map(([x, width]) => ({ x, y, width, height })));
  const away = ({ x, y, width, height }) =>
    Math.hypot(x - request.x + (width - request.width) / 2 / request.scale, y - request.y + (height - request.height) / 2 / request.scale);
  return parts
    .map((part) => ({ ...part, w: part.width / request.scale, h: part.height / request.scale, scale: request.scale }))
    .sort((a, b) => away(a) - away(b));
}

/** Cut one axis of a request at every `number`-th border of windows: native position and device pixels of each piece. */
function cutAxis(start, length, scale, step, window, number) {
  const distance = window * Math.max(number, Math.ceil(MIN_PART / (window * scale)));
  const cuts = [0];
  for (let border = (Math.floor(start / distance) + 1) * distance; border < start + length * step; border += distance) {
    const cut = Math.ceil((border - start) / step - 1e-6);
    if (cut > cuts.at(-1) && cut < length) cuts.push(cut);
  }
  return cuts.map((cut, i) => [start + cut * step, (cuts[i + 1] ?? length) - cut]);
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
