/** The small picture of the whole slide, with a frame around what is seen; a click goes there. */

import { thumbnailAddress } from "./api.js";
import { clamp } from "./geometry.js";

const SIDE = 160; // CSS pixels

/**
 * @param button the element, with an image and a frame in it
 * @param onPick called with native coordinates {x, y}
 */
export function makeOverview(button, onPick) {
  const picture = button.querySelector("img");
  const frame = button.querySelector("span");
  let image = null;
  let isIllustrated = false;

  button.addEventListener("click", (event) => {
    if (!image || event.detail === 0) return; // not by the keyboard, which has the arrows for it
    const { left, top, width, height } = picture.getBoundingClientRect();
    onPick({
      x: ((event.clientX - left) / width) * image.width,
      y: ((event.clientY - top) / height) * image.height,
    });
  });

  return {
    open(next) {
      image = next;
      const ratio = Math.min(1, SIDE / Math.max(image.width, image.height));
      picture.width = Math.max(1, Math.round(image.width * ratio));
      picture.height = Math.max(1, Math.round(image.height * ratio));
      if (isIllustrated) picture.src = thumbnailAddress(image);
    },
    /** From now on with the picture: later than the large one, which it would keep waiting. */
    illustrate() {
      isIllustrated = true;
      picture.src = thumbnailAddress(image);
    },
    show(view) {
      const share = (value, extent) => clamp(value / extent, 0, 1);
      const [left, right] = [view.x, view.x + view.w].map((x) => share(x, image.width));
      const [top, bottom] = [view.y, view.y + view.h].map((y) => share(y, image.height));
      frame.style.left = `${100 * left}%`;
      frame.style.top = `${100 * top}%`;
      frame.style.width = `${100 * (right - left)}%`;
      frame.style.height = `${100 * (bottom - top)}%`;
      button.hidden = left <= 0 && top <= 0 && right >= 1 && bottom >= 1;
    },
  };
}
