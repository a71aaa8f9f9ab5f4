"""A small network, a small slide, and a folder for the command on slides."""

import pytest
import slide_commands
import torch
from forked_commands import ForkServer
from slide_files import write_slide_file
from slide_windows import PIXELS
from tiny_preset import add_tiny_preset, save_tiny_weights

from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.slides.reader import Slide


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with Slide(write_slide_file(tmp_path_factory.mktemp("slide") / "a.tif", PIXELS)) as opened:
        yield opened


@pytest.fixture(scope="module")
def server():
    """A process that forks commands, which starts them without importing anything again."""
    with ForkServer() as running:
        yield running


@pytest.fixture
def command_folder(tmp_path, monkeypatch):
    """A preset named tiny with weights, a slide and the program, in an empty folder."""
    add_tiny_preset(monkeypatch)
    save_tiny_weights(tmp_path / "tiny.safetensors")
    (tmp_path / "program.py").write_text(slide_commands.PROGRAM)
    monkeypatch.chdir(tmp_path)
    write_slide_file(tmp_path / "a.tif", slide_commands.PIXELS, icc=slide_commands.SRGB)
    return tmp_path
