/** The page: state, panes and their interaction. */

import { fetchDeparture, fetchImages, fetchStatus, infoAddress } from "./api.js";
import { format, parse } from "./address.js";
import { makeCurtain } from "./curtain.js";
import { MAX_NATIVE_SCALE } from "./geometry.js";
import { registerShortcuts } from "./keys.js";
import { updateLayout } from "./layout.js";
import { makeMarking } from "./marking.js";
import { makeOverview } from "./overview.js";
import { Pane } from "./pane.js";
import { Sharpener } from "./sharpener.js";
import { copyLink, exportPicture } from "./share.js";
import { listSlides } from "./slides.js";
import { $, showStatus, updateBadge, updateReadout } from "./words.js";

const MAX_SCALE = 8; // if the server states no limit
const LIMITS = { side: 4096, area: 9_000_000 }; // of images that the server renders
const READING = "Reading the slide…";
const ZOOM_HINT = "Zoom in past 1:1 to see inferred pixels.";
const ZOOM_STEP = 1.3; // factor of the zoom keys
const PAN_STEP = 0.2; // fraction of the view, of the arrow keys

const state = { images: [], image: null, mode: "single", map: false, sharpen: true, departure: "", server: {}, phase: "starting", phaseText: "" };
let panes = null; // {a, b}; b is used by the mode "side"
let leader = null;
let curtain = null;

// --- texts -----------------------------------------------------------------------------------------------------------

const isSide = () => state.mode === "side";

function updateTexts() {
  updateReadout(leader);
  updateBadge(leader.scale, panes.a, isSide() ? panes.b : panes.a, { preset: "network", ...state.server, ...state });
}

function onPhase({ phase, kind, message }) {
  state.phase = phase === "placed" ? state.phase : phase;
  document.body.dataset.phase = state.phase;
  if (kind) performance.mark(`viewer:${kind}`);
  updateCurtain();
  const messages = {
    native: !state.isDrawn ? READING : state.map || state.mode !== "single" ? ZOOM_HINT : "",
    moving: "",
    bicubic: "",
    ready: "",
    failed: message,
  };
  if (phase in messages) {
    // Sentences of other parts stay until the view moves.
    const isOwn = ["", state.phaseText].includes($("status").textContent);
    if (messages[phase] || isOwn || phase === "moving") showStatus(messages[phase], phase === "failed");
    state.phaseText = messages[phase];
  }
  updateTexts();
}

// --- overlays and modes ----------------------------------------------------------------------------------------------

function activePanes() {
  return isSide() ? [panes.a, panes.b] : [panes.a];
}

/** Return all open panes, and the panes that should show each kind of overlay. */
function getTargets() {
  const all = [panes.a, panes.b].filter((pane) => pane.isOpen);
  const srPane = isSide() ? panes.b : panes.a;
  return {
    all,
    bicubic: activePanes(),
    sr: state.sharpen ? [srPane] : [],
    map: state.sharpen && state.map ? [srPane] : [],
  };
}

function updateCurtain() {
  const fraction = state.mode === "curtain" ? curtain.position : null;
  for (const kind of ["sr", "map"]) panes.a.clip(kind, fraction);
}

const sharpener = new Sharpener({ getLeader: () => leader, getTargets, limits: LIMITS, onPhase });

async function setMode(mode) {
  state.mode = mode;
  document.body.dataset.mode = mode;
  for (const button of document.querySelectorAll("[data-mode-button]")) {
    button.setAttribute("aria-pressed", String(button.dataset.modeButton === mode));
  }
  $("curtain").hidden = mode !== "curtain";
  updateLayout(isSide());
  leader = panes.a;
  if (!state.image) return;
  await Promise.all(activePanes().map((pane) => pane.whenSized()));
  if (isSide() && panes.b.image !== state.image) await openIn(panes.b, state.image).catch(showError);
  updateCurtain();
  updateTexts();
  sharpener.schedule();
}

function toggle(name, id) {
  state[name] = !state[name];
  $(id).setAttribute("aria-pressed", String(state[name]));
  if (!state.image) return;
  updateTexts();
  sharpener.retry();
}

// --- slides ----------------------------------------------------------------------------------------------------------

const showError = (error) => showStatus(error.message, true);

async function openIn(pane, image, place) {
  await pane.open(image, infoAddress(image.id), place);
  if (pane !== leader) pane.follow(leader);
}

/** Load the thumbnails once the first tile of a slide is drawn. */
function onFirstTile() {
  performance.mark("viewer:first-tile");
  if ($("status").textContent === READING) showStatus("");
  state.isDrawn = true;
  slides.loadThumbnails();
  overview.loadThumbnail();
  loadDeparture(state.image);
}

/** Mark a slide that is outside what the network learned. */
async function loadDeparture(image) {
  const departure = await fetchDeparture(image.id).catch(() => ""); // the views of the slide report errors
  if (state.image !== image) return;
  state.departure = departure;
  updateTexts();
}

async function show(image, place = {}) {
  sharpener.stop();
  showStatus(READING);
  state.isDrawn = false;
  state.departure = "";
  state.image = image;
  $("title").textContent = image.name;
  document.title = `${image.name} – monai_iste viewer`;
  leader = panes.a;
  $("empty").hidden = true;
  overview.open(image);
  marking.open(image);
  panes.a.viewer.addOnceHandler("tile-drawn", onFirstTile);
  try {
    await openIn(panes.a, image, place);
    if (state.image !== image) return; // another slide was opened in the meantime
    goTo(place, true);
    if (isSide()) await openIn(panes.b, image, place);
  } catch (error) {
    showError(error);
    slides.loadThumbnails();
    return;
  }
  if (state.server.error) showStatus(state.server.error, true);
  $("scale-bar").hidden = false;
  slides.select(image);
  onMove();
  sharpener.retry();
}

function goTo({ x, y, zoom }, immediately = false) {
  const { width, height } = state.image;
  if (zoom !== undefined) panes.a.goTo(zoom, { x: x ?? width / 2, y: y ?? height / 2 }, immediately);
}

async function followAddress() {
  const place = parse(location.hash);
  const image = state.images.find(({ id }) => id === place.image) ?? state.image ?? state.images[0];
  if (place.map !== state.map) toggle("map", "map");
  if (image !== state.image) {
    await setMode(place.mode ?? state.mode);
    await show(image, place);
  } else {
    if (place.mode && place.mode !== state.mode) await setMode(place.mode);
    goTo(place);
  }
  if (place.image !== undefined && image.id !== place.image) {
    showStatus("The slide of this address is not served here.", true);
  }
}

/** Write the view to the address without adding to the browser's history. */
function writeAddress() {
  const view = leader.view();
  const place = { image: state.image.id, x: view.x + view.w / 2, y: view.y + view.h / 2, zoom: leader.scale };
  history.replaceState(null, "", format({ ...place, mode: state.mode, map: state.map }));
}

// --- movement --------------------------------------------------------------------------------------------------------

/** Update everything that depends on the view. */
function onMove() {
  if (!state.image || !leader.isOpen) return;
  for (const pane of activePanes()) if (pane !== leader) pane.follow(leader);
  sharpener.onMove([panes.a, panes.b]);
  updateCurtain();
  updateTexts();
  overview.show(leader.view());
  marking.draw();
}

function onRest() {
  if (!state.image || !leader.isOpen) return;
  writeAddress();
  sharpener.schedule();
}

function watch(pane) {
  const { viewer } = pane;
  const becomeLeader = () => {
    if (activePanes().includes(pane)) leader = pane;
  };
  for (const name of ["canvas-press", "canvas-scroll", "canvas-pinch", "canvas-double-click"]) {
    viewer.addHandler(name, becomeLeader);
  }
  viewer.addHandler("viewport-change", () => pane === leader && onMove());
  viewer.addHandler("animation-finish", () => pane === leader && onRest());
  viewer.addHandler("resize", () => {
    if (pane !== leader) return;
    onMove();
    onRest();
  });
}

// --- export, buttons, start ------------------------------------------------------------------------------------------

async function link() {
  if (await copyLink()) showStatus("Link to this view copied.");
  else showStatus("This browser does not let the page copy: copy the link from the address bar.", true);
}

async function exportView() {
  const request = state.image && sharpener.request(leader);
  if (!request) return;
  const method = request.scale <= MAX_NATIVE_SCALE ? "native" : state.sharpen ? "sr" : "bicubic";
  showStatus("Exporting…");
  $("export").disabled = true;
  try {
    showStatus(`Saved ${await exportPicture(state.image.id, request, method)}.`);
  } catch (error) {
    showError(error);
  } finally {
    $("export").disabled = false;
  }
}

const overview = makeOverview($("overview"), (center) => leader.goTo(leader.scale, center));
const slides = listSlides({ list: $("slide-list"), box: $("slides"), toggle: $("slides-toggle") }, (image) => {
  if (image !== state.image) show(image);
});

const marking = makeMarking({ getLeader: () => leader, getImage: () => state.image, say: showStatus });

const actions = {
  zoomIn: () => leader.zoomBy(ZOOM_STEP),
  zoomOut: () => leader.zoomBy(1 / ZOOM_STEP),
  pan: (right, down) => leader.panBy(PAN_STEP * right, PAN_STEP * down),
  fit: () => leader.fit(),
  native: () => leader.goTo(1),
  mode: (mode) => setMode(mode === state.mode ? "single" : mode),
  sharpen: () => toggle("sharpen", "sharpen"),
  map: () => toggle("map", "map"),
  tool: (kind) => marking.choose(kind),
  annotate: () => marking.togglePanel(),
  undo: () => marking.undo(),
  link,
  exportView,
  help: () => $("help").showModal(),
};

function wireButtons() {
  const clicks = { fit: "fit", native: "native", in: "zoomIn", out: "zoomOut", sharpen: "sharpen", map: "map" };
  for (const [id, name] of Object.entries({ ...clicks, link: "link", export: "exportView", "help-open": "help" })) {
    $(id).addEventListener("click", () => actions[name]());
  }
  for (const button of document.querySelectorAll("[data-mode-button]")) {
    button.addEventListener("click", () => setMode(button.dataset.modeButton));
  }
  registerShortcuts(actions, () => leader?.isOpen && !$("help").open, (event) => marking.onKey(event));
}

async function start() {
  try {
    [state.images, state.server] = await Promise.all([fetchImages(), fetchStatus()]);
  } catch (error) {
    showError(error);
    return;
  }
  LIMITS.grid = state.server.grid;
  updateLayout(isSide()); // before the viewports are created, which take the size of their containers
  const maxScale = state.server.max_scale ?? MAX_SCALE;
  panes = Object.fromEntries(
    ["a", "b"].map((name) => [
      name,
      new Pane($(`pane-${name}`).querySelector(".picture"), maxScale, (message) => showStatus(message, true)),
    ]),
  );
  leader = panes.a;
  curtain = makeCurtain($("curtain"), $("stage"), () => curtain && updateCurtain());
  Object.values(panes).forEach(watch);
  marking.wire(Object.values(panes));
  wireButtons();
  slides.fill(state.images);
  if (state.images.length === 0) {
    $("empty").textContent = "No slide is served. Start the viewer again with the name of one.";
    $("empty").hidden = false;
    return;
  }
  new ResizeObserver(() => updateLayout(isSide())).observe($("stage"));
  window.addEventListener("hashchange", followAddress);
  window.addEventListener("pagehide", () => sharpener.stop());
  await followAddress();
}

start();
