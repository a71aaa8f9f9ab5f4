/** List of slides with thumbnails. */

import { thumbnailAddress } from "./api.js";

const SIDE = 136; // CSS pixels
const NARROW = "(max-width: 980px)"; // as in viewer.css; the list then covers the view

/**
 * Create the list.
 *
 * @param elements {list, box, toggle}
 * @param onPick called with the selected image
 */
export function listSlides({ list, box, toggle }, onPick) {
  const narrow = window.matchMedia(NARROW);
  const buttons = new Map();
  const thumbnails = new Map();

  function open(isOpen) {
    box.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", String(isOpen));
  }

  toggle.addEventListener("click", () => open(box.hidden));
  narrow.addEventListener("change", () => open(!narrow.matches));

  function entry(image) {
    const button = document.createElement("button");
    button.type = "button";
    const thumbnail = document.createElement("img");
    const ratio = SIDE / Math.max(image.width, image.height);
    thumbnail.width = Math.max(1, Math.round(image.width * ratio));
    thumbnail.height = Math.max(1, Math.round(image.height * ratio));
    thumbnail.alt = "";
    thumbnail.loading = "lazy";
    button.append(thumbnail, line("name", image.name), line("size", describeSize(image)));
    button.title = describeFile(image);
    button.addEventListener("click", () => {
      if (narrow.matches) open(false);
      onPick(image);
    });
    buttons.set(image.id, button);
    thumbnails.set(thumbnail, thumbnailAddress(image));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  function line(name, text) {
    const element = document.createElement("span");
    element.className = name;
    element.textContent = text;
    return element;
  }

  return {
    fill(images) {
      list.replaceChildren(...images.map(entry));
      open(!narrow.matches && images.length > 0);
    },
    /** Load the thumbnails. Called after the view is drawn, so as not to delay it. */
    loadThumbnails() {
      for (const [thumbnail, address] of thumbnails) thumbnail.src = address;
      thumbnails.clear();
    },
    select(image) {
      for (const [id, button] of buttons) button.setAttribute("aria-current", String(id === image.id));
    },
  };
}

/** Describe what the file states and is not used, and which of its pages is shown. */
function describeFile({ mpp, mpp_remark, mpp_source, note }) {
  const size = mpp ? `pixel size: ${mpp_source}` : "pixel size unknown";
  return [mpp_remark ? `${size}; ${mpp_remark}` : size, note].filter(Boolean).join("\n");
}

function describeSize({ width, height, mpp, objective }) {
  const scan = mpp ? `${Number(mpp[1].toPrecision(3))} µm/px` : "pixel size unknown";
  return [`${width} × ${height}`, scan, objective ? `${objective}×` : ""].filter(Boolean).join(" · ");
}
