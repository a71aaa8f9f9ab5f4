/** Past native resolution: asks the server for the view at rest, and lays what comes over it. */

import { cancel, fetchConsistency, fetchView, isAbort } from "./api.js";
import { NATIVE_UP_TO, requestFor, same, snapped } from "./geometry.js";

const REST = 120; // milliseconds without movement before anything is asked for

/**
 * What is to be seen is compared with what is shown, and only the difference is fetched: bicubic first, because it
 * is there at once, then the super-resolved view, then the map. So it may be called at any time, and again.
 *
 * Overlays stay while the view is panned: at the same scale their pixels are those that the next view would have, as the
 * output owns the grid. A zoom ends them.
 */
export class Sharpener {
  /**
   * @param leading () -> the pane that the user moves
   * @param wanted () -> {bicubic, sr, map}: for each kind, the panes that are to show it
   * @param limits {side, area} of a picture that the server draws
   * @param onPhase called with {phase, scale, message}; phases: "native", "moving", "bicubic", "ready", "failed"
   */
  constructor({ leading, wanted, limits, onPhase }) {
    this.leading = leading;
    this.wanted = wanted;
    this.limits = limits;
    this.onPhase = onPhase;
    this.timer = null;
    this.work = null; // {request, token, abort}
    this.current = null; // the request that was last worked on, while the view is its own
    this.failed = null; // the request that the server refused: not repeated of itself
    this.count = 0;
    this.page = crypto.getRandomValues(new Uint32Array(2)).join("");
  }

  /** The view changes. */
  moved(panes) {
    const pane = this.leading();
    if (!pane.isOpen) return;
    const scale = pane.scale;
    for (const each of panes) {
      const shown = each.shown("bicubic") ?? each.shown("sr");
      if (shown && Math.abs(shown.screenScale / scale - 1) > 1e-6) each.clear();
    }
    if (this.current && !same(this.current, this.request(pane), scale)) {
      this.stop();
      this.current = null;
      this.onPhase({ phase: "moving", scale });
    }
  }

  /** Soon, if nothing moves in between. */
  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settle(), REST);
  }

  /** Begin anew, also what was refused. */
  retry() {
    this.failed = null;
    this.schedule();
  }

  stop() {
    clearTimeout(this.timer);
    if (!this.work) return;
    this.work.abort.abort();
    cancel(this.work.token);
    this.work = null;
  }

  /** What to ask for; null where nothing of the slide is seen. */
  request(pane) {
    return requestFor(pane.view(), pane.device, pane.image, this.limits);
  }

  async settle() {
    const pane = this.leading();
    if (!pane.isOpen) return;
    const scale = pane.scale;
    const wanted = this.wanted();
    if (scale <= NATIVE_UP_TO) {
      this.stop();
      for (const each of wanted.all) each.clear();
      if (Math.abs(scale - 1) < 1e-6) this.align(pane, wanted);
      this.onPhase({ phase: "native", scale });
      return;
    }
    this.align(pane, wanted);
    const request = this.request(pane);
    this.tidy(wanted, request, scale);
    if (request === null || same(request, this.failed, scale)) return;
    if (this.work && same(this.work.request, request, scale)) return;
    this.stop();
    await this.run(pane.image.id, request, scale);
  }

  /** Let pixels of the screen coincide with those of the grid: the eye does not see the step, but a picture's edges do. */
  align(pane, wanted) {
    const view = pane.view();
    const aligned = snapped(view, pane.image, pane.scale);
    if (!same(view, aligned, pane.scale)) pane.moveTo(aligned);
    for (const each of wanted.all) if (each !== pane) each.follow(pane);
  }

  /** Remove what is not wanted, and a map of another view. */
  tidy(wanted, request, scale) {
    for (const pane of wanted.all) {
      for (const kind of ["bicubic", "sr", "map"]) {
        const shown = pane.shown(kind);
        const stale = kind === "map" && shown && !same(shown.request, request, scale);
        if (shown && (stale || !wanted[kind].includes(pane))) pane.remove(kind);
      }
    }
  }

  async run(id, request, screenScale) {
    const work = { request, token: `${this.page}-${++this.count}`, abort: new AbortController() };
    this.work = work;
    this.current = request;
    const scale = screenScale;
    const { token } = work;
    const { signal } = work.abort;
    const steps = {
      bicubic: () => fetchView(id, request, "bicubic", token, signal),
      sr: () => fetchView(id, request, "sr", token, signal),
      map: () => fetchConsistency(id, request, token, signal),
    };
    try {
      // What is wanted is looked up at each step: another mode, or the map, may be chosen while a picture is made.
      for (let next = this.missing(request); next; next = this.missing(request)) {
        this.onPhase({ phase: next.kind === "map" ? "mapping" : "bicubic", scale });
        const { blob, ...about } = await steps[next.kind]();
        await Promise.all(next.panes.map((pane) => pane.place(next.kind, blob, { ...about, request, screenScale })));
        if (this.work !== work) return;
        this.onPhase({ phase: "placed", scale, kind: next.kind });
      }
      this.work = null;
      this.onPhase({ phase: "ready", scale });
    } catch (error) {
      if (isAbort(error) || this.work !== work) return;
      this.work = null;
      this.failed = request;
      this.onPhase({ phase: "failed", scale, message: error.message });
    }
  }

  /** The first kind that some pane lacks for a request: {kind, panes}. */
  missing(request) {
    const wanted = this.wanted();
    for (const kind of ["bicubic", "sr", "map"]) {
      const panes = wanted[kind].filter((pane) => !same(pane.shown(kind)?.request, request, request.scale));
      if (panes.length > 0) return { kind, panes };
    }
    return null;
  }
}
