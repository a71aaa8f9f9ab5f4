/** Layout of the panes and their labels in the stage. */

import { $ } from "./words.js";

const GAP = 2; // between two panes, CSS pixels

/**
 * Set position and size of the panes in whole CSS pixels; fractions would shift one image against the other.
 *
 * @param isSide true for two panes: side by side, or one above the other if the stage is taller than wide
 */
export function updateLayout(isSide) {
  const { clientWidth: width, clientHeight: height } = $("stage");
  const portrait = height > width;
  const half = Math.floor(((portrait ? height : width) - GAP) / 2);
  const size = !isSide ? [width, height] : portrait ? [width, half] : [half, height];
  for (const [id, place] of [["pane-a", 0], ["pane-b", half + GAP]]) {
    const { style } = $(id);
    [style.width, style.height] = size.map((n) => `${n}px`);
    style.left = `${portrait ? 0 : place}px`;
    style.top = `${portrait ? place : 0}px`;
  }
  $("pane-b").inert = !isSide; // hidden by CSS, but keeps its size, which its viewport needs
  // Each label is in its own image: right of the curtain, or in the second pane.
  const second = isSide && !portrait ? half + GAP + 12 : null;
  $("label-right").style.left = isSide ? `${portrait ? 12 : second}px` : "auto";
  $("label-right").style.right = isSide ? "auto" : "12px";
  const below = isSide && portrait ? half + GAP : 0;
  $("label-right").style.top = `${below + 12}px`;
  // The badge is centered on the inferred pixels.
  $("badge").style.left = `${isSide && !portrait ? 1.5 * half + GAP : width / 2}px`;
  $("badge").style.marginTop = `${below}px`;
}
