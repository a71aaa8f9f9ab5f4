"""A preset named told, whose small network can be told the blur of its image, and random weights for it."""

from pathlib import Path

import safetensors.torch
from reference import randomise

from monai_iste.networks import ISTE, PRESETS, BlurConditionedEncoder, presets

_ARGUMENTS = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}


def add_told_preset(monkeypatch) -> None:
    preset = presets.Preset("for tests", lambda: BlurConditionedEncoder(8, 2, 8), _ARGUMENTS)
    monkeypatch.setitem(PRESETS, "told", preset)


def told_network(seed: int = 0) -> ISTE:
    """A network with random weights, so that every blur gives other colors."""
    return randomise(ISTE(BlurConditionedEncoder(8, 2, 8), **_ARGUMENTS), seed).eval()


def save_told_weights(path: Path, seed: int = 0) -> Path:
    safetensors.torch.save_file(told_network(seed).state_dict(), path)
    return path
