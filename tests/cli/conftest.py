"""An empty folder for the command, with one image and the weights of a small preset."""

import pytest
from commands import SRGB, TISSUE
from PIL import Image
from tiny_preset import add_tiny_preset, save_tiny_weights


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    """A preset named tiny, and its weights; the command runs in an empty folder."""
    add_tiny_preset(monkeypatch)
    (tmp_path / "weights").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Image.fromarray(TISSUE[:20, :30]).save("a.png", icc_profile=SRGB)
    return save_tiny_weights(tmp_path / "weights" / "tiny.safetensors")
