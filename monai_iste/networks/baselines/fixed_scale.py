"""Base class of networks with one built-in scale: EDSR, SwinIR, SWD-Net and the U-Net of Li et al."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

from monai_iste.errors import ScaleError
from monai_iste.networks.base import UpscalingNetwork
from monai_iste.networks.checks import check_grid, check_image, check_precision, check_queries
from monai_iste.networks.residual_gate import residual_gate


class FixedScaleNetwork(UpscalingNetwork, ABC):
    """Network with one whole scale factor, with the same call as networks of any scale.

    A subclass implements :meth:`upscale`. Coordinates get the color of the output pixel in which they lie, so that the
    inferer treats these networks as any other.

    Args:
        scale: the factor, 2 or more.
        bicubic_residual: add the bicubic interpolation of the image, so that the network learns the difference, as
            :class:`~monai_iste.networks.ISTE` does under the same name.
    Shape:
        image: (B, 3, h, w); coord: (B, Q, 2), order (y, x); cell: (B, 2) or (B, Q, 2);
        returns (B, Q, 3) with coordinates, (B, 3, h * scale, w * scale) without.
    Units: image and result in [0, 1], the result not clamped; coord in [-1, 1] (pixel centers); cell in half
        low-resolution pixels (2 / scale).
    Raises:
        ShapeError: a tensor's shape does not fit.
        ScaleError: the scale is not 2, 3, 4, ..., or a call requests another scale.
    """

    option_names = ("bicubic_residual", "scale")

    def __init__(self, scale: int = 2, bicubic_residual: bool = False) -> None:
        super().__init__()
        if not (isinstance(scale, (int, float)) and math.isfinite(scale) and int(scale) == scale >= 2):
            raise ScaleError("a whole scale of at least 2", repr(scale), "Build one network for each factor.")
        self.scale = int(scale)
        self.bicubic_residual = bicubic_residual

    @abstractmethod
    def upscale(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, h * scale, w * scale), both in [-1, 1]."""

    def forward(
        self,
        image: Tensor,
        coord: Tensor | None = None,
        cell: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        check_image(image)
        self._check_scale(cell, scale)
        result = self.whole(image)
        if coord is None:
            return result
        check_queries(image, coord, coord.new_zeros(coord.shape[0], 2) if cell is None else cell)
        row, col = (_pixel_at(coord[..., k], result.shape[2 + k]) for k in range(2))
        index = (row * result.shape[3] + col).unsqueeze(1).expand(-1, 3, -1)
        return result.flatten(2).gather(2, index).mT

    def forward_grid(self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
        """Select the output pixels in which the points of a regular grid lie.

        Shape:
            image: (B, 3, h, w); rows: (H,) and columns: (W,), coordinates in [-1, 1]; cell: (B, 2);
            returns (B, 3, H, W).
        """
        check_grid(image, rows, columns, cell)
        self._check_scale(cell, None)
        result = self.whole(image)
        return result[:, :, _pixel_at(rows, result.shape[2])][..., _pixel_at(columns, result.shape[3])]

    def whole(self, image: Tensor) -> Tensor:
        """Upscale the whole image, in [0, 1]; includes the bicubic interpolation with ``bicubic_residual``."""
        check_precision(image, next(self.parameters()))
        image = (image - 0.5) / 0.5
        rgb = self.upscale(image)
        if self.bicubic_residual:
            size = (rgb.shape[2], rgb.shape[3])
            gate = F.interpolate(residual_gate(image), size, mode="bilinear", align_corners=False)
            rgb = rgb * gate + F.interpolate(image, size, mode="bicubic", align_corners=False)
        return rgb * 0.5 + 0.5

    def _check_scale(self, cell: Tensor | None, scale: float | None) -> None:
        asked = scale if scale is not None else None if cell is None or not cell.numel() else float(2 / cell.mean())
        if asked is not None and abs(asked - self.scale) > 1e-3 * self.scale:
            raise ScaleError(
                f"scale {self.scale}, which this {type(self).__name__} was built for",
                f"{asked:g}",
                "Build and train one for that scale, or take a network of any scale such as ISTE.",
            )


def _pixel_at(coord: Tensor, length: int) -> Tensor:
    """Index of the pixel in which a coordinate lies, along an axis of ``length`` pixels."""
    return ((coord + 1) / 2 * length).floor().long().clamp(0, length - 1)
