/** Thumbnail of the whole slide with a rectangle around the view; a click moves the view. */

import { thumbnailAddress } from "./api.js";
import { clamp } from "./geometry.js";

const SIDE = 160; // CSS pixels

/**
 * Create the overview.
 *
 * @param button element with an image and a rectangle in it
 * @param onPick called with native coordinates {x, y}
 */
export function makeOverview(button, onPick) {
  const thumbnail = button.querySelector("img");
  const rectangle = button.querySelector("span");
  let image = null;
  let hasThumbnail = false;

  button.addEventListener("click", (event) => {
    if (!image || event.detail === 0) return; // ignore the keyboard, which pans by the arrow keys
    const { left, top, width, height } = thumbnail.getBoundingClientRect();
    onPick({
      x: ((event.clientX - left) / width) * image.width,
      y: ((event.clientY - top) / height) * image.height,
    });
  });

  return {
    open(next) {
      image = next;
      const ratio = Math.min(1, SIDE / Math.max(image.width, image.height));
      thumbnail.width = Math.max(1, Math.round(image.width * ratio));
      thumbnail.height = Math.max(1, Math.round(image.height * ratio));
      if (hasThumbnail) thumbnail.src = thumbnailAddress(image);
    },
    /** Load the thumbnail. Called after the view is drawn, so as not to delay it. */
    loadThumbnail() {
      hasThumbnail = true;
      thumbnail.src = thumbnailAddress(image);
    },
    show(view) {
      const fraction = (value, extent) => clamp(value / extent, 0, 1);
      const [left, right] = [view.x, view.x + view.w].map((x) => fraction(x, image.width));
      const [top, bottom] = [view.y, view.y + view.h].map((y) => fraction(y, image.height));
      rectangle.style.left = `${100 * left}%`;
      rectangle.style.top = `${100 * top}%`;
      rectangle.style.width = `${100 * (right - left)}%`;
      rectangle.style.height = `${100 * (bottom - top)}%`;
      button.hidden = left <= 0 && top <= 0 && right >= 1 && bottom >= 1;
    },
  };
}
