"""Base class of LIIF and LTE: one pass of the encoder, then colors from the four pixels around any coordinate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from monai_iste.coordinates import Neighbors, axis_centers, cell_size, four_corners, output_size, position
from monai_iste.errors import ShapeError
from monai_iste.networks import tuning
from monai_iste.networks.base import UpscalingNetwork
from monai_iste.networks.checks import check_grid, check_precision, check_queries
from monai_iste.networks.encoders import SwinIREncoder
from monai_iste.networks.grid_sampling import batch_points, bicubic_at, ensemble, gather
from monai_iste.networks.residual_gate import residual_gate


class ImplicitNetwork(UpscalingNetwork, ABC):
    """Encoder with an implicit decoder; the same call as :class:`~monai_iste.networks.ISTE`.

    A subclass implements :meth:`maps`, once per image, and :meth:`hidden`, once per corner. The last layer is linear
    and the corners' weights sum to one, so it is applied once per query, to their weighted sum.

    Differs from the authors' code: on the last row and column of pixel centers (scales such as 1 and 3), where their
    areas shrink to rounding errors, the corners keep their bilinear weights.

    Args:
        encoder: image -> feature map, with an attribute ``out_channels``. Default: SwinIR at the paper's size.
        hidden_channels: width of the decoder's last hidden layer.
        scale: magnification of a whole image when the call names none.
        bicubic_residual: add the bicubic interpolation of the image, so that the network learns the difference, as
            :class:`~monai_iste.networks.ISTE` does under the same name; in place of what a subclass adds by itself
            (:meth:`interpolated`).
    Shape:
        image: (B, 3, h, w); coord: (B, Q, 2), order (y, x); cell: (B, 2) or (B, Q, 2);
        returns (B, Q, 3) with coordinates, (B, 3, round(h * scale), round(w * scale)) without.
    Units: image and result in [0, 1], the result not clamped; coord in [-1, 1] (pixel centers); cell in half
        low-resolution pixels (2 / scale).
    Raises:
        ShapeError: a tensor's shape does not fit.
        ScaleError: the scale is not a positive number.
    """

    option_names = ("bicubic_residual", "scale")
    free_options = frozenset({"scale"})

    def __init__(
        self,
        encoder: nn.Module | None = None,
        hidden_channels: int = 256,
        scale: float = 2.0,
        bicubic_residual: bool = False,
    ) -> None:
        super().__init__()
        output_size((1, 1), scale)  # raises ScaleError for invalid scales
        self.scale = float(scale)
        self.bicubic_residual = bicubic_residual
        self.encoder = SwinIREncoder() if encoder is None else encoder
        self.color = nn.Linear(hidden_channels, 3)

    @property
    def channels(self) -> int:
        """Width of the encoder's feature map."""
        return cast(int, self.encoder.out_channels)

    @abstractmethod
    def maps(self, feat: Tensor) -> Tensor:
        """Features that the decoder reads at a pixel: (B, C, h, w) -> (B, D, h, w)."""

    @abstractmethod
    def hidden(self, maps: Tensor, corners: Neighbors, cell: Tensor) -> Tensor:
        """Evaluate the decoder at every corner, up to its last layer.

        Shape:
            maps: (B, D, h, w); cell: (B, Q, 1, 2); returns (B, Q, 4, C).
        """

    def interpolated(self, image: Tensor, corners: Neighbors) -> Tensor | float:
        """Interpolation that is added to the decoder's colors, (B, Q, 3); default: none."""
        return 0.0

    def forward(
        self,
        image: Tensor,
        coord: Tensor | None = None,
        cell: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        size = (image.shape[2], image.shape[3]) if image.ndim == 4 else (1, 1)
        if coord is not None and cell is None and scale is None:
            raise ShapeError("cell or scale beside coord", "neither", "Pass cell=2/scale, see cell_size().")
        output = output_size(size, self.scale if scale is None else scale)
        if cell is None or coord is None:
            cell = cell_size(size, output, image.device).expand(image.shape[0], -1)
        if coord is not None:
            return self.query(image, coord, cell)
        rows, columns = (axis_centers(n, image.device) for n in output)
        return self.forward_grid(image, rows, columns, cell)

    def forward_grid(self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
        """Compute the colors on a regular grid.

        Shape:
            image: (B, 3, h, w); rows: (H,) or (B, H) and columns: (W,) or (B, W), coordinates in [-1, 1];
            cell: (B, 2); returns (B, 3, H, W).
        """
        check_grid(image, rows, columns, cell, per_image=True)
        rgb = self.query(image, batch_points(rows, columns, image.shape[0]), cell)
        return rgb.mT.reshape(image.shape[0], 3, rows.shape[-1], columns.shape[-1])

    def query(self, image: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Compute the colors at coordinates; without gradients in strips, so that memory stays flat."""
        check_queries(image, coord, cell)
        check_precision(image, self.color.weight)
        image = (image - 0.5) / 0.5
        maps = self.maps(self.encoder(image)).contiguous(memory_format=torch.channels_last)
        gate = residual_gate(image) if self.bicubic_residual else None
        strip = max(
            1, coord.shape[1] if torch.is_grad_enabled() else tuning.MAX_DECODER_ELEMENTS // (4 * maps.shape[1])
        )
        cells = cell.unsqueeze(1).expand_as(coord) if cell.ndim == 2 else cell
        parts = zip(coord.split(strip, dim=1), cells.split(strip, dim=1), strict=True)
        return torch.cat([self._colors(image, gate, maps, *part) for part in parts], dim=1)

    def _colors(self, image: Tensor, gate: Tensor | None, maps: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Colors of one strip; image in [-1, 1], gate: (B, 1, h, w) where bicubic is added."""
        corners = four_corners(coord, (image.shape[2], image.shape[3]))
        offset = _offset_from_read_pixel(corners, coord, (image.shape[2], image.shape[3]))
        hidden = self.hidden(maps, corners._replace(offset=offset), cell.unsqueeze(2))
        rgb = self.color(ensemble(hidden, corners))
        if gate is None:
            rgb = rgb + self.interpolated(image, corners)
        else:
            rgb = rgb * ensemble(gather(gate, corners.pixel), corners) + bicubic_at(image, coord)
        return rgb.to(image.dtype) * 0.5 + 0.5


def _offset_from_read_pixel(corners: Neighbors, coord: Tensor, size: tuple[int, int]) -> Tensor:
    """Offsets of the queries from the pixels that are read.

    Beyond the outermost pixel centers LIIF and LTE measure from the border pixel, ISTE from the corner that would be
    there. Their weights were trained for the former.
    """
    row, col = corners.pixel // size[1], corners.pixel % size[1]
    return (2 * (position(coord, size).unsqueeze(2) - torch.stack([row, col], dim=-1))).float()
