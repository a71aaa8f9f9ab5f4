"""EDSR without its upsampler, as an encoder.

Architecture of Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", arXiv:1707.02921.
"""

from __future__ import annotations

from torch import Tensor, nn

from monai_iste.networks.layers import FullPrecisionConv2d


class _ResidualBlock(nn.Sequential):
    """conv - ReLU - conv, added to its input; no normalization."""

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
