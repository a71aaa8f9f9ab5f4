"""LIIF: a local implicit image function, one MLP that computes the color at any point.

Implements Chen et al., "Learning Continuous Image Representation with Local Implicit Image Function",
arXiv:2012.09161.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_iste.coordinates import Neighbors
from monai_iste.networks.baselines.implicit import ImplicitNetwork
from monai_iste.networks.grid_sampling import gather
from monai_iste.networks.layers import Linear, linear


class LIIF(ImplicitNetwork):
    """``I = sum over four corners t of S_t * MLP([3x3 features around t, offset from t, cell])``.

    The MLP has four hidden layers. Its first is split: on the unfolded features it is a 3x3 convolution, applied once
    per low-resolution pixel, and only its coordinate part is applied once per corner. That is the same sum in another
    order: the authors' weights fit after a reshape.

    Differs from the paper: none, see :class:`ImplicitNetwork`.

    Args:
        encoder: image -> feature map, with an attribute ``out_channels``. Default: SwinIR at the paper's size.
        hidden_channels: width of the hidden layers.
        scale: magnification of a whole image when the call names none.
        bicubic_residual: add the bicubic interpolation of the image, see :class:`ImplicitNetwork`; not in the paper.
    Shape:
        as :class:`ImplicitNetwork`.

    Example:
        >>> from monai_iste.networks import EDSREncoder
        >>> LIIF(EDSREncoder(8, 1), hidden_channels=8).eval()(torch.rand(1, 3, 5, 7), scale=3.7).shape
        torch.Size([1, 3, 18, 26])
    """

    def __init__(
        self,
        encoder: nn.Module | None = None,
        hidden_channels: int = 256,
        scale: float = 2.0,
        bicubic_residual: bool = False,
    ) -> None:
        super().__init__(encoder, hidden_channels, scale, bicubic_residual)
        d = hidden_channels
        self.feature_part = nn.Conv2d(self.channels, d, 3, padding=1)
        self.coordinate_part = nn.Linear(4, d, bias=False)
        hidden = [layer for _ in range(3) for layer in (Linear(d, d), nn.ReLU(inplace=True))]
        self.mlp = nn.Sequential(nn.ReLU(inplace=True), *hidden)

    def maps(self, feat: Tensor) -> Tensor:
        return self.feature_part(feat)

    def hidden(self, maps: Tensor, corners: Neighbors, cell: Tensor) -> Tensor:
        where = torch.cat([corners.offset, cell.expand_as(corners.offset)], dim=-1)
        return self.mlp(gather(maps, corners.pixel) + linear(where, self.coordinate_part.weight))
