/** Panel of the annotations: their list, and the buttons that save and load them. */

import { CLASSES, FileError, MAX_BYTES, boundsOf, colorOf, describe, formatFeatures, isOutside, parseFeatures, titleOf } from "./geojson.js";
import { download } from "./share.js";
import { $ } from "./words.js";

/**
 * Create the panel.
 *
 * @param annotations an Annotations
 * @param getImage () -> the open slide
 * @param goTo called with a bounding box {left, top, right, bottom}
 * @param onSelect called when another annotation is selected
 * @param say called with (sentence, isError)
 */
export function makePanel({ annotations, getImage, goTo, onSelect, say }) {
  const [panel, toggle, list, file] = ["annotations", "annotate", "annotation-list", "annotation-file"].map($);
  const rows = new Map(); // id -> row
  let selected = null;

  function open(isOpen) {
    panel.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", String(isOpen));
  }

  function select(id) {
    if (id === selected) return;
    selected = id;
    for (const item of list.children) item.classList.toggle("selected", item.dataset.id === id);
    onSelect();
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  /** Return a row {item, refresh}. It is made once, because a field must not vanish while somebody types. */
  function makeRow(id) {
    const find = () => annotations.features.find((feature) => feature.id === id);
    const rename = () => annotations.replace(describe(find(), { name: name.value.trim(), className: className.value.trim() }));
    const field = (placeholder) => {
      const input = element("input", { type: "text", autocomplete: "off", maxLength: 200, placeholder });
      input.addEventListener("change", () => find() && rename());
      return input;
    };
    const [swatch, title] = [element("span", { className: "swatch" }), element("span", {})];
    const go = element("button", { type: "button", className: "go", title: "Show it" }, swatch, title);
    go.addEventListener("click", () => goTo(boundsOf(find())));
    const remove = element("button", { type: "button", className: "remove", title: "Delete" }, "×");
    remove.addEventListener("click", () => {
      const next = item.nextElementSibling ?? item.previousElementSibling;
      annotations.remove(id);
      (next?.querySelector(".remove") ?? $("tool-rectangle")).focus();
    });
    const [name, className] = [field("Name"), field("Class")];
    className.setAttribute("list", "annotation-classes");
    const item = element("li", {}, go, remove, name, className);
    item.dataset.id = id;
    item.addEventListener("focusin", () => select(id));

    function refresh(feature, index) {
      const words = feature.properties.name ? titleOf(feature) : `${titleOf(feature)} ${index + 1}`;
      title.textContent = words;
      swatch.style.background = colorOf(feature);
      item.classList.toggle("selected", id === selected);
      for (const [part, label] of [[remove, "Delete"], [name, "Name of"], [className, "Class of"]]) {
        part.setAttribute("aria-label", `${label} ${words}`);
      }
      if (document.activeElement !== name) name.value = feature.properties.name ?? "";
      if (document.activeElement !== className) className.value = feature.properties.classification?.name ?? "";
    }

    return { item, refresh };
  }

  function update() {
    const { features, canUndo } = annotations;
    const ids = new Set(features.map(({ id }) => id));
    for (const [id, { item }] of rows) {
      if (ids.has(id)) continue;
      item.remove();
      rows.delete(id);
    }
    features.forEach((feature, index) => {
      if (!rows.has(feature.id)) rows.set(feature.id, makeRow(feature.id));
      const { item, refresh } = rows.get(feature.id);
      refresh(feature, index);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    $("annotation-none").hidden = features.length > 0;
    $("annotations-save").disabled = features.length === 0;
    $("annotations-undo").disabled = !canUndo;
  }

  function save() {
    const name = `${getImage().id}.geojson`;
    download(new Blob([formatFeatures(annotations.features)], { type: "application/geo+json" }), name);
    say(`Saved ${name}.`);
  }

  async function load() {
    const [chosen] = file.files;
    file.value = ""; // so that the same file can be chosen again
    if (!chosen) return;
    try {
      if (chosen.size > MAX_BYTES) {
        throw new FileError(`a file of at most ${MAX_BYTES / 1e6} MB`, `${(chosen.size / 1e6).toFixed(0)} MB`);
      }
      const found = parseFeatures(await chosen.text());
      const outside = found.filter((feature) => isOutside(feature, getImage())).length;
      const before = annotations.features;
      await annotations.merge(found);
      if (annotations.features === before) return; // refused: too many, which has been said
      const loaded = `Loaded ${found.length} from ${chosen.name}.`;
      if (outside) say(`${loaded} ${outside} outside of this slide: is the file of another?`, true);
      else say(loaded);
    } catch (error) {
      say(error.message, true);
    }
  }

  $("annotation-classes").append(...Object.keys(CLASSES).map((value) => element("option", { value })));
  toggle.addEventListener("click", () => open(panel.hidden));
  $("annotations-save").addEventListener("click", save);
  $("annotations-load").addEventListener("click", () => file.click());
  $("annotations-undo").addEventListener("click", () => annotations.undo());
  file.addEventListener("change", load);
  return { open, update, toggle: () => open(panel.hidden), get selected() { return selected; } };
}
