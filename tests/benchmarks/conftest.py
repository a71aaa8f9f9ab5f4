"""A small preset for the benchmarks' tests."""

import pytest

from monai_iste.networks import PRESETS, EDSREncoder
from monai_iste.networks.presets import Preset


@pytest.fixture
def toy(monkeypatch):
    """A preset that computes in milliseconds."""
    arguments = {"texture_channels": 6, "hidden_channels": 6}
    monkeypatch.setitem(PRESETS, "toy", Preset("for tests", lambda: EDSREncoder(4, 1), arguments))
    return "toy"
