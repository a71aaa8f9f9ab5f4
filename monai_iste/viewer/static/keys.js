/** Keyboard shortcuts of the page; the curtain handles its own keys. */

/**
 * Register the shortcuts.
 *
 * @param actions {zoomIn, zoomOut, pan, fit, native, mode, sharpen, map, exportView, help}
 * @param isReady () -> true while shortcuts are active
 */
export function registerShortcuts(actions, isReady) {
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
    e: actions.exportView,
    "?": actions.help,
    ArrowLeft: () => actions.pan(-1, 0),
    ArrowRight: () => actions.pan(1, 0),
    ArrowUp: () => actions.pan(0, -1),
    ArrowDown: () => actions.pan(0, 1),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !isReady()) return;
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
