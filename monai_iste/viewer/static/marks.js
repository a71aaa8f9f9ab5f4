/** Marks over the slide: annotations, the ruler, what is being drawn, and the cross of the keyboard. */

import { measure } from "./geometry.js";
import { boundsOf, colorOf, outlines, titleOf } from "./geojson.js";

const MAX_NAMES = 200; // names that are drawn at once
const TICK = 6; // half the length of the ruler's end marks, CSS pixels
const CROSS = 14; // half the size of the cross

function make(name, attributes = {}) {
  const { namespaceURI } = document.querySelector("svg.marks");
  const element = document.createElementNS(namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** Return the path of a geometry in native pixels. A point is a line without length, which is drawn as a dot. */
function pathOf(geometry) {
  const parts = [];
  for (const { points, isClosed } of outlines(geometry)) {
    const [first, ...rest] = points.map(([x, y]) => `${x} ${y}`);
    parts.push(`M${first}${rest.length === 0 ? "h0" : rest.map((point) => `L${point}`).join("")}${isClosed ? "Z" : ""}`);
  }
  return parts.join("");
}

const isPoints = ({ type }) => type === "Point" || type === "MultiPoint";

/** Layer of a pane. It takes no events. */
export class MarkLayer {
  /** @param pane the pane, beside whose element is an empty SVG element */
  constructor(pane) {
    this.pane = pane;
    this.svg = pane.element.parentElement.querySelector("svg.marks");
    this.shapes = make("g");
    this.names = make("g");
    this.drawing = make("g");
    this.svg.append(this.shapes, this.names, this.drawing);
    this.features = [];
  }

  /** Set the annotations; `selected` is the id of one, or null. */
  setFeatures(features, selected) {
    this.features = features;
    this.selected = selected;
    this.shapes.replaceChildren(
      ...features.flatMap((feature) => {
        const kind = isPoints(feature.geometry) ? "dot" : "outline";
        const d = pathOf(feature.geometry);
        const state = feature.id === selected ? " selected" : "";
        const line = make("path", { class: `mark ${kind}${state}`, d });
        line.style.stroke = colorOf(feature);
        return [make("path", { class: `halo ${kind}${state}`, d }), line];
      }),
    );
  }

  /**
   * Draw at the pane's present view.
   *
   * @param tool {kind, ruler, draft, cross} in native pixels; ruler and draft are {a, b}
   */
  draw({ ruler, draft, cross }) {
    const { pane } = this;
    if (!pane.isOpen) {
      this.svg.setAttribute("visibility", "hidden");
      return;
    }
    this.svg.setAttribute("visibility", "visible");
    const { x, y } = pane.toScreen({ x: 0, y: 0 });
    this.shapes.setAttribute("transform", `matrix(${pane.cssScale} 0 0 ${pane.cssScale} ${x} ${y})`);
    this.drawNames();
    this.drawing.replaceChildren(
      ...(draft ? this.box(draft) : []),
      ...(ruler ? this.ruler(ruler) : []),
      ...(cross ? this.cross(cross) : []),
    );
  }

  drawNames() {
    const { clientWidth: width, clientHeight: height } = this.pane.element;
    const named = [];
    for (const feature of this.features) {
      if (!feature.properties.name && feature.id !== this.selected) continue;
      const { right, top } = boundsOf(feature);
      const { x, y } = this.pane.toScreen({ x: right, y: top });
      if (x < 0 || y < 0 || x > width || y > height || named.length === MAX_NAMES) continue;
      named.push(this.text(x + 6, y - 4, titleOf(feature)));
    }
    this.names.replaceChildren(...named);
  }

  text(x, y, words) {
    const element = make("text", { x, y });
    element.textContent = words;
    return element;
  }

  /** Return a line with a dark rim, so that it is seen on any tissue. */
  line(d) {
    return [make("path", { class: "halo outline", d }), make("path", { class: "mark outline", d })];
  }

  box({ a, b }) {
    const [from, to] = [this.pane.toScreen(a), this.pane.toScreen(b)];
    return this.line(`M${from.x} ${from.y}H${to.x}V${to.y}H${from.x}Z`);
  }

  ruler({ a, b }) {
    const [from, to] = [this.pane.toScreen(a), this.pane.toScreen(b)];
    const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
    const [across, down] = [(-TICK * (to.y - from.y)) / length, (TICK * (to.x - from.x)) / length];
    const tick = ({ x, y }) => `M${x - across} ${y - down}L${x + across} ${y + down}`;
    return [
      ...this.line(`M${from.x} ${from.y}L${to.x} ${to.y}${tick(from)}${tick(to)}`),
      this.label(from, to, measure(a, b, this.pane.image).label),
    ];
  }

  /** Write the ruler's length beside its middle, inside of the pane. */
  label(from, to, words) {
    const { clientWidth: width, clientHeight: height } = this.pane.element;
    const within = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
    const room = 9 * words.length;
    const x = within((from.x + to.x) / 2 + 10, 4, width - room);
    return this.text(x, within((from.y + to.y) / 2 - 10, 18, height - 6), words);
  }

  cross(at) {
    const { x, y } = this.pane.toScreen(at);
    return this.line(`M${x - CROSS} ${y}H${x + CROSS}M${x} ${y - CROSS}V${y + CROSS}`);
  }
}
