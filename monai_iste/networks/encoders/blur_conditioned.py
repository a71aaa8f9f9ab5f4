"""EDSR's residual blocks, scaled and shifted by the blur of the image where it is known."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.networks.layers import FullPrecisionConv2d


class _ConditionedBlock(nn.Module):
    """conv - ReLU - factor and shift per channel - conv, added to its input; no normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)) * factor + shift)


class BlurConditionedEncoder(nn.Module):
    """Encoder of the size of :class:`~monai_iste.networks.EDSREncoder` that can be told how blurred its image is.

    A soft image may be a blurred view of sharp tissue or a faithful view of soft tissue. The pixels alone do not say
    which. A network that is told sharpens the first and leaves the second alone.

    With ``sigma`` the blur, ``u = (2 sigma, 1)`` where it is known and ``u = (0, 0)`` where it is not, every block
    computes ``x + conv(relu(conv(x)) * (1 + a(u)) + b(u))``. ``a`` and ``b`` are the outputs of one MLP, a number per
    block and channel. They are 0 in a new network.

    Not in the paper. The modulation is that of Perez et al., "FiLM: Visual Reasoning with a General Conditioning
    Layer", arXiv:1709.07871.

    Args:
        out_channels: width of the feature map, and of every layer.
        num_blocks: number of residual blocks.
        hidden_channels: width of the MLP's hidden layer.
    Shape:
        image: (B, 3, h, w); input_blur: (B,); returns (B, out_channels, h, w)
    Units: intensities in [-1, 1]; input_blur is the sigma of a Gaussian in pixels of the image, NaN where unknown.

    Example:
        >>> encoder, image = BlurConditionedEncoder(8, 2), torch.zeros(2, 3, 5, 7)
        >>> encoder(image, torch.tensor([0.3, float("nan")])).shape, encoder(image).shape
        (torch.Size([2, 8, 5, 7]), torch.Size([2, 8, 5, 7]))
    """

    #: Networks pass the blur to encoders that have this attribute.
    takes_input_blur = True

    def __init__(self, out_channels: int = 64, num_blocks: int = 16, hidden_channels: int = 32) -> None:
        super().__init__()
        self.out_channels, self.num_blocks = out_channels, num_blocks
        self.head = FullPrecisionConv2d(3, out_channels, 3, padding=1)
        self.blocks = nn.ModuleList(_ConditionedBlock(out_channels) for _ in range(num_blocks))
        self.tail = FullPrecisionConv2d(out_channels, out_channels, 3, padding=1)
        last = nn.Linear(hidden_channels, 2 * out_channels * num_blocks)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.modulation = nn.Sequential(nn.Linear(2, hidden_channels), nn.ReLU(), last)

    def forward(self, image: Tensor, input_blur: Optional[Tensor] = None) -> Tensor:
        factors, shifts = self.factors_and_shifts(image, input_blur)
        shallow = self.head(image)
        x = shallow
        for i, block in enumerate(self.blocks):
            x = block(x, factors[:, i], shifts[:, i])
        return shallow + self.tail(x)

    def factors_and_shifts(self, image: Tensor, input_blur: Optional[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute ``1 + a(u)`` and ``b(u)``, (B, num_blocks, out_channels, 1, 1) each."""
        blur = image.new_full((image.shape[0],), float("nan")) if input_blur is None else input_blur.to(image)
        known = blur == blur  # false for NaN
        told = torch.stack([torch.where(known, 2 * blur, torch.zeros_like(blur)), known.to(image.dtype)], dim=-1)
        numbers = self.modulation(told).view(image.shape[0], self.num_blocks, 2, self.out_channels, 1, 1)
        return 1 + numbers[:, :, 0], numbers[:, :, 1]
