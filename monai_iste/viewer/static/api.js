/** The server's interface, and its refusals as sentences. */

/** The server refused, or did not answer; the message is for the status line. */
export class ServerError extends Error {}

/** An ended request is no error to anybody. */
export function isAbort(error) {
  return error.name === "AbortError";
}

async function get(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ServerError("The server does not answer. Is it still running?");
  }
  if (!response.ok) throw new ServerError(await sentence(response));
  return response;
}

async function sentence(response) {
  const text = await response.text();
  try {
    const { detail, error } = JSON.parse(text);
    const words = detail ?? error;
    if (typeof words === "string") return words;
  } catch {
    // Not JSON: a proxy's page, say.
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined));

const address = (what, id) => `/api/${what}/${encodeURIComponent(id)}`;

const region = ({ x, y, w, h, width, height }) => ({ x, y, w, h, width, height });

export async function fetchImages() {
  return (await get("/api/images")).json();
}

export async function fetchStatus() {
  return (await get("/api/status")).json();
}

/** The address of a slide's IIIF description. */
export function infoAddress(id) {
  return `/iiif/${encodeURIComponent(id)}/info.json`;
}

const THUMBNAIL = 320; // pixels: one size for all uses, so that it is made once

/** The address of a slide as a small picture. */
export function thumbnailAddress(image) {
  const ratio = Math.min(1, THUMBNAIL / Math.max(image.width, image.height));
  const [width, height] = [image.width, image.height].map((n) => Math.max(1, Math.round(n * ratio)));
  return `/iiif/${encodeURIComponent(image.id)}/full/${width},${height}/0/default.jpg`;
}

/**
 * A view of a slide, drawn at exactly its scale.
 *
 * The server may deliver a little more or less than what was asked for, because the output owns the grid: `region` says
 * where the picture belongs.
 *
 * @returns {Promise<{blob, region, scale, inferred}>}
 */
export async function fetchView(id, request, method, token, signal) {
  const response = await get(`${address("view", id)}?${query({ ...region(request), method, token })}`, signal);
  return {
    ...(await placed(response, request)),
    scale: Number(response.headers.get("X-Scale")) || request.scale,
    inferred: response.headers.get("X-Inferred") === "true",
  };
}

/** Where the super-resolved view, reduced again, departs from the slide: a transparent picture. */
export async function fetchConsistency(id, request, token, signal) {
  return placed(await get(`${address("consistency", id)}?${query({ ...region(request), token })}`, signal), request);
}

async function placed(response, request) {
  const header = response.headers.get("X-Region");
  const [x, y, w, h] = header ? header.split(",").map(Number) : [request.x, request.y, request.w, request.h];
  return { blob: await response.blob(), region: { x, y, w, h } };
}

/** The view as a file with its provenance. */
export async function fetchExport(id, request, method, signal) {
  const response = await get(`${address("export", id)}?${query({ ...region(request), method })}`, signal);
  const name = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
  return { blob: await response.blob(), name: name ?? `${id}.png` };
}

/** Let the server stop working on what nobody waits for. Whether it had begun does not matter. */
export function cancel(token) {
  fetch(`/api/requests/${encodeURIComponent(token)}`, { method: "DELETE", keepalive: true }).catch(() => {});
}
