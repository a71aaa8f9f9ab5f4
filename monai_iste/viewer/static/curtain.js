/** The curtain: a vertical line between bicubic on its left and super-resolved on its right. */

import { clamp } from "./geometry.js";

const STEP = 0.02;
const MARGIN = 0.02; // of the view: the grip never leaves it

/**
 * A handle that is dragged with mouse, pen or finger, or moved by the arrow keys when it has the focus.
 *
 * @param handle element with role "slider"
 * @param box the element that it crosses
 * @param onMove called with its place, a share of the box
 */
export function makeCurtain(handle, box, onMove) {
  let place = 0.5;

  function move(share) {
    place = clamp(share, MARGIN, 1 - MARGIN);
    handle.style.left = `${100 * place}%`;
    handle.setAttribute("aria-valuenow", String(Math.round(100 * place)));
    handle.setAttribute("aria-valuetext", `${Math.round(100 * place)} % bicubic, the rest super-resolved`);
    onMove(place);
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
    event.stopPropagation(); // elsewhere the arrows pan
    move(to ?? place + by);
  });

  move(place);
  return { get place() { return place; } };
}
