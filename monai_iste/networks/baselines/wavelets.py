"""Haar transform of an image and its inverse, each a few additions per pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_iste.errors import ShapeError
from monai_iste.networks.checks import shape_of


def haar(image: Tensor) -> Tensor:
    """Compute one level of the orthonormal Haar transform: sum and differences of every 2x2 block, halved.

    Of a block ``[[a, b], [c, d]]``: ``(a+b+c+d)/2``, ``(a-b+c-d)/2``, ``(a+b-c-d)/2``, ``(a-b-c+d)/2``. In wavelet
    words: approximation, then detail along x, along y, and along both (PyWavelets: cA, cV, cH, cD). Applied again, it
    splits the details as well, a wavelet packet.

    Made of additions, which autocast leaves in full precision.

    Shape:
        image: (B, C, H, W), H and W even; returns (B, 4 * C, H / 2, W / 2), all channels of a band together.
    Units: those of the image; the sum of squares stays the same.
    Raises:
        ShapeError: the image has no batch axis, or an odd side.

    Example:
        >>> haar(torch.tensor([[[[4.0, 2.0], [1.0, 1.0]]]])).flatten().tolist()
        [4.0, 1.0, 2.0, 1.0]
    """
    if image.ndim != 4 or image.shape[2] % 2 or image.shape[3] % 2:
        raise ShapeError("an image of shape (B, C, H, W) with even sides", shape_of(image), "See pad_to_multiple().")
    left, right = image[..., 0::2], image[..., 1::2]
    across = torch.cat([left + right, left - right], dim=1)
    top, bottom = across[..., 0::2, :], across[..., 1::2, :]
    return torch.cat([top + bottom, top - bottom], dim=1) / 2


def inverse_haar(bands: Tensor) -> Tensor:
    """Invert :func:`haar`.

    Shape:
        bands: (B, 4 * C, h, w); returns (B, C, 2 * h, 2 * w)
    Raises:
        ShapeError: the number of channels is not a multiple of four.

    Example:
        >>> inverse_haar(torch.tensor([4.0, 1.0, 2.0, 1.0]).view(1, 4, 1, 1)).tolist()
        [[[[4.0, 2.0], [1.0, 1.0]]]]
    """
    if bands.ndim != 4 or bands.shape[1] % 4:
        raise ShapeError("four bands, (B, 4 * C, h, w)", shape_of(bands), "Pass the result of haar().")
    mean, slope = bands.chunk(2, dim=1)
    across = torch.stack([mean + slope, mean - slope], dim=3).flatten(2, 3)
    mean, slope = across.chunk(2, dim=1)
    return torch.stack([mean + slope, mean - slope], dim=4).flatten(3, 4) / 2


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples; no pixel moves.

    Shape:
        image: (B, C, H, W); returns (B, C, H', W'), the smallest multiples that are not below H and W.

    Example:
        >>> pad_to_multiple(torch.zeros(1, 3, 4, 5), 4).shape
        torch.Size([1, 3, 4, 8])
    """
    return F.pad(image, (0, -image.shape[3] % multiple, 0, -image.shape[2] % multiple), mode="replicate")
