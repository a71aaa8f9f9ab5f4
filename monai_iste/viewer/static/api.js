/** Client of the server's HTTP interface. */

/** The server returned an error or did not respond; the message is shown in the status line. */
export class ServerError extends Error {}

/** Return true if the page itself cancelled the request. */
export function isAbort(error) {
  return error.name === "AbortError";
}

async function get(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ServerError("The server does not respond. Is it still running?");
  }
  if (!response.ok) throw new ServerError(await errorMessage(response));
  return response;
}

async function errorMessage(response) {
  const text = await response.text();
  try {
    const { detail, error } = JSON.parse(text);
    const message = detail ?? error;
    if (typeof message === "string") return message;
  } catch {
    // Not JSON, for example the error page of a proxy.
  }
  return `The server returned ${response.status} ${response.statusText}.`;
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined));

const endpoint = (name, id) => `/api/${name}/${encodeURIComponent(id)}`;

const region = ({ x, y, w, h, width, height }) => ({ x, y, w, h, width, height });

export async function fetchImages() {
  return (await get("/api/images")).json();
}

export async function fetchStatus() {
  return (await get("/api/status")).json();
}

/** Return a sentence if a slide is outside what the network's weights learned, else an empty string. */
export async function fetchDeparture(id) {
  return (await (await get(endpoint("departure", id))).json()).departure;
}

/** Return the SHA-256 of a slide, under which its annotations are kept. */
export async function fetchIdentity(id) {
  return (await (await get(endpoint("identity", id))).json()).identity;
}

/** Return the address of a slide's info.json. */
export function infoAddress(id) {
  return `/iiif/${encodeURIComponent(id)}/info.json`;
}

const THUMBNAIL = 320; // pixels; a single size, so that the server renders each thumbnail once

/** Return the address of a slide's thumbnail. */
export function thumbnailAddress(image) {
  const ratio = Math.min(1, THUMBNAIL / Math.max(image.width, image.height));
  const [width, height] = [image.width, image.height].map((n) => Math.max(1, Math.round(n * ratio)));
  return `/iiif/${encodeURIComponent(image.id)}/full/${width},${height}/0/default.jpg`;
}

/**
 * Fetch a view of a slide, rendered at exactly the requested scale.
 *
 * The server rounds the view to the output grid; `region` is the exact rectangle of the image.
 *
 * @returns {Promise<{blob, region, scale, inferred}>}
 */
export async function fetchView(id, request, method, token, signal) {
  const response = await get(`${endpoint("view", id)}?${query({ ...region(request), method, token })}`, signal);
  return {
    ...(await imageWithRegion(response, request)),
    scale: Number(response.headers.get("X-Scale")) || request.scale,
    inferred: response.headers.get("X-Inferred") === "true",
  };
}

/**
 * Fetch the consistency map of a view as an overlay: how much further than bicubic the downsampled result is from the
 * slide. `consistency` is the sentence with both means.
 */
export async function fetchConsistency(id, request, token, signal) {
  const response = await get(`${endpoint("consistency", id)}?${query({ ...region(request), token })}`, signal);
  return { ...(await imageWithRegion(response, request)), consistency: response.headers.get("X-Consistency") ?? "" };
}

async function imageWithRegion(response, request) {
  const header = response.headers.get("X-Region");
  const [x, y, w, h] = header ? header.split(",").map(Number) : [request.x, request.y, request.w, request.h];
  return { blob: await response.blob(), region: { x, y, w, h } };
}

/** Fetch the view as a file with its provenance. */
export async function fetchExport(id, request, method, signal) {
  const response = await get(`${endpoint("export", id)}?${query({ ...region(request), method })}`, signal);
  const name = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
  return { blob: await response.blob(), name: name ?? `${id}.png` };
}

/** Cancel the requests with a token on the server. Errors are ignored. */
export function cancel(token) {
  fetch(`/api/requests/${encodeURIComponent(token)}`, { method: "DELETE", keepalive: true }).catch(() => {});
}
