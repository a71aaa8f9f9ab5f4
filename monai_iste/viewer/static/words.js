/** Texts of the page: pixel size, scale, source of the pixels, and progress. */

import {
  MAX_NATIVE_SCALE,
  describePixelSize,
  equivalentObjective,
  formatScale,
  micronsPerPixel,
  scaleBar,
} from "./geometry.js";

const MAX_BAR = 160; // longest scale bar in CSS pixels

/** Return an element of the page by its id. */
export const $ = (id) => document.getElementById(id);

/** Set a text if it changes, so that screen readers do not repeat it. */
function put(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

/** Show a message in the status line. */
export function showStatus(message, isError = false) {
  put("status", message);
  $("status").dataset.error = String(isError);
}

/** Show pixel size, equivalent objective, zoom factor and scale bar of a pane. */
export function updateReadout(pane) {
  const { image, scale } = pane;
  const { width, ratio } = pane.device;
  const microns = micronsPerPixel(image, scale);
  const sizes =
    microns === null
      ? [`pixel size unknown (${image.mpp_remark}): lengths in pixels`]
      : [`${microns.toPrecision(3)} µm/px`, `equivalent to ${Number(equivalentObjective(microns).toPrecision(3))}×`];
  put("readout", [...sizes, `${formatScale(scale)} of native`].join(" · "));
  const bar = scaleBar(microns, scale, Math.min(MAX_BAR * ratio, width / 4));
  $("scale-line").style.width = `${bar.length / ratio}px`;
  put("scale-label", bar.label);
}

/**
 * Show the source of the pixels: native, interpolated, bicubic or super-resolved.
 *
 * @param scale device pixels per native pixel
 * @param left, right panes on the left and right of a comparison; the same pane for a curtain
 * @param state {mode, map, sharpen, phase, preset, input_blur, departure, learned_mpp}
 */
export function updateBadge(scale, left, right, { mode, map, sharpen, phase, preset, input_blur, departure, learned_mpp }) {
  const isUpscaled = scale > MAX_NATIVE_SCALE;
  const isInferred = isUpscaled && [left, right].some((pane) => pane.shown("sr")?.inferred || pane.shown("map"));
  const words = [
    isInferred && `Inferred: ${preset} ${formatScale(scale)}`,
    isInferred && input_blur && `told a blur of ${input_blur} pixels`,
    isUpscaled && sharpen && phase === "bicubic" && "bicubic, sharpening…",
    isUpscaled && phase === "mapping" && "comparing with the slide…",
    isInferred && departure && "outside what the network learned",
    isInferred && describePixelSize(left.image, scale, learned_mpp),
    isInferred && "Not for diagnosis",
  ].filter(Boolean);
  put("badge", words.join(" · ") || "Interpolated");
  $("badge").title = isInferred && departure ? `This slide is ${departure}.` : "";
  $("badge").dataset.inferred = String(isInferred);
  $("badge").hidden = !isUpscaled;
  $("label-left").hidden = $("label-right").hidden = mode === "single";
  put("label-left", sourceLabel(isUpscaled, left, mode === "curtain" ? ["bicubic"] : ["sr", "bicubic"]));
  put("label-right", sourceLabel(isUpscaled, right, ["sr", "bicubic"]));
  $("legend").hidden = !(isUpscaled && map && sharpen);
  const consistency = right.shown("map")?.consistency;
  put("consistency", consistency ? `Here: ${consistency}.` : "");
}

function sourceLabel(isUpscaled, pane, kinds) {
  const names = { sr: "Super-resolved", bicubic: "Bicubic" };
  const found = isUpscaled && kinds.find((kind) => pane.shown(kind));
  return found ? names[found] : isUpscaled ? "Interpolated" : "Native";
}
