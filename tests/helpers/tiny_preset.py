"""A preset named tiny, whose network computes in milliseconds, and random weights for it."""

from pathlib import Path

import safetensors.torch
import torch

from monai_iste.networks import PRESETS, EDSREncoder, create_iste, presets


def add_tiny_preset(monkeypatch) -> None:
    arguments = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}
    monkeypatch.setitem(PRESETS, "tiny", presets.Preset("for tests", lambda: EDSREncoder(8, 1), arguments))


def save_tiny_weights(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    safetensors.torch.save_file(create_iste("tiny").state_dict(), path)
    return path
