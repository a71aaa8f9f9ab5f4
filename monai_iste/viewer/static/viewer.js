/** The page: a slide, or two pictures of it, moved together; what is shown is said in words beside it. */

import { fetchExport, fetchImages, fetchStatus, infoAddress } from "./api.js";
import { format, parse } from "./address.js";
import { makeCurtain } from "./curtain.js";
import { NATIVE_UP_TO } from "./geometry.js";
import { listenToKeys } from "./keys.js";
import { layOut } from "./layout.js";
import { makeOverview } from "./overview.js";
import { Pane } from "./pane.js";
import { Sharpener } from "./sharpener.js";
import { listSlides } from "./slides.js";
import { $, describe as describePane, mark, say } from "./words.js";

const MAX_SCALE = 8; // where the server names no limit
const LIMITS = { side: 4096, area: 9_000_000 }; // of pictures that the server draws
const READING = "Reading the slide…";
const PAST = "Zoom in past 1:1 to see inferred pixels.";
const STEP = 1.3; // of a zoom by keys
const PAN = 0.2; // of the view, by keys

const state = { images: [], image: null, mode: "single", map: false, sharpen: true, about: {}, phase: "starting" };
let panes = null; // {a, b}: b is there for the mode side by side
let leader = null;
let curtain = null;

// --- what is said -----------------------------------------------------------------------------------------------------

const isSide = () => state.mode === "side";

function describe() {
  describePane(leader);
  mark(leader.scale, panes.a, isSide() ? panes.b : panes.a, { preset: "network", ...state.about, ...state });
}

function onPhase({ phase, kind, message }) {
  state.phase = phase === "placed" ? state.phase : phase;
  document.body.dataset.phase = state.phase;
  if (kind) performance.mark(`viewer:${kind}`);
  drawCurtain();
  const words = {
    native: !state.isDrawn ? READING : state.map || state.mode !== "single" ? PAST : "",
    moving: "",
    bicubic: "",
    ready: "",
    failed: message,
  };
  if (phase in words) say(words[phase], phase === "failed");
  describe();
}

// --- what is shown ----------------------------------------------------------------------------------------------------

function activePanes() {
  return isSide() ? [panes.a, panes.b] : [panes.a];
}

/** For each kind of overlay, the panes that show it. */
function wanted() {
  const all = [panes.a, panes.b].filter((pane) => pane.isOpen);
  const sharp = isSide() ? panes.b : panes.a;
  return {
    all,
    bicubic: activePanes(),
    sr: state.sharpen ? [sharp] : [],
    map: state.sharpen && state.map ? [sharp] : [],
  };
}

function drawCurtain() {
  const share = state.mode === "curtain" ? curtain.place : null;
  for (const kind of ["sr", "map"]) panes.a.clip(kind, share);
}

const sharpener = new Sharpener({ leading: () => leader, wanted, limits: LIMITS, onPhase });

async function setMode(mode) {
  state.mode = mode;
  document.body.dataset.mode = mode;
  for (const button of document.querySelectorAll("[data-mode-button]")) {
    button.setAttribute("aria-pressed", String(button.dataset.modeButton === mode));
  }
  $("curtain").hidden = mode !== "curtain";
  layOut(isSide());
  leader = panes.a;
  if (!state.image) return;
  await Promise.all(activePanes().map((pane) => pane.fitted()));
  if (isSide() && panes.b.image !== state.image) await openIn(panes.b, state.image).catch(complain);
  drawCurtain();
  describe();
  sharpener.schedule();
}

function toggle(name, id) {
  state[name] = !state[name];
  $(id).setAttribute("aria-pressed", String(state[name]));
  if (!state.image) return;
  describe();
  sharpener.retry();
}

// --- slides -----------------------------------------------------------------------------------------------------------

const complain = (error) => say(error.message, true);

async function openIn(pane, image) {
  await pane.open(image, infoAddress(image.id));
  if (pane !== leader) pane.follow(leader);
}

/** The first tile of a slide is there: now the small pictures may come. */
function firstDrawn() {
  performance.mark("viewer:first-tile");
  if ($("status").textContent === READING) say("");
  state.isDrawn = true;
  slides.illustrate();
  overview.illustrate();
}

async function show(image, place = {}) {
  sharpener.stop();
  say(READING);
  state.isDrawn = false;
  state.image = image;
  $("title").textContent = image.name;
  document.title = `${image.name} – monai_iste viewer`;
  leader = panes.a;
  $("empty").hidden = true;
  overview.open(image);
  panes.a.viewer.addOnceHandler("tile-drawn", firstDrawn);
  try {
    await openIn(panes.a, image);
    if (state.image !== image) return; // another was picked in the meantime
    goTo(place, true);
    if (isSide()) await openIn(panes.b, image);
  } catch (error) {
    complain(error);
    slides.illustrate();
    return;
  }
  if (state.about.error) say(state.about.error, true);
  $("scale-bar").hidden = false;
  slides.select(image);
  moved();
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
  if (place.image !== undefined && image.id !== place.image) say("The slide of this address is not served here.", true);
}

/** The address of what is seen, without a step in the browser's history for each movement. */
function writeAddress() {
  const view = leader.view();
  const place = { image: state.image.id, x: view.x + view.w / 2, y: view.y + view.h / 2, zoom: leader.scale };
  history.replaceState(null, "", format({ ...place, mode: state.mode, map: state.map }));
}

// --- movement ---------------------------------------------------------------------------------------------------------

/** The picture moves: everything that lies over it moves along. */
function moved() {
  if (!state.image || !leader.isOpen) return;
  for (const pane of activePanes()) if (pane !== leader) pane.follow(leader);
  sharpener.moved([panes.a, panes.b]);
  drawCurtain();
  describe();
  overview.show(leader.view());
}

function rested() {
  if (!state.image || !leader.isOpen) return;
  writeAddress();
  sharpener.schedule();
}

function watch(pane) {
  const { viewer } = pane;
  const lead = () => {
    if (activePanes().includes(pane)) leader = pane;
  };
  for (const name of ["canvas-press", "canvas-scroll", "canvas-pinch", "canvas-double-click"]) viewer.addHandler(name, lead);
  viewer.addHandler("viewport-change", () => pane === leader && moved());
  viewer.addHandler("animation-finish", () => pane === leader && rested());
  viewer.addHandler("resize", () => {
    if (pane !== leader) return;
    moved();
    rested();
  });
}

// --- the rest ---------------------------------------------------------------------------------------------------------

async function exportView() {
  const request = state.image && sharpener.request(leader);
  if (!request) return;
  const method = request.scale <= NATIVE_UP_TO ? "native" : state.sharpen ? "sr" : "bicubic";
  say("Exporting…");
  $("export").disabled = true;
  try {
    const { blob, name } = await fetchExport(state.image.id, request, method);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say(`Saved ${name}.`);
  } catch (error) {
    complain(error);
  } finally {
    $("export").disabled = false;
  }
}

const overview = makeOverview($("overview"), (center) => leader.goTo(leader.scale, center));
const slides = listSlides({ list: $("slide-list"), box: $("slides"), toggle: $("slides-toggle") }, (image) => {
  if (image !== state.image) show(image);
});

const actions = {
  zoomIn: () => leader.zoomBy(STEP),
  zoomOut: () => leader.zoomBy(1 / STEP),
  pan: (right, down) => leader.panBy(PAN * right, PAN * down),
  fit: () => leader.fit(),
  native: () => leader.goTo(1),
  mode: (mode) => setMode(mode === state.mode ? "single" : mode),
  sharpen: () => toggle("sharpen", "sharpen"),
  map: () => toggle("map", "map"),
  exportView,
  help: () => $("help").showModal(),
};

function wireButtons() {
  const clicks = { fit: "fit", native: "native", in: "zoomIn", out: "zoomOut", sharpen: "sharpen", map: "map" };
  for (const [id, name] of Object.entries({ ...clicks, export: "exportView", "help-open": "help" })) {
    $(id).addEventListener("click", () => actions[name]());
  }
  for (const button of document.querySelectorAll("[data-mode-button]")) {
    button.addEventListener("click", () => setMode(button.dataset.modeButton));
  }
  listenToKeys(actions, () => leader?.isOpen && !$("help").open);
}

async function start() {
  try {
    [state.images, state.about] = await Promise.all([fetchImages(), fetchStatus()]);
  } catch (error) {
    complain(error);
    return;
  }
  layOut(isSide()); // before there are viewports, which begin with the size of their boxes
  const maxScale = state.about.max_scale ?? MAX_SCALE;
  panes = Object.fromEntries(
    ["a", "b"].map((name) => [
      name,
      new Pane($(`pane-${name}`).querySelector(".picture"), maxScale, (sentence) => say(sentence, true)),
    ]),
  );
  leader = panes.a;
  curtain = makeCurtain($("curtain"), $("stage"), () => curtain && drawCurtain());
  Object.values(panes).forEach(watch);
  wireButtons();
  slides.fill(state.images);
  if (state.images.length === 0) {
    $("empty").textContent = "No slide is served. Start the viewer again with the name of one.";
    $("empty").hidden = false;
    return;
  }
  new ResizeObserver(() => layOut(isSide())).observe($("stage"));
  window.addEventListener("hashchange", followAddress);
  window.addEventListener("pagehide", () => sharpener.stop());
  await followAddress();
}

start();
