/** Where the pictures, and the words that belong to them, stand in the stage. */

import { $ } from "./words.js";

const GAP = 2; // between two pictures, CSS pixels

/**
 * Whole CSS pixels for every picture, and the same for both: a fraction would shift one against the other.
 *
 * @param isSide whether there are two pictures; they stand beside each other, or above where the stage is upright
 */
export function layOut(isSide) {
  const { clientWidth: width, clientHeight: height } = $("stage");
  const upright = height > width;
  const half = Math.floor(((upright ? height : width) - GAP) / 2);
  const size = !isSide ? [width, height] : upright ? [width, half] : [half, height];
  for (const [id, place] of [["pane-a", 0], ["pane-b", half + GAP]]) {
    const { style } = $(id);
    [style.width, style.height] = size.map((n) => `${n}px`);
    style.left = `${upright ? 0 : place}px`;
    style.top = `${upright ? place : 0}px`;
  }
  $("pane-b").inert = !isSide; // hidden, but not without a size, which its viewport could not follow
  // Each label stands in its own picture: right of the line, or in the second.
  const second = isSide && !upright ? half + GAP + 12 : null;
  $("label-right").style.left = isSide ? `${upright ? 12 : second}px` : "auto";
  $("label-right").style.right = isSide ? "auto" : "12px";
  const below = isSide && upright ? half + GAP : 0;
  $("label-right").style.top = `${below + 12}px`;
  // The mark stands where the inferred pixels are.
  $("badge").style.left = `${isSide && !upright ? 1.5 * half + GAP : width / 2}px`;
  $("badge").style.marginTop = `${below}px`;
}
