/**
 * Where things are: the one home of the page's arithmetic, free of the browser so that it can be tested alone.
 *
 * Units: "native" are pixels of the slide's level 0, (x, y) from the left top corner of its first pixel; "device" are
 * pixels of the screen, which a CSS pixel may hold several of. A scale is device pixels per native pixel.
 */

/** Below this scale the slide's own pixels suffice; a little above 1, so that 1:1 is never resampled. */
export const NATIVE_UP_TO = 1 + 1e-6;

/**
 * The distance of output pixels, in native pixels, along an axis of so many native pixels: the output has a whole
 * number of pixels and owns the grid.
 */
export function pitch(nativeSize, scale) {
  return nativeSize / Math.max(1, Math.round(nativeSize * scale));
}

/** The view moved by less than half a device pixel, so that device pixels coincide with output pixels. */
export function snapped(view, image, scale) {
  const stepX = pitch(image.width, scale);
  const stepY = pitch(image.height, scale);
  return { ...view, x: Math.round(view.x / stepX) * stepX, y: Math.round(view.y / stepY) * stepY };
}

/**
 * What to ask the server for: the part of a view that lies on the slide, at exactly the view's scale.
 *
 * On a screen with more pixels than the server draws, the scale is that of every second pixel, or third.
 *
 * @param view {x, y, w, h} native, may reach beyond the slide
 * @param device {width, height} of the view
 * @param image {width, height} native
 * @param limits {side, area} of a picture that the server draws
 * @returns {{x, y, w, h, width, height, scale}} native, whole device pixels; null where no pixel of the slide is seen
 */
export function requestFor(view, device, image, limits) {
  const { width: right, height: down } = device;
  const tooMany = Math.max(right / limits.side, down / limits.side, Math.sqrt((right * down) / limits.area));
  const scale = right / view.w / Math.ceil(tooMany);
  const [x, width] = inside(view.x, view.w, image.width, scale);
  const [y, height] = inside(view.y, view.h, image.height, scale);
  if (width < 1 || height < 1) return null;
  return { x, y, w: width / scale, h: height / scale, width, height, scale };
}

function inside(start, extent, limit, scale) {
  const first = Math.max(0, start);
  const end = Math.min(limit, start + extent);
  // Whole pixels only: a rounded-up one would reach beyond the slide, or change the scale.
  return [first, Math.floor((end - first) * scale + 1e-6)];
}

/** Whether two views, or requests, show the same: to a hundredth of a device pixel. */
export function same(a, b, scale) {
  if (!a || !b) return a === b;
  const far = (key) => Math.abs(a[key] - b[key]) * scale > 0.01;
  return !["x", "y", "w", "h"].some(far);
}

/** Micrometers per device pixel, along x; null if the slide's are unknown. */
export function micronsPerPixel(image, scale) {
  return image.mpp ? image.mpp[1] / scale : null;
}

/** The objective whose scans have this pixel size, by the convention 10 um per pixel / magnification: 0.25 um is 40x. */
export function equivalentObjective(microns) {
  return 10 / microns;
}

/**
 * A scale bar: the longest of 1, 2, 5, 10, 20, ... micrometers, or native pixels, that fits.
 *
 * @param microns per device pixel, or null
 * @param scale device pixels per native pixel
 * @param room device pixels
 * @returns {{length, label}} device pixels and words
 */
export function scaleBar(microns, scale, room) {
  const unit = microns ?? 1 / scale;
  const most = room * unit;
  const power = 10 ** Math.floor(Math.log10(most));
  const value = [5, 2, 1].find((digit) => digit * power <= most) * power;
  return { length: value / unit, label: microns === null ? `${plain(value)} px of the slide` : metric(value) };
}

function metric(microns) {
  if (microns >= 1000) return `${plain(microns / 1000)} mm`;
  return microns >= 1 ? `${plain(microns)} µm` : `${plain(microns * 1000)} nm`;
}

function plain(value) {
  return String(Number(value.toPrecision(3)));
}

/** A scale as text: x3.37. */
export function times(scale) {
  return `×${Number(scale.toPrecision(scale < 1 ? 2 : 4))}`;
}

/** A number between two others. */
export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
