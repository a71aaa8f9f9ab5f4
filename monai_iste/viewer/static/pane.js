/** Pane: the slide's own pyramid with overlays that the server rendered for the current view. */

import { thumbnailAddress } from "./api.js";
import { FIT, clamp, slideBox } from "./geometry.js";

const OSD = window.OpenSeadragon;

/** Kinds of overlays, from the lowest to the highest. */
const KINDS = ["bicubic", "sr", "map"];

const OPTIONS = {
  drawer: "canvas",
  showNavigationControl: false,
  keyboardNavEnabled: false, // keys.js handles keys for all panes
  preserveImageSizeOnResize: true, // keeps the scale when the pane is resized
  visibilityRatio: 0.25,
  zoomPerScroll: 1.25,
  springStiffness: 8,
  maxImageCacheCount: 300,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  gestureSettingsPen: { clickToZoom: false, dblClickToZoom: true },
};

// OpenSeadragon adds an inline style sheet, which the security policy forbids, unless it finds one already. An element
// of that name without a namespace passes for one and has no effect. viewer.css draws the focus ring.
const marker = document.createElementNS(null, "style");
marker.setAttribute("data-openseadragon-mobile-css", "true");
document.head.append(marker);

export class Pane {
  /**
   * @param element container of the pane
   * @param maxScale largest number of device pixels per native pixel
   * @param onFailure called with a message
   */
  constructor(element, maxScale, onFailure) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.element = element;
    this.maxScale = maxScale;
    this.image = null;
    this.overlays = new Map(); // kind -> {region, request, inferred, isPart, item, url, contentSize, previous}
    this.placings = new Map(); // kind -> number of the latest call of place()
    this.placeholder = document.createElement("img");
    Object.assign(this.placeholder, { className: "placeholder", alt: "", hidden: true });
    element.before(this.placeholder);
    this.viewer = new OSD.Viewer({ ...OPTIONS, element, animationTime: still ? 0 : 0.35 });
    // OpenSeadragon draws tiles a pixel too large, so that no seam shows between them. This would displace overlays,
    // which are single tiles, and is not needed at 1:1, where tiles meet at whole pixels.
    this.viewer.drawer.minimumOverlapRequired = (item) =>
      item === this.viewer.world.getItemAt(0) && Math.abs(this.scale - 1) > 1e-6;
    this.viewer.canvas.setAttribute("role", "img");
    this.viewer.addHandler("tile-load-failed", () => onFailure("A part of the slide could not be read."));
    this.viewer.addHandler("resize", () => this.limitZoom());
    this.viewer.addHandler("viewport-change", () => this.isOpen && this.movePlaceholder(this.box()));
  }

  /** Open a slide and show all of it; until it is drawn its thumbnail is shown, at a place if one is given. */
  async open(image, infoAddress, place) {
    this.clear();
    this.image = image;
    this.showPlaceholder(place);
    this.viewer.canvas.setAttribute("aria-label", `Slide ${image.name}: arrows pan, plus and minus zoom`);
    try {
      await this.load(infoAddress);
    } catch (error) {
      this.hidePlaceholder(image);
      throw error;
    }
    await this.whenSized(); // the viewport may still have its previous size
    this.limitZoom();
    this.fit(true);
    this.viewer.world.getItemAt(0)?.whenFullyLoaded(() => this.hidePlaceholder(image));
  }

  /** Show the slide's thumbnail below the canvas, which is transparent until tiles are drawn. */
  showPlaceholder(place) {
    const { clientWidth: width, clientHeight: height } = this.element;
    this.placeholder.src = thumbnailAddress(this.image);
    this.placeholder.hidden = false;
    this.movePlaceholder(slideBox(this.image, { width, height }, OSD.pixelDensityRatio, place));
  }

  hidePlaceholder(image) {
    if (this.image === image) this.placeholder.hidden = true;
  }

  /** Move the thumbnail to where the slide is, if it is still shown. */
  movePlaceholder(box) {
    if (this.placeholder.hidden) return;
    for (const [name, value] of Object.entries(box)) this.placeholder.style[name] = `${value}px`;
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

  /** True if a slide is open. */
  get isOpen() {
    return this.image !== null && this.viewer.isOpen();
  }

  /** Size of the canvas in device pixels, and device pixels per CSS pixel. */
  get device() {
    const size = this.viewport.getContainerSize();
    const ratio = OSD.pixelDensityRatio;
    return { width: Math.round(size.x * ratio), height: Math.round(size.y * ratio), ratio };
  }

  /** Wait until the viewport has the size of its container, which it learns a frame later. */
  async whenSized() {
    while (this.isOpen) {
      const size = this.viewport.getContainerSize();
      if (size.x === this.element.clientWidth && size.y === this.element.clientHeight) return;
      await new Promise(requestAnimationFrame);
    }
  }

  /** Return the visible rectangle in native pixels; it may reach beyond the slide. */
  view() {
    const bounds = this.viewport.getBounds(true);
    const unit = this.image.width; // OpenSeadragon's unit is the width of the slide
    return { x: bounds.x * unit, y: bounds.y * unit, w: bounds.width * unit, h: bounds.height * unit };
  }

  /** Return the rectangle of the whole slide in CSS pixels. */
  box() {
    const { x, y } = this.toScreen({ x: 0, y: 0 });
    return { left: x, top: y, width: this.image.width * this.cssScale, height: this.image.height * this.cssScale };
  }

  /** CSS pixels per native pixel. */
  get cssScale() {
    return this.scale / this.device.ratio;
  }

  /** Convert a native position to CSS pixels of the pane, and back. */
  toScreen({ x, y }) {
    const view = this.view();
    return { x: (x - view.x) * this.cssScale, y: (y - view.y) * this.cssScale };
  }

  toNative({ x, y }) {
    const view = this.view();
    return { x: view.x + x / this.cssScale, y: view.y + y / this.cssScale };
  }

  /** Current scale in device pixels per native pixel. */
  get scale() {
    return this.device.width / this.view().w;
  }

  /** Set the zoom limits. OpenSeadragon would derive them from the overlays, which have more pixels than the slide. */
  limitZoom() {
    if (!this.isOpen) return;
    const fit = this.fittingScale();
    this.viewport.maxZoomLevel = this.toZoom(Math.max(this.maxScale, fit));
    this.viewport.minZoomLevel = this.toZoom(Math.min(fit * 0.8, this.maxScale));
  }

  fittingScale() {
    const { width, height } = this.device;
    return FIT * Math.min(width / this.image.width, height / this.image.height);
  }

  toZoom(scale) {
    return (scale * this.image.width) / this.device.width;
  }

  /** Go to a scale and a center in native pixels (default: the current center). */
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

  /** Pan by fractions of the view. */
  panBy(right, down, immediately = false) {
    const bounds = this.viewport.getBounds();
    this.viewport.panBy(new OSD.Point(right * bounds.width, down * bounds.height), immediately);
    this.viewport.applyConstraints(immediately);
  }

  /** Show all of the slide. */
  fit(immediately = false) {
    this.goTo(this.fittingScale(), { x: this.image.width / 2, y: this.image.height / 2 }, immediately);
  }

  /** Move the top left corner of the view to a native position, without animation. */
  moveTo({ x, y }) {
    const now = this.view();
    const shift = new OSD.Point((x - now.x) / this.image.width, (y - now.y) / this.image.width);
    this.viewport.panBy(shift, true);
  }

  /** Copy the view of another pane. */
  follow(other) {
    if (!this.isOpen || !other.isOpen) return;
    this.viewport.zoomTo(other.viewport.getZoom(true), null, true);
    this.viewport.panTo(other.viewport.getCenter(true), true);
  }

  /**
   * Place an image over the slide. The overlays that it replaces are removed once the image is drawn. A part of a view
   * replaces none.
   *
   * @param kind "bicubic", "sr" or "map"
   * @param info {region, request, inferred, isPart, ...}, kept with the overlay
   * @returns {Promise<boolean>} false if a later call superseded this one
   */
  place(kind, blob, info) {
    const number = this.supersede(kind);
    const url = URL.createObjectURL(blob);
    const unit = this.image.width;
    return new Promise((resolve) => {
      const abandon = () => {
        URL.revokeObjectURL(url);
        resolve(false);
      };
      this.viewer.addTiledImage({
        tileSource: { type: "image", url, buildPyramid: false },
        x: info.region.x / unit,
        y: info.region.y / unit,
        width: info.region.w / unit,
        success: ({ item }) => {
          if (this.placings.get(kind) !== number) {
            this.viewer.world.removeItem(item);
            abandon();
            return;
          }
          this.addOverlay(kind, { ...info, item, url, contentSize: item.getContentSize() });
          item.whenFullyLoaded(() => resolve(true));
        },
        error: abandon,
      });
    });
  }

  addOverlay(kind, overlay) {
    overlay.previous = this.overlays.get(kind);
    this.overlays.set(kind, overlay);
    let index = 1; // above the slide itself
    for (const each of KINDS) {
      for (const { item } of this.visibleOverlays(each).reverse()) this.viewer.world.setItemIndex(item, index++);
    }
    if (overlay.isPart) return;
    overlay.item.whenFullyLoaded(() => {
      if (overlay.previous) this.removeChain(overlay.previous);
      overlay.previous = undefined;
    });
  }

  /** Return the overlay of a kind and the ones that it replaces but that are still visible, newest first. */
  visibleOverlays(kind) {
    const found = [];
    for (let each = this.overlays.get(kind); each; each = each.previous) found.push(each);
    return found;
  }

  /** Return true if one overlay of a kind, at this scale, shows all of a request. */
  covers(kind, { x, y, w, h }, screenScale) {
    const slack = 0.01 / screenScale;
    return this.visibleOverlays(kind).some(
      ({ region, screenScale: own }) =>
        Math.abs(own / screenScale - 1) < 1e-6 &&
        region.x <= x + slack && region.x + region.w >= x + w - slack &&
        region.y <= y + slack && region.y + region.h >= y + h - slack,
    );
  }

  removeChain(overlay) {
    for (let each = overlay; each; each = each.previous) {
      this.viewer.world.removeItem(each.item);
      URL.revokeObjectURL(each.url);
    }
  }

  /** Invalidate pending calls of place(). */
  supersede(kind) {
    this.placings.set(kind, (this.placings.get(kind) ?? 0) + 1);
    return this.placings.get(kind);
  }

  /** Remove the overlays of a kind, pending ones included. */
  remove(kind) {
    this.supersede(kind);
    const overlay = this.overlays.get(kind);
    this.overlays.delete(kind);
    if (overlay) this.removeChain(overlay);
  }

  clear() {
    for (const kind of KINDS) this.remove(kind);
  }

  /** Return the overlay of a kind, or undefined. */
  shown(kind) {
    return this.overlays.get(kind);
  }

  /** Clip an overlay to the right of a fraction of the view; null shows all of it. */
  clip(kind, fraction) {
    const view = fraction === null ? null : this.view();
    for (const { item, region, contentSize } of this.visibleOverlays(kind)) {
      if (view === null) {
        item.setClip(null);
        continue;
      }
      const left = ((view.x + fraction * view.w - region.x) / region.w) * contentSize.x;
      const start = clamp(left, 0, contentSize.x);
      item.setClip(new OSD.Rect(start, 0, contentSize.x - start, contentSize.y));
    }
  }
}
