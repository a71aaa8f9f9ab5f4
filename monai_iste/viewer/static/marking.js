/** Ruler and annotations of the page: tools, layers over the panes, and the panel, put together. */

import { makePanel } from "./annotation_panel.js";
import { Annotations } from "./annotations.js";
import { fetchIdentity } from "./api.js";
import { MarkLayer } from "./marks.js";
import { Tools } from "./tools.js";
import { $ } from "./words.js";

const KINDS = ["ruler", "rectangle", "point"];

/**
 * Put the parts together.
 *
 * @param getLeader () -> the pane that keys refer to
 * @param getImage () -> the open slide, or null
 * @param say called with (sentence, isError)
 */
export function makeMarking({ getLeader, getImage, say }) {
  let layers = []; // one for each pane

  function draw() {
    if (getImage()) for (const layer of layers) layer.draw(tools);
  }

  function update() {
    for (const layer of layers) layer.setFeatures(annotations.features, panel.selected);
    draw();
  }

  /** Show a bounding box, or a point at the present scale. */
  function goTo({ left, top, right, bottom }) {
    const leader = getLeader();
    const { width, height } = leader.device;
    const [w, h] = [right - left, bottom - top];
    const scale = w + h > 0 ? Math.min(width / Math.max(w, 1), height / Math.max(h, 1)) / 2 : leader.scale;
    leader.goTo(scale, { x: (left + right) / 2, y: (top + bottom) / 2 });
  }

  const tools = new Tools({
    getLeader,
    say,
    onChange: () => {
      for (const kind of KINDS) $(`tool-${kind}`).setAttribute("aria-pressed", String(tools.kind === kind));
      document.body.dataset.tool = tools.kind ?? "";
      draw();
    },
    onFeature: (feature) => {
      say("Annotation added.");
      annotations.add(feature);
    },
  });

  const annotations = new Annotations({
    identify: (image) => fetchIdentity(image.id),
    onChange: () => {
      panel.update();
      update();
    },
    onProblem: (message) => say(message, true),
  });

  const panel = makePanel({ annotations, getImage, goTo, onSelect: update, say });

  return {
    draw,
    choose: (kind) => tools.choose(kind),
    onKey: (event) => tools.onKey(event),
    togglePanel: () => panel.toggle(),
    undo: () => annotations.undo(),

    /** Show the annotations of a slide, and end the tool. */
    open(image) {
      if (tools.kind) tools.choose(null);
      annotations.open(image);
    },

    /** Listen to the panes, the buttons and other windows. */
    wire(panes) {
      panes.forEach((pane) => tools.watch(pane));
      layers = panes.map((pane) => new MarkLayer(pane));
      for (const kind of KINDS) $(`tool-${kind}`).addEventListener("click", () => getImage() && tools.choose(kind));
      window.addEventListener("storage", (event) => annotations.onStorage(event));
    },
  };
}
