"""Bicubic interpolation as a network without parameters."""

from __future__ import annotations

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.coordinates import output_size
from monai_iste.errors import ShapeError


class Bicubic(nn.Module):
    """Bicubic interpolation with Pillow's kernel (a = -0.5), the first row of every table.

    Args:
        scale: magnification when the call names none.
    Shape:
        image: (B, C, h, w); returns (B, C, round(h * scale), round(w * scale))
    Units: those of the image; overshoot is not clamped.
    Raises:
        ShapeError: the image has no batch axis; ScaleError: the scale is not a finite number above 0.

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
        return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)
