"""Overfitting test of a network: some steps on one tile."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def stripes(size: int) -> Tensor:
    """(1, 3, size, size) in [0, 1]: waves of 4.5 to 7 pixels, another direction in every color."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = [
        torch.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / length)
        for angle, length in ((0.3, 5.0), (1.2, 7.0), (2.2, 4.5))
    ]
    return 0.6 + 0.3 * torch.stack(waves).unsqueeze(0)


def assert_overfits(network: nn.Module, scale: int = 2, steps: int = 40) -> None:
    """Overfitting one tile halves the error of random weights and beats bicubic interpolation."""
    truth = stripes(12 * scale)
    image = F.interpolate(truth, (12, 12), mode="bicubic", antialias=True)
    bicubic = (F.interpolate(image, truth.shape[2:], mode="bicubic") - truth).abs().mean().item()
    optimizer, errors = torch.optim.Adam(network.parameters(), 1e-2), []
    for _ in range(steps + 1):
        error = (network(image, scale=scale) - truth).abs().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[-1] < min(errors[0] / 2, bicubic), (errors[0], errors[-1], bicubic)
