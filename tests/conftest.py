"""Tests run on one thread each: several may share a machine, and small tensors gain nothing from more."""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell gives to commands in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so that the programs of the tests hear of Ctrl-C

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the commands that tests start

import warnings

import pytest
import torch
from deprecations import ours

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_deprecated_calls():
    """Fail a test in which this library calls something that Zarr, tifffile, NumPy, MONAI or others deprecate."""
    found = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message, category, filename, lineno, file=None, line=None):
            if not issubclass(category, (DeprecationWarning, FutureWarning)):
                show(message, category, filename, lineno, file, line)
            elif (place := ours()) is not None:
                found.append(f"{place}: {category.__name__}: {message}")

        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("always", category=category)
            warnings.filterwarnings("error", category=category, module=r"monai_iste(\.|$)")
        warnings.showwarning = note
        yield
    assert not found, "deprecated, and used by a line of ours:\n" + "\n".join(found)
