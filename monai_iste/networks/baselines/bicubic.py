"""Bicubic interpolation as a network without parameters."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_iste.coordinates import AxisNeighbors, bicubic_axis, output_size
from monai_iste.errors import ShapeError
from monai_iste.networks.base import UpscalingNetwork
from monai_iste.networks.checks import check_grid
from monai_iste.networks.grid_sampling import interpolate_on_grid


class Bicubic(UpscalingNetwork):
    """Bicubic interpolation with Pillow's kernel (a = -0.5), the first row of every table.

    Args:
        scale: magnification when the call names none.
    Shape:
        image: (B, C, h, w); returns (B, C, round(h * scale), round(w * scale))
    Units: those of the image; overshoot is not clamped.
    Raises:
        ShapeError: the image has no batch axis.
        ScaleError: the scale is not a finite number above 0.

    Example:
        >>> import torch
        >>> Bicubic()(torch.zeros(1, 3, 4, 6), scale=1.5).shape
        torch.Size([1, 3, 6, 9])
    """

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor, scale: Optional[float] = None) -> Tensor:
        if image.ndim != 4:
            raise ShapeError("an image of shape (B, C, h, w)", str(tuple(image.shape)), "Add the batch axis.")
        size = output_size((image.shape[2], image.shape[3]), self.scale if scale is None else scale)
        full = image.to(torch.promote_types(image.dtype, torch.float32))  # there is no kernel for half precision
        return F.interpolate(full, size=size, mode="bicubic", align_corners=False, antialias=True).to(image.dtype)

    @torch.jit.unused
    def forward_grid(self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
        """Interpolate on a regular grid that is at least as fine as the image.

        Shape:
            image: (B, 3, h, w); rows: (H,) and columns: (W,), coordinates in [-1, 1]; cell: (B, 2), not used;
            returns (B, 3, H, W).
        """
        check_grid(image, rows, columns, cell)
        axes = _inside(rows, image.shape[2]), _inside(columns, image.shape[3])
        return torch.stack([interpolate_on_grid(one, *axes).permute(2, 0, 1) for one in image])


def _inside(coord: Tensor, length: int) -> AxisNeighbors:
    """Neighbors under Pillow's kernel: pixels beyond the border have weight 0, the others are normalized."""
    axis = bicubic_axis(coord, length, a=-0.5)
    position = ((coord.double() + 1) * length - 1) / 2
    pixel = (position.unsqueeze(-1) - axis.offset / 2).round()  # not clamped to the image
    weight = axis.weight * ((pixel >= 0) & (pixel < length))
    return axis._replace(weight=weight / weight.sum(-1, keepdim=True))
