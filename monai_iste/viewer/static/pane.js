/** One picture on the screen: the slide's own pyramid, and above it what was drawn for exactly this view. */

import { clamp } from "./geometry.js";

const OSD = window.OpenSeadragon;

/** From the lowest to the highest; each kind lies above the former. */
const KINDS = ["bicubic", "sr", "map"];

const MARGIN = 0.97; // of the view, that all of a slide fills

const OPTIONS = {
  drawer: "canvas",
  showNavigationControl: false,
  keyboardNavEnabled: false, // the page has keys of its own, for all panes
  preserveImageSizeOnResize: true, // another mode, or a turned phone, keeps the scale
  visibilityRatio: 0.25,
  zoomPerScroll: 1.25,
  springStiffness: 8,
  maxImageCacheCount: 300,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  gestureSettingsPen: { clickToZoom: false, dblClickToZoom: true },
};

// OpenSeadragon would put an inline style sheet in the page, which the page's security policy refuses, unless it finds
// one: an element of that name without a namespace looks like it, and does nothing. The focus ring is viewer.css's.
const marker = document.createElementNS(null, "style");
marker.setAttribute("data-openseadragon-mobile-css", "true");
document.head.append(marker);

export class Pane {
  /**
   * @param element the box it fills
   * @param maxScale device pixels per native pixel at the most
   * @param onFailure called with a sentence
   */
  constructor(element, maxScale, onFailure) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.element = element;
    this.maxScale = maxScale;
    this.image = null;
    this.overlays = new Map(); // kind -> what place() was told, and {item, url, content, former}
    this.placings = new Map(); // kind -> number of its latest placing
    this.viewer = new OSD.Viewer({ ...OPTIONS, element, animationTime: still ? 0 : 0.35 });
    // OpenSeadragon draws tiles a pixel too large, so that no seam shows between them. What lies over the slide is one
    // tile, which would be displaced by that, and at 1:1 tiles meet at whole pixels.
    this.viewer.drawer.minimumOverlapRequired = (item) =>
      item === this.viewer.world.getItemAt(0) && Math.abs(this.scale - 1) > 1e-6;
    this.viewer.canvas.setAttribute("role", "img");
    this.viewer.addHandler("tile-load-failed", () => onFailure("A part of the slide could not be read."));
    this.viewer.addHandler("resize", () => this.limitZoom());
  }

  /** Show all of a slide. */
  async open(image, infoAddress) {
    this.clear();
    this.image = image;
    this.viewer.canvas.setAttribute("aria-label", `Slide ${image.name}: arrows pan, plus and minus zoom`);
    await this.load(infoAddress);
    await this.fitted(); // the viewport may have begun with a former size
    this.limitZoom();
    this.fit(true);
  }

  load(infoAddress) {
    return new Promise((resolve, reject) => {
      const handlers = { open: resolve, "open-failed": () => reject(new Error(`${this.image.name} could not be opened.`)) };
      const settle = (name) => (event) => {
        for (const [other, handler] of Object.entries(listeners)) this.viewer.removeHandler(other, handler);
        handlers[name](event);
      };
      const listeners = Object.fromEntries(Object.keys(handlers).map((name) => [name, settle(name)]));
      for (const [name, handler] of Object.entries(listeners)) this.viewer.addHandler(name, handler);
      this.viewer.open(infoAddress);
    });
  }

  get viewport() {
    return this.viewer.viewport;
  }

  /** Whether there is something to look at. */
  get isOpen() {
    return this.image !== null && this.viewer.isOpen();
  }

  /** The size of the canvas in device pixels. */
  get device() {
    const size = this.viewport.getContainerSize();
    const ratio = OSD.pixelDensityRatio;
    return { width: Math.round(size.x * ratio), height: Math.round(size.y * ratio), ratio };
  }

  /** When the viewport has the size of its box, which it learns a frame later. */
  async fitted() {
    while (this.isOpen) {
      const size = this.viewport.getContainerSize();
      if (size.x === this.element.clientWidth && size.y === this.element.clientHeight) return;
      await new Promise(requestAnimationFrame);
    }
  }

  /** What is seen now, in native pixels; it may reach beyond the slide. */
  view() {
    const bounds = this.viewport.getBounds(true);
    const unit = this.image.width; // OpenSeadragon's unit is the width of the slide
    return { x: bounds.x * unit, y: bounds.y * unit, w: bounds.width * unit, h: bounds.height * unit };
  }

  /** Device pixels per native pixel, now. */
  get scale() {
    return this.device.width / this.view().w;
  }

  /** Overlays are denser than the slide, which OpenSeadragon would take for license to zoom further. */
  limitZoom() {
    if (!this.isOpen) return;
    const fit = this.fittingScale();
    this.viewport.maxZoomLevel = this.toZoom(Math.max(this.maxScale, fit));
    this.viewport.minZoomLevel = this.toZoom(Math.min(fit * 0.8, this.maxScale));
  }

  fittingScale() {
    const { width, height } = this.device;
    return MARGIN * Math.min(width / this.image.width, height / this.image.height);
  }

  toZoom(scale) {
    return (scale * this.image.width) / this.device.width;
  }

  /** Go to a scale, around a center in native pixels (default: the present one). */
  goTo(scale, center, immediately = false) {
    const limited = clamp(this.toZoom(scale), this.viewport.minZoomLevel, this.viewport.maxZoomLevel);
    this.viewport.zoomTo(limited, null, immediately);
    if (center) this.viewport.panTo(new OSD.Point(center.x / this.image.width, center.y / this.image.width), immediately);
    this.viewport.applyConstraints(immediately);
  }

  /** Zoom by a factor. */
  zoomBy(factor) {
    this.goTo(((this.viewport.getZoom() * this.device.width) / this.image.width) * factor);
  }

  /** Pan by shares of the view. */
  panBy(right, down) {
    const bounds = this.viewport.getBounds();
    this.viewport.panBy(new OSD.Point(right * bounds.width, down * bounds.height));
    this.viewport.applyConstraints();
  }

  /** All of the slide. */
  fit(immediately = false) {
    this.goTo(this.fittingScale(), { x: this.image.width / 2, y: this.image.height / 2 }, immediately);
  }

  /** Move at once so that the view begins at this native position. */
  moveTo({ x, y }) {
    const now = this.view();
    const shift = new OSD.Point((x - now.x) / this.image.width, (y - now.y) / this.image.width);
    this.viewport.panBy(shift, true);
  }

  /** Show what another pane shows. */
  follow(other) {
    if (!this.isOpen || !other.isOpen) return;
    this.viewport.zoomTo(other.viewport.getZoom(true), null, true);
    this.viewport.panTo(other.viewport.getCenter(true), true);
  }

  /**
   * Lay a picture over its place; what it replaces goes when it is there.
   *
   * @param kind "bicubic", "sr" or "map"
   * @param about what is remembered of it: {region, request, inferred}
   * @returns {Promise<boolean>} whether it was placed: not if something later came between
   */
  place(kind, blob, about) {
    const number = this.supersede(kind);
    const url = URL.createObjectURL(blob);
    const unit = this.image.width;
    return new Promise((resolve) => {
      const refuse = () => {
        URL.revokeObjectURL(url);
        resolve(false);
      };
      this.viewer.addTiledImage({
        tileSource: { type: "image", url, buildPyramid: false },
        x: about.region.x / unit,
        y: about.region.y / unit,
        width: about.region.w / unit,
        success: ({ item }) => {
          if (this.placings.get(kind) !== number) {
            this.viewer.world.removeItem(item);
            refuse();
            return;
          }
          this.enter(kind, { ...about, item, url, content: item.getContentSize() });
          item.whenFullyLoaded(() => resolve(true));
        },
        error: refuse,
      });
    });
  }

  enter(kind, overlay) {
    overlay.former = this.overlays.get(kind);
    this.overlays.set(kind, overlay);
    let index = 1; // above the slide itself
    for (const each of KINDS) {
      for (const { item } of this.chain(each).reverse()) this.viewer.world.setItemIndex(item, index++);
    }
    overlay.item.whenFullyLoaded(() => {
      if (overlay.former) this.discard(overlay.former);
      overlay.former = undefined;
    });
  }

  /** An overlay and those that it replaces but that are still to be seen, the newest first. */
  chain(kind) {
    const found = [];
    for (let each = this.overlays.get(kind); each; each = each.former) found.push(each);
    return found;
  }

  discard(overlay) {
    for (let each = overlay; each; each = each.former) {
      this.viewer.world.removeItem(each.item);
      URL.revokeObjectURL(each.url);
    }
  }

  supersede(kind) {
    this.placings.set(kind, (this.placings.get(kind) ?? 0) + 1);
    return this.placings.get(kind);
  }

  /** Take a kind of overlay away, also one that is only on its way. */
  remove(kind) {
    this.supersede(kind);
    const overlay = this.overlays.get(kind);
    this.overlays.delete(kind);
    if (overlay) this.discard(overlay);
  }

  clear() {
    for (const kind of KINDS) this.remove(kind);
  }

  /** What lies above the slide, of a kind. */
  shown(kind) {
    return this.overlays.get(kind);
  }

  /** Show of an overlay only what lies right of a share of the view; null shows all of it. */
  clip(kind, share) {
    const view = share === null ? null : this.view();
    for (const { item, region, content } of this.chain(kind)) {
      if (view === null) {
        item.setClip(null);
        continue;
      }
      const left = ((view.x + share * view.w - region.x) / region.w) * content.x;
      const start = clamp(left, 0, content.x);
      item.setClip(new OSD.Rect(start, 0, content.x - start, content.y));
    }
  }
}
