/** Tools that set points on the slide: ruler, rectangle and point, by mouse, finger or keyboard. */

import { measure } from "./geometry.js";
import { makePoint, makeRectangle } from "./geojson.js";

const DRAG = 5; // CSS pixels that a press may move and still be a click
const STEP = 10; // CSS pixels that an arrow key moves the cross; with Shift one
const EDGE = 24; // CSS pixels from the border at which the view follows the cross
const FOLLOW = 0.25; // fraction of the view by which it follows
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const HINTS = {
  ruler: "Ruler: drag, or set two ends by click or Enter. Arrows move the cross, Esc ends.",
  rectangle: "Rectangle: drag, or set two corners by click or Enter. Arrows move the cross, Esc ends.",
  point: "Point: click, or press Enter. Arrows move the cross, Esc ends.",
};

/**
 * State of the tools. With one of them, presses on the slide draw and do not pan; the wheel still zooms.
 *
 * Ends can be set by dragging, by two clicks, or by the keyboard's cross and Enter.
 */
export class Tools {
  /**
   * @param getLeader () -> the pane that keys refer to
   * @param onChange called when something is to be drawn again, or the tool changes
   * @param onFeature called with a new annotation
   * @param say called with a sentence
   */
  constructor({ getLeader, onChange, onFeature, say }) {
    Object.assign(this, { getLeader, onChange, onFeature, say });
    this.kind = null; // "ruler", "rectangle" or "point"
    this.reset();
  }

  reset() {
    this.ruler = null; // {a, b} in native pixels
    this.draft = null; // {a, b} of the rectangle that is being drawn
    this.anchor = null; // first end, until the second is set
    this.cross = null; // place of the keyboard's cross
    this.press = null; // {at, position, isDrag} of the pointer that is down
  }

  /** Choose a tool, or none if it is chosen already. */
  choose(kind) {
    this.kind = this.kind === kind ? null : kind;
    this.reset();
    const pane = this.getLeader();
    if (this.kind && pane.isOpen) {
      this.cross = this.center();
      pane.viewer.canvas.focus();
    }
    this.say(this.kind ? HINTS[this.kind] : "");
    this.onChange();
  }

  /** Follow the pointer of a pane. */
  watch(pane) {
    const { viewer } = pane;
    const at = ({ position }) => pane.toNative(position);
    const handlers = {
      "canvas-press": (event) => (this.press = { at: at(event), position: event.position, isDrag: false }),
      "canvas-drag": (event) => this.drag(at(event), event.position),
      "canvas-drag-end": (event) => this.dragEnd(at(event)),
      "canvas-click": (event) => this.click(at(event)),
      "canvas-double-click": () => {},
    };
    for (const [name, handler] of Object.entries(handlers)) {
      viewer.addHandler(name, (event) => {
        if (!this.kind || !pane.isOpen) return;
        event.preventDefaultAction = true;
        handler(event);
      });
    }
    pane.element.addEventListener(
      "pointermove",
      (event) => {
        if (!this.anchor || this.cross || event.pointerType === "touch") return;
        const { left, top } = pane.element.getBoundingClientRect();
        this.stretch(pane.toNative({ x: event.clientX - left, y: event.clientY - top }));
      },
      true,
    );
  }

  drag(at, { x, y }) {
    const { press } = this;
    if (!press || this.kind === "point") return;
    if (!press.isDrag && Math.hypot(x - press.position.x, y - press.position.y) <= DRAG) return;
    if (!press.isDrag) Object.assign(this, { anchor: press.at, cross: null, ruler: null });
    press.isDrag = true;
    this.stretch(at);
  }

  dragEnd(at) {
    if (this.press?.isDrag) this.finish(at);
  }

  click(at) {
    if (this.press?.isDrag) return;
    this.cross = null;
    this.set(at);
  }

  /** Set an end at a place: the first, or the second, which finishes. */
  set(at) {
    if (this.kind === "point") {
      this.onFeature(makePoint(at, this.getLeader().image));
    } else if (this.anchor) {
      this.finish(at);
    } else {
      this.anchor = at;
      this.ruler = null;
      this.stretch(at);
      this.say(this.kind === "ruler" ? "First end set; now the other." : "First corner set; now the opposite one.");
    }
  }

  /** Draw from the first end to a place. */
  stretch(at) {
    const line = { a: this.anchor, b: at };
    if (this.kind === "ruler") this.ruler = line;
    else this.draft = line;
    this.onChange();
  }

  finish(at) {
    const { image } = this.getLeader();
    const a = this.anchor;
    this.anchor = null;
    this.draft = null;
    if (this.kind === "ruler") {
      this.ruler = { a, b: at };
      this.say(`Ruler: ${measure(a, at, image).label}.`);
    } else {
      const feature = makeRectangle(a, at, image);
      if (feature) this.onFeature(feature);
      else this.say("Expected a rectangle on the slide, got none. Set two corners that differ.");
    }
    this.onChange();
  }

  /** Handle a key; returns true if a tool has used it. */
  onKey(event) {
    if (!this.kind) return false;
    if (event.key === "Escape") {
      if (!this.anchor) this.choose(null);
      else {
        const { cross } = this;
        this.reset();
        this.cross = cross;
        this.say(HINTS[this.kind]);
        this.onChange();
      }
      return true;
    }
    if (ARROWS[event.key]) {
      this.moveCross(ARROWS[event.key], event.shiftKey ? 1 : STEP);
      return true;
    }
    // On a button, Enter presses the button.
    if (event.key !== "Enter" || event.target.closest?.("button, a, dialog, [role=slider]")) return false;
    this.cross ??= this.center();
    this.set(this.cross);
    return true;
  }

  center() {
    const pane = this.getLeader();
    return pane.toNative({ x: pane.element.clientWidth / 2, y: pane.element.clientHeight / 2 });
  }

  moveCross([right, down], step) {
    const pane = this.getLeader();
    const from = this.cross ?? this.center();
    this.cross = { x: from.x + (right * step) / pane.cssScale, y: from.y + (down * step) / pane.cssScale };
    const { x, y } = pane.toScreen(this.cross);
    const { clientWidth: width, clientHeight: height } = pane.element;
    const beyond = (value, extent) => (value < EDGE ? -1 : value > extent - EDGE ? 1 : 0);
    const [across, up] = [beyond(x, width), beyond(y, height)];
    if (across || up) pane.panBy(FOLLOW * across, FOLLOW * up, true);
    if (this.anchor) this.stretch(this.cross);
    else this.onChange();
  }
}
