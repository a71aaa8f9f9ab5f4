"""The progress bar: shown as tqdm's, and silent if it is interrupted while it is made."""

import gc
import io
import sys

import pytest
from tqdm import tqdm

from monai_iste.progress import ProgressBar


@pytest.mark.parametrize("disable", [False, True])
@pytest.mark.parametrize("step", ["get_lock", "_get_free_pos"])  # the first before the constructor, the second midway
def test_interrupted_while_it_is_made(step, disable, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    printed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: printed.append(str(what.exc_value)))
    monkeypatch.setattr(tqdm, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        ProgressBar(total=3, disable=disable, file=io.StringIO())
    gc.collect()  # now it is closed
    assert printed == []


def test_shown_and_closed():
    shown = io.StringIO()
    with ProgressBar(total=3, file=shown, desc="upscaling", mininterval=0) as bar:
        bar.update(3)
    assert "upscaling: 100%" in shown.getvalue()
    assert shown.getvalue().endswith("\n")
    assert bar.disable  # closed
