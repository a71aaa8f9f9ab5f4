"""LTE: a local texture estimator, amplitudes and frequencies of every pixel's surroundings.

Implements Lee and Jin, "Local Texture Estimator for Implicit Representation Function", arXiv:2111.08918.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from monai_iste.coordinates import Neighbors
from monai_iste.errors import ConfigError
from monai_iste.networks.baselines.implicit import ImplicitNetwork
from monai_iste.networks.grid_sampling import ensemble, gather
from monai_iste.networks.layers import Linear, linear


class LTE(ImplicitNetwork):
    """``I = bilinear + sum over four corners t of S_t * MLP(A * [cos, sin](pi (<f, offset from t> + phase)))``.

    Amplitudes A and frequencies f come from a 3x3 convolution of the feature map each, the phase from the cell. The MLP
    has three hidden layers.

    Differs from the paper: none, see :class:`ImplicitNetwork`.

    Args:
        encoder: image -> feature map, with an attribute ``out_channels``. Default: SwinIR at the paper's size.
        hidden_channels: number of amplitudes and of frequencies (half of them along each axis), even; width of the
            hidden layers.
        scale: magnification of a whole image when the call names none.
        bicubic_residual: add the bicubic interpolation of the image in place of the bilinear one, see
            :class:`ImplicitNetwork`; not in the paper.
    Shape:
        as :class:`ImplicitNetwork`.
    Raises:
        ConfigError: ``hidden_channels`` is odd.

    Example:
        >>> from monai_iste.networks import EDSREncoder
        >>> LTE(EDSREncoder(8, 1), hidden_channels=8).eval()(torch.rand(1, 3, 5, 7), scale=3.7).shape
        torch.Size([1, 3, 18, 26])
    """

    def __init__(
        self,
        encoder: nn.Module | None = None,
        hidden_channels: int = 256,
        scale: float = 2.0,
        bicubic_residual: bool = False,
    ) -> None:
        d = hidden_channels
        if d < 2 or d % 2:
            raise ConfigError("an even number of hidden channels", str(d), "Choose another.")
        super().__init__(encoder, d, scale, bicubic_residual)
        self.amplitude = nn.Conv2d(self.channels, d, 3, padding=1)
        self.frequency = nn.Conv2d(self.channels, d, 3, padding=1)
        self.phase = nn.Linear(2, d // 2, bias=False)
        self.mlp = nn.Sequential(*[layer for _ in range(3) for layer in (Linear(d, d), nn.ReLU(inplace=True))])

    def maps(self, feat: Tensor) -> Tensor:
        return torch.cat([self.amplitude(feat), self.frequency(feat)], dim=1)

    def hidden(self, maps: Tensor, corners: Neighbors, cell: Tensor) -> Tensor:
        amplitude, frequency = gather(maps, corners.pixel).chunk(2, dim=-1)
        along_y, along_x = frequency[..., ::2], frequency[..., 1::2]  # in pairs (y, x), as the authors' weights have it
        wave = along_y * corners.offset[..., :1] + along_x * corners.offset[..., 1:] + linear(cell, self.phase.weight)
        wave = math.pi * wave
        return self.mlp(amplitude * torch.cat([wave.cos(), wave.sin()], dim=-1))

    def interpolated(self, image: Tensor, corners: Neighbors) -> Tensor:
        return ensemble(gather(image, corners.pixel), corners)  # bilinear: the corners' areas are its weights
