"""Gate of networks that learn the difference to bicubic: 0 where the image is flat."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def residual_gate(image: Tensor, level: float = 2 / 255) -> Tensor:
    """Compute ``v / (v + level^2)``, with v the mean squared difference of a pixel to its eight neighbors.

    A network that learns the difference to bicubic has an error in flat areas too: a tint of some 8-bit levels that
    depends on the color. The gate removes it, so that a constant image stays exactly constant at any scale. Tissue,
    whose neighbors differ by ten levels and more, keeps 99 % of the difference. Not in the paper.

    Args:
        level: difference, in the image's units, at which the gate is one half; default: one 8-bit level.
    Shape:
        image: (B, C, h, w); returns (B, 1, h, w), in [0, 1)
    Units: image in [-1, 1].

    Example:
        >>> residual_gate(torch.full((1, 3, 2, 2), 0.3)).tolist()
        [[[[0.0, 0.0], [0.0, 0.0]]]]
    """
    h, w = image.shape[2], image.shape[3]
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    total = torch.zeros_like(image[:, :1])
    for i in range(9):
        near = padded[:, :, i // 3 : i // 3 + h, i % 3 : i % 3 + w]
        total = total + (near - image).square().mean(1, keepdim=True)
    v = total / 8
    return v / (v + level**2)
