/** Keyboard shortcuts of the page; the curtain and text fields handle their own keys. */

const FIELDS = "input, textarea, select";

/**
 * Register the shortcuts.
 *
 * @param actions {zoomIn, zoomOut, pan, fit, native, mode, sharpen, map, tool, annotate, undo, link, exportView, help}
 * @param isReady () -> true while shortcuts are active
 * @param onToolKey (event) -> true if a tool has handled the key
 */
export function registerShortcuts(actions, isReady, onToolKey) {
  const keys = {
    "+": actions.zoomIn,
    "=": actions.zoomIn, // the plus key without shift
    "-": actions.zoomOut,
    0: actions.fit,
    1: actions.native,
    c: () => actions.mode("curtain"),
    s: () => actions.mode("side"),
    i: actions.sharpen,
    m: actions.map,
    r: () => actions.tool("ruler"),
    b: () => actions.tool("rectangle"),
    p: () => actions.tool("point"),
    a: actions.annotate,
    u: actions.undo,
    l: actions.link,
    e: actions.exportView,
    "?": actions.help,
    ArrowLeft: () => actions.pan(-1, 0),
    ArrowRight: () => actions.pan(1, 0),
    ArrowUp: () => actions.pan(0, -1),
    ArrowDown: () => actions.pan(0, 1),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !isReady()) return;
    if (event.target instanceof Element && event.target.matches(FIELDS)) return;
    if (onToolKey(event)) {
      event.preventDefault();
      return;
    }
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
