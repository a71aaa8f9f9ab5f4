/** What the page says about the picture: sizes, whose pixels these are, and what is being waited for. */

import { NATIVE_UP_TO, equivalentObjective, micronsPerPixel, scaleBar, times } from "./geometry.js";

const BAR = 160; // CSS pixels of a scale bar at the most

/** An element of the page. */
export const $ = (id) => document.getElementById(id);

/** Only what changes, so that screen readers do not repeat themselves with every frame. */
function put(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

/** One sentence in the status line. */
export function say(message, isError = false) {
  put("status", message);
  $("status").dataset.error = String(isError);
}

/** Pixel size, equivalent objective, zoom factor and scale bar of a pane. */
export function describe(pane) {
  const { image, scale } = pane;
  const { width, ratio } = pane.device;
  const microns = micronsPerPixel(image, scale);
  const sizes =
    microns === null
      ? ["pixel size unknown: lengths in pixels"]
      : [`${microns.toPrecision(3)} µm/px`, `equivalent to ${Number(equivalentObjective(microns).toPrecision(3))}×`];
  put("readout", [...sizes, `${times(scale)} of native`].join(" · "));
  const bar = scaleBar(microns, scale, Math.min(BAR * ratio, width / 4));
  $("scale-line").style.width = `${bar.length / ratio}px`;
  put("scale-label", bar.label);
}

/**
 * Whose pixels these are.
 *
 * @param scale device pixels per native pixel
 * @param left, right the panes at the left and right of a comparison, the same pane for a curtain
 * @param state {mode, map, sharpen, phase, preset}
 */
export function mark(scale, left, right, { mode, map, sharpen, phase, preset }) {
  const past = scale > NATIVE_UP_TO;
  const isInferred = past && [left, right].some((pane) => pane.shown("sr")?.inferred || pane.shown("map"));
  const words = [
    isInferred && `Inferred: ${preset} ${times(scale)}`,
    past && sharpen && phase === "bicubic" && "bicubic, sharpening…",
    past && phase === "mapping" && "comparing with the slide…",
    isInferred && "Not for diagnosis",
  ].filter(Boolean);
  put("badge", words.join(" · ") || "Interpolated");
  $("badge").dataset.inferred = String(isInferred);
  $("badge").hidden = !past;
  $("label-left").hidden = $("label-right").hidden = mode === "single";
  put("label-left", whose(past, left, mode === "curtain" ? ["bicubic"] : ["sr", "bicubic"]));
  put("label-right", whose(past, right, ["sr", "bicubic"]));
  $("legend").hidden = !(past && map && sharpen);
}

function whose(past, pane, kinds) {
  const names = { sr: "Super-resolved", bicubic: "Bicubic" };
  const found = past && kinds.find((kind) => pane.shown(kind));
  return found ? names[found] : past ? "Interpolated" : "Native";
}
