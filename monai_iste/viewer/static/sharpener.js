/** Request overlays for the view once it rests, beyond the native resolution. */

import { cancel, fetchConsistency, fetchView, isAbort } from "./api.js";
import { MAX_NATIVE_SCALE, partsOf, requestFor, sameView, snapToGrid } from "./geometry.js";

const REST = 120; // milliseconds without movement before a request is sent

/**
 * Each update compares the overlays that should be visible with those that are, and fetches the missing ones: first
 * bicubic, which is fast, then the super-resolved view, then the consistency map. It may be called at any time. Parts of
 * the super-resolved view are shown as they are finished, from the center outwards.
 *
 * Overlays stay while the view is panned, because at one scale their pixels are the same in every view. A zoom removes
 * them.
 */
export class Sharpener {
  /**
   * @param getLeader () -> the pane that the user moves
   * @param getTargets () -> {all, bicubic, sr, map}: all open panes, and the panes that should show each kind
   * @param limits {side, area} of an image that the server renders, {grid} see partsOf
   * @param onPhase called with {phase, scale, message}; phases: "native", "moving", "bicubic", "ready", "failed"
   */
  constructor({ getLeader, getTargets, limits, onPhase }) {
    this.getLeader = getLeader;
    this.getTargets = getTargets;
    this.limits = limits;
    this.onPhase = onPhase;
    this.timer = null;
    this.work = null; // {request, token, abort} of the running update
    this.current = null; // the latest request, while it matches the view
    this.failed = null; // the request that failed; not repeated automatically
    this.count = 0;
    this.clientId = crypto.getRandomValues(new Uint32Array(2)).join("");
  }

  /** Handle a movement of the view. */
  onMove(panes) {
    const pane = this.getLeader();
    if (!pane.isOpen) return;
    const scale = pane.scale;
    for (const each of panes) {
      const shown = each.shown("bicubic") ?? each.shown("sr");
      if (shown && Math.abs(shown.screenScale / scale - 1) > 1e-6) each.clear();
    }
    if (this.current && !sameView(this.current, this.request(pane), scale)) {
      this.stop();
      this.current = null;
      this.onPhase({ phase: "moving", scale });
    }
  }

  /** Schedule an update for when the view rests. */
  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.update(), REST);
  }

  /** Schedule an update that also repeats a failed request. */
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

  /** Return the request for a pane, or null if the slide is not visible. */
  request(pane) {
    return requestFor(pane.view(), pane.device, pane.image, this.limits);
  }

  async update() {
    const pane = this.getLeader();
    if (!pane.isOpen) return;
    const scale = pane.scale;
    const targets = this.getTargets();
    if (scale <= MAX_NATIVE_SCALE) {
      this.stop();
      for (const each of targets.all) each.clear();
      if (Math.abs(scale - 1) < 1e-6) this.align(pane, targets);
      this.onPhase({ phase: "native", scale });
      return;
    }
    this.align(pane, targets);
    const request = this.request(pane);
    this.removeStale(targets, request, scale);
    if (request === null || sameView(request, this.failed, scale)) return;
    if (this.work && sameView(this.work.request, request, scale)) return;
    this.stop();
    await this.run(pane.image.id, request, scale);
  }

  /** Align screen pixels with the output grid; the view moves by less than half a pixel. */
  align(pane, targets) {
    const view = pane.view();
    const aligned = snapToGrid(view, pane.image, pane.scale);
    if (!sameView(view, aligned, pane.scale)) pane.moveTo(aligned);
    for (const each of targets.all) if (each !== pane) each.follow(pane);
  }

  /** Remove overlays that should not be visible, and a map of another view. */
  removeStale(targets, request, scale) {
    for (const pane of targets.all) {
      for (const kind of ["bicubic", "sr", "map"]) {
        const shown = pane.shown(kind);
        const stale = kind === "map" && shown && !sameView(shown.request, request, scale);
        if (shown && (stale || !targets[kind].includes(pane))) pane.remove(kind);
      }
    }
  }

  async run(id, request, screenScale) {
    const work = { request, token: `${this.clientId}-${++this.count}`, abort: new AbortController() };
    this.work = work;
    this.current = request;
    const scale = screenScale;
    const { token } = work;
    const { signal } = work.abort;
    const fetchers = {
      bicubic: () => fetchView(id, request, "bicubic", token, signal),
      sr: () => fetchView(id, request, "sr", token, signal),
      map: () => fetchConsistency(id, request, token, signal),
    };
    try {
      // The targets are looked up at each step: the mode or the map may change while an image is rendered.
      for (let next = this.nextMissing(request); next; next = this.nextMissing(request)) {
        this.onPhase({ phase: next.kind === "map" ? "mapping" : "bicubic", scale });
        if (next.kind === "sr") await this.placeParts(id, work, next.panes, screenScale);
        if (this.work !== work) return;
        const { blob, ...info } = await fetchers[next.kind]();
        await Promise.all(next.panes.map((pane) => pane.place(next.kind, blob, { ...info, request, screenScale })));
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

  /** Place the parts of a super-resolved view that are not seen yet; the whole, placed afterwards, replaces them. */
  async placeParts(id, { request, token, abort }, panes, screenScale) {
    const parts = partsOf(request, panes[0].image, this.limits.grid);
    if (parts.length < 2) return;
    for (const part of parts) {
      const missing = panes.filter((pane) => !pane.covers("sr", part, screenScale));
      if (missing.length === 0) continue;
      const { blob, ...info } = await fetchView(id, part, "sr", token, abort.signal);
      const placed = { ...info, request: part, screenScale, isPart: true };
      await Promise.all(missing.map((pane) => pane.place("sr", blob, placed)));
      if (abort.signal.aborted) return;
      this.onPhase({ phase: "placed", scale: screenScale, kind: "part" });
    }
  }

  /** Return the first kind that a pane lacks for a request, as {kind, panes}, or null. */
  nextMissing(request) {
    const targets = this.getTargets();
    for (const kind of ["bicubic", "sr", "map"]) {
      const panes = targets[kind].filter((pane) => !sameView(pane.shown(kind)?.request, request, request.scale));
      if (panes.length > 0) return { kind, panes };
    }
    return null;
  }
}
