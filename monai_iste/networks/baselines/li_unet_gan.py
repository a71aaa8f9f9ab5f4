"""U-Net of Li et al., which sharpens a bicubically upsampled image, and its discriminator.

Implements the networks of Li, Keikhosravi, Loeffler and Eliceiri, "Single image super-resolution for whole slide image
using convolutional neural networks and self-supervised color normalization", Medical Image Analysis 68 (2021) 101938.
Not specified in the paper; our choice: biases and the place where a skip joins, so that the sizes are the published.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.networks.baselines.fixed_scale import FixedScaleNetwork
from monai_iste.networks.checks import check_image, shape_of
from monai_iste.networks.residual_gate import residual_gate

CHANNELS = (64, 128, 256, 512)


def bicubic_upsampled(image: Tensor, size: Sequence[int]) -> Tensor:
    """Upsample the input of the U-Net to its final size: bicubic (a = -0.75), not antialiased, not clamped.

    Shape:
        image: (B, C, h, w); returns (B, C, H, W) for the size (H, W)
    Units: any floating-point range, which is kept.

    Example:
        >>> bicubic_upsampled(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).tolist()
        [[[[-0.10546875, 0.2265625, 0.7734375, 1.10546875]]]]
    """
    return F.interpolate(image, tuple(size), mode="bicubic", align_corners=False)


class _ConvBlock(nn.Sequential):
    """Convolution, PReLU, 1x1 convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1),
            nn.PReLU(),
            nn.Conv2d(out_channels, out_channels, 1, bias=False),
        )


class _DownBlock(nn.Module):
    """Half the size: a 4x4 block of stride 2 beside a 1x1 skip of stride 2, their sum through a PReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = _ConvBlock(in_channels, out_channels, kernel=4, stride=2)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.block(x) + self.skip(x))


class _UpBlock(nn.Module):
    """Twice the size: bilinear interpolation, then a 3x3 block beside a 1x1 skip."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = _ConvBlock(in_channels, out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.block(x) + self.skip(x)


class LiUNetGAN(FixedScaleNetwork):
    """Generator of Li et al.: ``I = PixelShuffle(conv1x1(U-Net(bicubic(image))))``.

    Four halving blocks, three doubling ones, and a pixel shuffle for the last doubling. On the way up, the map from
    below is concatenated with the halved map of that size. A block of twice the width, applied to the same halved map,
    is added to the result.

    7,388,122 parameters at x2 and at any other scale, which is the published 7.39 M.

    Differs from the paper: doubling keeps pixels where they lie (``align_corners=False``; the authors' code stretches
    every map by an amount that depends on its size). Images of any size are padded to multiples of 16 by replication at
    the bottom and right, and cropped. Not specified in the paper; our choice: inputs in [-1, 1].

    Args:
        scale: the factor, 2 or more.
        channels: widths of the four halving blocks.
        bicubic_residual: learn the difference to the bicubic image, gated to 0 where the image is flat
            (:func:`~monai_iste.networks.residual_gate.residual_gate`, here of the image at its final size). Not in
            the paper.
    Shape:
        image: (B, 3, h, w); returns (B, 3, h * scale, w * scale); with ``scale=1`` in the call, for an image that is at
        its final size already (:func:`bicubic_upsampled`), (B, 3, h, w). With coordinates as
        :class:`FixedScaleNetwork`.
    Units: image and result in [0, 1], the result not clamped.
    Raises:
        ShapeError: the image is not (B, 3, h, w).
        ScaleError: a call asks for a scale that is neither the network's nor 1.
        ConfigError: there are not four widths.

    Example:
        >>> network = LiUNetGAN(scale=3, channels=(4, 8, 16, 32)).eval()
        >>> network(torch.rand(1, 3, 5, 7)).shape, network(torch.rand(1, 3, 15, 21), scale=1).shape
        (torch.Size([1, 3, 15, 21]), torch.Size([1, 3, 15, 21]))
    """

    def __init__(self, scale: int = 2, channels: Sequence[int] = CHANNELS, bicubic_residual: bool = False) -> None:
        super().__init__(scale)  # its residual is measured at low resolution, which not every call here has
        self.learns_difference = bicubic_residual
        self.channels = _four(channels)
        a, b, c, d = self.channels
        self.down = nn.ModuleList([_DownBlock(*pair) for pair in ((3, a), (a, b), (b, c), (c, d))])
        self.up = nn.ModuleList([_UpBlock(*pair) for pair in ((d, c), (2 * c, b), (2 * b, a))])
        self.across = nn.ModuleList([_ConvBlock(*pair) for pair in ((c, 2 * c), (b, 2 * b), (a, 2 * a))])
        self.last = nn.Sequential(nn.Conv2d(2 * a, 12, 1), nn.PixelShuffle(2))

    def options(self) -> dict[str, Any]:
        return {**super().options(), "bicubic_residual": self.learns_difference}

    def unet(self, x: Tensor) -> Tensor:
        """Apply the U-Net, (B, 3, H, W) -> (B, 3, H, W), for any H and W."""
        h, w = x.shape[2], x.shape[3]
        x = F.pad(x, (0, -w % 16, 0, -h % 16), mode="replicate")
        halved = []
        for down in self.down:
            x = down(x)
            halved.append(x)
        for up, across, same in zip(self.up, self.across, halved[-2::-1], strict=True):
            x = torch.cat([up(x), same], dim=1) + across(same)
        return self.last(x)[:, :, :h, :w]

    def sharpen(self, image: Tensor) -> Tensor:
        """Sharpen an image at its final size, (B, 3, H, W) -> (B, 3, H, W), both in [-1, 1]."""
        rgb = self.unet(image)
        return rgb * residual_gate(image) + image if self.learns_difference else rgb

    def upscale(self, image: Tensor) -> Tensor:
        size = (image.shape[2] * self.scale, image.shape[3] * self.scale)
        return self.sharpen(bicubic_upsampled(image, size))

    def forward(
        self,
        image: Tensor,
        coord: Tensor | None = None,
        cell: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        if coord is not None or scale != 1:
            return super().forward(image, coord, cell, scale)
        check_image(image)
        return self.sharpen((image - 0.5) / 0.5) * 0.5 + 0.5


class ConditionalDiscriminator(nn.Module):
    """Discriminator of the U-Net: a PatchGAN conditioned on the bicubic image.

    Four 4x4 convolutions of stride 2 with LeakyReLU 0.2, no normalization, then one 4x4 convolution to a judgment for
    every 16 x 16 pixels: near 1 for real, near 0 for generated, without an activation (least squares).

    2,767,808 parameters: the published 2.77 M.

    Args:
        channels: widths of the four convolutions.
    Shape:
        rgb: (B, 3, H, W), at least 16 x 16; condition: (B, 3, H, W) or the low-resolution image (B, 3, h, w), which is
        brought to that size; returns (B, 1, H // 16, W // 16)
    Units: images in [0, 1]; [-1, 1] inside (not specified in the paper; our choice).
    Raises:
        ShapeError: an image is not (B, 3, H, W), or is smaller than one judgment.
        ConfigError: there are not four widths.

    Example:
        >>> critic = ConditionalDiscriminator(channels=(4, 8, 16, 32))
        >>> critic(torch.rand(2, 3, 64, 96), torch.rand(2, 3, 32, 48)).shape
        torch.Size([2, 1, 4, 6])
    """

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        widths = (6, *_four(channels))
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        # One row and column more at the top and left, so that a 4x4 kernel keeps the number of judgments.
        layers += [nn.ZeroPad2d((2, 1, 2, 1)), nn.Conv2d(widths[-1], 1, 4, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, rgb: Tensor, condition: Tensor) -> Tensor:
        check_image(rgb)
        check_image(condition)
        if min(rgb.shape[2:]) < 16:
            raise ShapeError("images of at least 16 x 16 pixels", shape_of(rgb), "Raise lr_size.")
        if condition.shape[2:] != rgb.shape[2:]:
            condition = bicubic_upsampled(condition, rgb.shape[2:])
        return self.layers((torch.cat([rgb, condition], dim=1) - 0.5) / 0.5)


def _four(channels: Sequence[int]) -> tuple[int, ...]:
    widths = tuple(channels)
    if len(widths) != 4 or min(widths) < 1:
        raise ConfigError("four widths of at least 1", str(widths), f"The paper's are {CHANNELS}.")
    return widths
