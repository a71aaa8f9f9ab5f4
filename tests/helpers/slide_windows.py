"""Work on the windows of a small slide."""

from slide_files import picture

from monai_iste.slides.compute import compute_windows
from monai_iste.slides.window_store import WindowStore

PIXELS = picture(240, 430)


def nothing(window):
    """No progress is shown."""


def finished(plan, folder, slide, network, windows=None, mask=None):
    store = WindowStore(folder, plan)
    store.begin(resume=True)
    compute_windows(store, plan.windows if windows is None else windows, slide, network, mask, nothing)
    return store
