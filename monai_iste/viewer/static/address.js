/** Encode the view in the page's address, so that it can be shared: #image=a&x=1200.5&y=800&zoom=3.37&mode=curtain */

export const MODES = ["single", "curtain", "side"];

/** Parse an address; missing or malformed values are undefined. */
export function parse(hash) {
  const values = new URLSearchParams(hash.replace(/^#/, ""));
  const number = (key) => {
    const value = Number.parseFloat(values.get(key) ?? "");
    return Number.isFinite(value) ? value : undefined;
  };
  const zoom = number("zoom");
  return {
    image: values.get("image") ?? undefined,
    x: number("x"),
    y: number("y"),
    zoom: zoom > 0 ? zoom : undefined,
    mode: MODES.includes(values.get("mode")) ? values.get("mode") : undefined,
    map: values.get("map") === "1",
  };
}

/**
 * Return the address of a view.
 *
 * @param x, y center of the view in native pixels
 * @param zoom device pixels per native pixel
 */
export function format({ image, x, y, zoom, mode, map }) {
  const values = { image, x: x.toFixed(2), y: y.toFixed(2), zoom: Number(zoom.toPrecision(8)), mode };
  return `#${new URLSearchParams(map ? { ...values, map: 1 } : values)}`;
}
