/** The list of slides, with a small picture of each. */

import { thumbnailAddress } from "./api.js";

const SIDE = 136; // CSS pixels
const NARROW = "(max-width: 860px)"; // as in viewer.css: there the list covers the picture

/**
 * @param elements {list, box, toggle}
 * @param onPick called with the image that was picked
 */
export function listSlides({ list, box, toggle }, onPick) {
  const narrow = window.matchMedia(NARROW);
  const buttons = new Map();
  const pictures = new Map();

  function open(isOpen) {
    box.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", String(isOpen));
  }

  toggle.addEventListener("click", () => open(box.hidden));
  narrow.addEventListener("change", () => open(!narrow.matches));

  function entry(image) {
    const button = document.createElement("button");
    button.type = "button";
    const picture = document.createElement("img");
    const ratio = SIDE / Math.max(image.width, image.height);
    picture.width = Math.max(1, Math.round(image.width * ratio));
    picture.height = Math.max(1, Math.round(image.height * ratio));
    picture.alt = "";
    picture.loading = "lazy";
    button.append(picture, line("name", image.name), line("size", sizes(image)));
    button.addEventListener("click", () => {
      if (narrow.matches) open(false);
      onPick(image);
    });
    buttons.set(image.id, button);
    pictures.set(picture, thumbnailAddress(image));
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
    /** Fetch the small pictures: later than the large one, which they would keep waiting. */
    illustrate() {
      for (const [picture, address] of pictures) picture.src = address;
      pictures.clear();
    },
    select(image) {
      for (const [id, button] of buttons) button.setAttribute("aria-current", String(id === image.id));
    },
  };
}

function sizes({ width, height, mpp, objective }) {
  const scan = mpp ? `${Number(mpp[1].toPrecision(3))} µm/px` : "pixel size unknown";
  return [`${width} × ${height}`, scan, objective ? `${objective}×` : ""].filter(Boolean).join(" · ");
}
