"""EDSR without its upsampler, as an encoder.

Architecture of Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", arXiv:1707.02921.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["EDSREncoder", "FullPrecisionConv2d"]


class _ResidualBlock(nn.Sequential):
    """conv - ReLU - conv, added to its input; no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self:
            y = layer(y)
        return x + y


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution that autocast leaves alone: the first and the last, whose rounding would be seen in the result.

    The sums along the skips are then in full precision too; it is the blocks that half precision makes faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # programs are run without autocast
            return self._conv_forward(x, self.weight, self.bias)
        with torch.autocast(x.device.type, enabled=False):
            return self._conv_forward(x.to(self.weight.dtype), self.weight, self.bias)


class EDSREncoder(nn.Module):
    """Head convolution, residual blocks, closing convolution and the long skip. The default is the baseline size.

    Args:
        out_channels: width of the feature map, and of every layer.
        num_blocks: number of residual blocks.
    Shape:
        image: (B, 3, h, w); returns (B, out_channels, h, w)
    Units: intensities in [-1, 1].

    Example:
        >>> import torch
        >>> EDSREncoder(8, 2)(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 8, 5, 7])
    """

    def __init__(self, out_channels: int = 64, num_blocks: int = 16) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.head = FullPrecisionConv2d(3, out_channels, 3, padding=1)
        self.body = nn.Sequential(
            *(_ResidualBlock(out_channels) for _ in range(num_blocks)),
            FullPrecisionConv2d(out_channels, out_channels, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.head(image)
        return shallow + self.body(shallow)
