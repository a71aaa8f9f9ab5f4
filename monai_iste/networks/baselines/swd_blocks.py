"""Blocks of SWD-Net: fusion of its streams, and convolutions shaped like wavelets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelSELayer(nn.Module):
    """Squeeze-and-excitation: multiply every channel by a factor that two layers compute from all channels' means.

    Args:
        channels: width of the feature map, 2 or more; the hidden layer is ``ratio`` times narrower.
        ratio: see there.
        activation: after the hidden layer.
        gate: after the last layer.
    Shape:
        x: (B, channels, h, w); returns (B, channels, h, w)
    """

    def __init__(self, channels: int, ratio: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        hidden = channels // ratio
        self.fc = nn.Sequential(nn.Linear(channels, hidden), activation, nn.Linear(hidden, channels), gate)

    def forward(self, x: Tensor) -> Tensor:
        factor: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return x * factor[..., None, None]


class RefineContextFusion(nn.Module):
    """Fusion of two streams: ``squeeze-excite(backbone) + MLP(sum over pixels of share * bypass)``.

    The ``share`` is a softmax over all pixels of a 1x1 convolution of the backbone. The MLP's last layer is initialized
    with zeros, so that a new network's streams do not mix. The convolution has no bias: a softmax does not see it.

    Args:
        channels: channels of both streams, 2 or more.
        ratio: factor by which the two hidden layers are narrower.
    Shape:
        backbone, bypass: (B, channels, h, w); returns (B, channels, h, w)

    Example:
        >>> import torch
        >>> RefineContextFusion(4)(torch.rand(1, 4, 3, 5), torch.rand(1, 4, 3, 5)).shape
        torch.Size([1, 4, 3, 5])
    """

    def __init__(self, channels: int, ratio: int = 2) -> None:
        super().__init__()
        self.squeeze_excite = ChannelSELayer(channels, ratio, nn.ReLU(inplace=True), nn.Sigmoid())
        self.share = nn.Conv2d(channels, 1, 1, bias=False)
        last = nn.Linear(channels // ratio, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.context = nn.Sequential(nn.Linear(channels, channels // ratio), nn.ReLU(inplace=True), last)

    def forward(self, backbone: Tensor, bypass: Tensor) -> Tensor:
        share = self.share(backbone).flatten(2).softmax(dim=2)
        pooled = (share * bypass.flatten(2)).sum(dim=2)
        return self.squeeze_excite(backbone) + self.context(pooled)[..., None, None]


class AlignedMultiPathConv(nn.Module):
    """Sum of four paths, each shaped like one band of a wavelet transform; PReLU after every convolution.

    Approximation: 3x3; detail along x: 1x3, 1x3; along y: 3x1, 3x1; along both: 3x3, 3x3.

    Shape:
        x: (B, in_channels, h, w); returns (B, out_channels, h, w)

    Example:
        >>> import torch
        >>> AlignedMultiPathConv(4, 6)(torch.rand(1, 4, 3, 5)).shape
        torch.Size([1, 6, 3, 5])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.approximation = conv_prelu(in_channels, out_channels)
        self.along_x, self.along_y, self.diagonal = (
            nn.Sequential(conv_prelu(in_channels, out_channels, kernel), conv_prelu(out_channels, out_channels, kernel))
            for kernel in ((1, 3), (3, 1), (3, 3))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.approximation(x) + self.along_x(x) + self.along_y(x) + self.diagonal(x)


class ResidualBlock(nn.Module):
    """conv - PReLU - conv, added to its input, PReLU; no normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_prelu(channels, channels), nn.Conv2d(channels, channels, 3, padding=1))
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.body(x))


def conv_prelu(in_channels: int, out_channels: int, kernel: tuple[int, int] = (3, 3)) -> nn.Sequential:
    """Create a convolution that keeps the size (odd kernels), and a PReLU with a slope for every channel."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, padding=padding), nn.PReLU(out_channels))


def feature_adaption(channels: int) -> ChannelSELayer:
    """Create a squeeze-and-excitation layer with factors in (-1, 1)."""
    return ChannelSELayer(channels, 2, nn.PReLU(channels // 2), nn.Tanh())
