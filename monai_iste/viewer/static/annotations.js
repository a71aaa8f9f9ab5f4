/** Annotations of the open slide. The browser keeps them for each slide; the server never sees them. */

import { MAX_FEATURES, formatFeatures, parseFeatures } from "./geojson.js";

const PREFIX = "monai_iste:annotations:"; // of the keys in the browser's storage; the slide's SHA-256 follows
const MAX_UNDO = 50;

const NOT_KEPT = "This browser keeps no annotations here: save them as a file.";
const NOT_READ = "The annotations that this browser keeps for the slide cannot be read, and are left out.";

/** Return the browser's storage, or null if it is switched off. */
function storageOf(given) {
  try {
    return given();
  } catch {
    return null;
  }
}

/** Put features before others, which they replace by their ids. */
function merged(features, others) {
  const ids = new Set(features.map(({ id }) => id));
  return [...features, ...others.filter(({ id }) => !ids.has(id))];
}

export class Annotations {
  /**
   * @param identify (image) -> promise of the slide's SHA-256
   * @param onChange called after every change
   * @param onProblem called with a sentence
   * @param getStorage () -> the browser's storage; throws if it is switched off
   */
  constructor({ identify, onChange, onProblem, getStorage = () => window.localStorage }) {
    Object.assign(this, { identify, onChange, onProblem });
    this.storage = storageOf(getStorage);
    this.slide = this.begin(null);
  }

  /** Return the state of a slide: its features, those before each change, and where the browser keeps them. */
  begin(image) {
    return { image, features: [], past: [], asked: null, key: null };
  }

  get features() {
    return this.slide.features;
  }

  /** Show the annotations of a slide. They are looked for only if the browser keeps any at all: a digest takes time. */
  async open(image) {
    const slide = this.begin(image);
    this.slide = slide;
    this.onChange();
    if (this.hasAny()) await this.load(slide).catch((error) => this.onProblem(error.message));
  }

  hasAny() {
    try {
      return Object.keys(this.storage ?? {}).some((key) => key.startsWith(PREFIX));
    } catch {
      return false;
    }
  }

  /** Find the slide's key, once, and put what the browser keeps for it before what was made meanwhile. */
  load(slide) {
    slide.asked ??= this.identify(slide.image).then((identity) => {
      slide.key = PREFIX + identity;
      const text = this.storage.getItem(slide.key);
      if (!text) return;
      try {
        const kept = parseFeatures(text);
        slide.features = merged(kept, slide.features);
        slide.past = slide.past.map((features) => merged(kept, features)); // undoing must not delete them
      } catch {
        this.onProblem(NOT_READ);
      }
      if (slide === this.slide) this.onChange();
    });
    return slide.asked;
  }

  /** Keep the features of a slide, which may not be the open one any more. */
  async keep(slide) {
    try {
      if (!this.storage) throw new Error("no storage");
      await this.load(slide);
      if (slide.features.length > 0) this.storage.setItem(slide.key, formatFeatures(slide.features));
      else this.storage.removeItem(slide.key);
    } catch {
      this.onProblem(NOT_KEPT);
    }
  }

  /** Take over a change of the same slide in another window. */
  onStorage({ key, newValue }) {
    if (key === null || key !== this.slide.key) return;
    try {
      this.slide.features = newValue ? parseFeatures(newValue) : [];
      this.onChange();
    } catch {
      // Written by something else: this window keeps its own.
    }
  }

  /** Replace all features, and keep them. */
  async set(features) {
    if (features.length > MAX_FEATURES) {
      this.onProblem(`Expected at most ${MAX_FEATURES} objects, got ${features.length}. Save and delete some first.`);
      return;
    }
    const slide = this.slide;
    slide.past = [...slide.past, slide.features].slice(-MAX_UNDO);
    slide.features = features;
    this.onChange();
    await this.keep(slide);
  }

  add(feature) {
    return this.set([...this.features, feature]);
  }

  /** Add features; those with the id of an existing one replace it. */
  merge(features) {
    const ids = new Set(features.map(({ id }) => id));
    return this.set([...this.features.filter(({ id }) => !ids.has(id)), ...features]);
  }

  replace(feature) {
    return this.set(this.features.map((each) => (each.id === feature.id ? feature : each)));
  }

  remove(id) {
    return this.set(this.features.filter((each) => each.id !== id));
  }

  get canUndo() {
    return this.slide.past.length > 0;
  }

  /** Return to the state before the last change. */
  async undo() {
    const slide = this.slide;
    if (!this.canUndo) return;
    slide.features = slide.past.pop();
    this.onChange();
    await this.keep(slide);
  }
}
