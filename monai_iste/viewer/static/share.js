/** What leaves the page: the link to a view, exported pictures, and files. */

import { fetchExport } from "./api.js";

/** Save a blob as a file. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Save a view as a picture with its provenance; returns the name of the file. */
export async function exportPicture(id, request, method) {
  const { blob, name } = await fetchExport(id, request, method);
  download(blob, name);
  return name;
}

/**
 * Copy the page's address, which contains the view.
 *
 * @returns {Promise<boolean>} false if the browser does not allow it
 */
export async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href); // exists on encrypted and local pages only
    return true;
  } catch {
    return copyBySelection(location.href);
  }
}

function copyBySelection(text) {
  const { activeElement } = document;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    activeElement?.focus();
  }
}
