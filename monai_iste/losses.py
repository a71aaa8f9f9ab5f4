"""Losses beside PyTorch's own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ColourL1Loss"]


class ColourL1Loss(nn.Module):
    """``L1 of the colours + weight * L1 of their mean over an image's points``.

    L1 alone teaches the median of what a pixel may be. Where a large scale leaves much open and tissue is dark spots on
    bright ground, the median is brighter than the mean, and whole images are tinted; the second term pulls their mean
    colour back. Not in the paper, which has the first term.

    Args:
        weight: of the second term.
    Shape:
        pred, target: (B, Q, C); returns a number

    Example:
        >>> import torch
        >>> loss = ColourL1Loss(weight=2)
        >>> float(loss(torch.tensor([[[1.0], [-1.0]]]), torch.zeros(1, 2, 1)))  # the mean is right
        1.0
        >>> float(loss(torch.tensor([[[1.0], [1.0]]]), torch.zeros(1, 2, 1)))
        3.0
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(pred, target) + self.weight * F.l1_loss(pred.mean(1), target.mean(1))
