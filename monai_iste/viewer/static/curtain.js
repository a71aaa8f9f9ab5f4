/** Curtain: a vertical line with the bicubic image on its left and the super-resolved image on its right. */

import { clamp } from "./geometry.js";

const STEP = 0.02;
const MARGIN = 0.02; // of the view; keeps the grip visible

/**
 * Create a handle that can be dragged, or moved by the arrow keys while it has the focus.
 *
 * @param handle element with role "slider"
 * @param box element that the line crosses
 * @param onMove called with the position, a fraction of the box
 */
export function makeCurtain(handle, box, onMove) {
  let position = 0.5;

  function move(fraction) {
    position = clamp(fraction, MARGIN, 1 - MARGIN);
    handle.style.left = `${100 * position}%`;
    handle.setAttribute("aria-valuenow", String(Math.round(100 * position)));
    handle.setAttribute("aria-valuetext", `${Math.round(100 * position)} % bicubic, the rest super-resolved`);
    onMove(position);
  }

  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    handle.focus();
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const { left, width } = box.getBoundingClientRect();
    move((event.clientX - left) / width);
  });
  handle.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP }[event.key];
    const to = { Home: 0, End: 1 }[event.key];
    if (by === undefined && to === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // outside the handle the arrows pan
    move(to ?? position + by);
  });

  move(position);
  return { get position() { return position; } };
}
