"""Base class of EDSR and SwinIR: an encoder at low resolution, then pixel shuffles up to the output size."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from monai_iste.errors import ScaleError
from monai_iste.networks.baselines.fixed_scale import FixedScaleNetwork
from monai_iste.networks.layers import FullPrecisionConv2d


def pixel_shuffle_head(channels: int, scale: int) -> nn.Sequential:
    """Create convolutions to ``factor^2`` times the channels, each with a pixel shuffle, and a last one to RGB.

    A scale of 3 is one stage, a power of 2 as many stages of 2 as it takes.

    Args:
        channels: width of the feature map.
        scale: 3, or a power of 2.
    Shape:
        feat: (B, channels, h, w); returns (B, 3, h * scale, w * scale)
    Raises:
        ScaleError: any other scale.

    Example:
        >>> pixel_shuffle_head(8, 4)(torch.zeros(1, 8, 3, 5)).shape
        torch.Size([1, 3, 12, 20])
    """
    power = scale.bit_length() - 1
    if scale != 3 and (scale < 2 or scale != 2**power):
        raise ScaleError("a scale of 2, 3, 4 or another power of 2", repr(scale), "Other scales: ISTE, LIIF or LTE.")
    layers: list[nn.Module] = []
    for factor in [3] if scale == 3 else [2] * power:
        layers += [nn.Conv2d(channels, factor**2 * channels, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers, FullPrecisionConv2d(channels, 3, 3, padding=1))


class PixelShuffleNetwork(FixedScaleNetwork):
    """``head(encoder(image - mean)) + mean``.

    The mean is a buffer, 0 unless published weights bring theirs (:func:`load_published`). Their first convolution pads
    with that color, so folding it into a bias would be wrong along the border.

    Args:
        encoder: image -> feature map, with an attribute ``out_channels``.
        scale: 3, or a power of 2.
        bicubic_residual: add the bicubic interpolation of the image, see :class:`FixedScaleNetwork`.
    Shape:
        image: (B, 3, h, w); returns (B, 3, h * scale, w * scale)
    Units: image and result in [0, 1], the result not clamped; ``mean`` in [-1, 1].
    Raises:
        ShapeError: the image is not (B, 3, h, w).
        ScaleError: the scale is not supported, or a call requests another scale.
    """

    def __init__(self, encoder: nn.Module, scale: int = 2, bicubic_residual: bool = False) -> None:
        super().__init__(scale, bicubic_residual)
        self.encoder = encoder
        self.head = pixel_shuffle_head(cast(int, encoder.out_channels), self.scale)
        self.mean = nn.Buffer(torch.zeros(3, 1, 1))

    def upscale(self, image: Tensor) -> Tensor:
        rgb: Tensor = self.head(self.encoder(image - self.mean))
        return rgb + self.mean
