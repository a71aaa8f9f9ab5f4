"""Pixel-center coordinates, cells, neighbors (nearest pixel, four corners, bicubic) and the key lattice.

Conventions, used everywhere:

* axis order (y, x); an image of ``n`` pixels along an axis spans [-1, 1], pixel ``i`` is centered at
  ``(2 * i + 1) / n - 1`` (``align_corners=False``);
* the *position* of a coordinate in an image is counted in that image's pixels, 0 at the center of the first;
* an *offset* from a low-resolution pixel and the *cell* (the size of one output pixel) are counted in **half
  low-resolution pixels**: an offset of +-1 is the pixel's border, the cell at scale ``m`` is ``2 / m``. Neither
  depends on how large the image is. This is the unit of the public LIIF and LTE checkpoints.

Coordinates are computed in float64 and returned as float32; they are never rounded to half precision.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from monai_iste.errors import ScaleError

LATTICE_PERIOD = 8


class Neighbors(NamedTuple):
    """Low-resolution pixels that contribute to a set of queries.

    Shape:
        pixel: (B, Q, n), row-major into the h * w pixels, clamped to the image; offset: (B, Q, n, 2), not clamped;
        weight: (B, Q, n, 1), summing to 1 over n.
    Units: offsets in half low-resolution pixels.
    """

    pixel: Tensor
    offset: Tensor
    weight: Tensor


class AxisNeighbors(NamedTuple):
    """Low-resolution pixels along one axis that contribute to a row or a column of queries.

    On a regular grid the two axes are independent: terms that depend on one axis alone are computed once per row or
    column instead of once per query.

    Shape:
        pixel, offset, weight: (..., n), for n pixels along the axis; offset (...) not clamped, weight summing to 1.
    Units: offsets in half low-resolution pixels.
    """

    pixel: Tensor
    offset: Tensor
    weight: Tensor

    @torch.jit.unused
    def part(self, queries: slice) -> AxisNeighbors:
        """Select some of the queries."""
        return AxisNeighbors(self.pixel[queries], self.offset[queries], self.weight[queries])

    @torch.jit.unused
    def shifted(self, pixels: int) -> AxisNeighbors:
        """Count the pixels from ``-pixels`` on, as in an image that begins there."""
        return self._replace(pixel=self.pixel + pixels)


def output_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Size (H, W) of an image of ``size`` (h, w) upscaled by ``scale``: ``round(h * scale)``, at least 1.

    Raises:
        ScaleError: the scale is not a finite number above 0.

    Example:
        >>> output_size((300, 260), 3.7)
        (1110, 962)
    """
    number = True
    if not torch.jit.is_scripting():  # TorchScript itself holds callers to the annotation
        number = isinstance(scale, Real) and not isinstance(scale, bool)
    if not (number and math.isfinite(scale) and scale > 0):
        received = str(scale) if torch.jit.is_scripting() else repr(scale)
        raise ScaleError("a finite scale above 0", received, "Give a magnification such as 2 or 3.7.")
    return max(1, whole(size[0] * scale)), max(1, whole(size[1] * scale))


def whole(number: float) -> int:
    """Round to the nearest integer, the even one on ties; TorchScript's ``round`` returns a float."""
    return int(round(number))  # noqa: RUF046


def pixel_centers(size: tuple[int, int], device: Optional[torch.device] = None) -> Tensor:
    """Coordinates of all pixel centers of an image, row by row.

    Shape:
        returns (H * W, 2), order (y, x), float32 in (-1, 1).

    Example:
        >>> pixel_centers((1, 2)).tolist()
        [[0.0, -0.5], [0.0, 0.5]]
    """
    return grid_points(axis_centers(size[0], device), axis_centers(size[1], device))


def grid_points(rows: Tensor, columns: Tensor) -> Tensor:
    """Coordinates of all points of a regular grid, row by row.

    Shape:
        rows: (H,); columns: (W,); returns (H * W, 2), order (y, x).

    Example:
        >>> grid_points(torch.tensor([0.0]), torch.tensor([-0.5, 0.5])).tolist()
        [[0.0, -0.5], [0.0, 0.5]]
    """
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


def axis_centers(length: int, device: Optional[torch.device] = None) -> Tensor:
    """Coordinates of the pixel centers along an axis of ``length`` pixels.

    Shape:
        returns (length,), float32 in (-1, 1).

    Example:
        >>> axis_centers(2).tolist()
        [-0.5, 0.5]
    """
    return ((2 * torch.arange(length, dtype=torch.float64, device=device) + 1) / length - 1).float()


def cell_size(lr_size: tuple[int, int], hr_size: tuple[int, int], device: Optional[torch.device] = None) -> Tensor:
    """Size of one output pixel in half low-resolution pixels: ``2 / m`` per axis, with m the effective scale H / h.

    Shape:
        returns (2,), order (y, x), float32.

    Example:
        >>> cell_size((48, 48), (96, 192)).tolist()
        [1.0, 0.5]
    """
    cell = [2 * lr_size[0] / hr_size[0], 2 * lr_size[1] / hr_size[1]]
    return torch.tensor(cell, dtype=torch.float32, device=device)


def position(coord: Tensor, size: tuple[int, int]) -> Tensor:
    """Position of a coordinate in an image of ``size``, in its pixels; float64, (y, x) last."""
    y, x = coord.unbind(-1)
    return torch.stack([_along(y, size[0]), _along(x, size[1])], dim=-1)


def _along(coord: Tensor, length: int) -> Tensor:
    return ((coord.double() + 1) * length - 1) / 2


def nearest_axis(coord: Tensor, length: int) -> AxisNeighbors:
    """Find the pixel nearest to each coordinate along an axis, ``floor(position + 1/2)``; its weight is 1.

    Shape:
        coord: (...), in [-1, 1]; returns :class:`AxisNeighbors` with n = 1.
    """
    pos = _along(coord, length)
    return _axis(pos, _floor(pos + 0.5, length).unsqueeze(-1), torch.ones_like(pos).unsqueeze(-1), length)


def corner_axis(coord: Tensor, length: int) -> AxisNeighbors:
    """Find the two pixels around each coordinate along an axis, each weighted by the distance to the other.

    Shape:
        coord: (...), in [-1, 1]; returns :class:`AxisNeighbors` with n = 2.
    """
    pos = _along(coord, length)
    base = _floor(pos, length)
    frac = (pos - base).clamp(0, 1)
    return _axis(pos, torch.stack([base, base + 1], -1), torch.stack([1 - frac, frac], -1), length)


def bicubic_axis(coord: Tensor, length: int, a: float = -0.75) -> AxisNeighbors:
    """Find the four pixels around each coordinate along an axis, weighted by Keys' piecewise cubic kernel.

    Shape:
        coord: (...), in [-1, 1]; returns :class:`AxisNeighbors` with n = 4.
    """
    pos = _along(coord, length)
    base = torch.floor(pos)
    taps = base.unsqueeze(-1) + torch.arange(-1, 3, dtype=pos.dtype, device=pos.device)
    t = (pos.unsqueeze(-1) - taps).abs()
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return _axis(pos, taps, torch.where(t <= 1, near, far), length)


def nearest_pixel(coord: Tensor, size: tuple[int, int]) -> Neighbors:
    """Find the low-resolution pixel nearest to each coordinate; its weight is 1.

    Shape:
        coord: (B, Q, 2); returns :class:`Neighbors` with n = 1.
    """
    return _cross(nearest_axis(coord[..., 0], size[0]), nearest_axis(coord[..., 1], size[1]), size[1])


def four_corners(coord: Tensor, size: tuple[int, int]) -> Neighbors:
    """Find the four low-resolution pixels around each coordinate, weighted by the diagonally opposite areas.

    With ``i0 = floor(position)`` and ``f = position - i0`` per axis, corner (0, 0) weighs ``(1 - fy) * (1 - fx)``.
    Eq. (6) prints the corner's own area S_t. The opposite one is meant, as in LIIF: otherwise the nearest pixel would
    count least.

    Shape:
        coord: (B, Q, 2); returns :class:`Neighbors` with n = 4, corners in order (0,0), (0,1), (1,0), (1,1).
    """
    return _cross(corner_axis(coord[..., 0], size[0]), corner_axis(coord[..., 1], size[1]), size[1])


def _floor(pos: Tensor, length: int) -> Tensor:
    """Pixel before a position, along an axis of ``length`` pixels; positions just before a border count as beyond it.

    A coordinate that falls on the border of two pixels (x1.5, x2.5, ...) must go the same way whatever the rounding of
    its float32 value, which moves a position by up to ``length / 2^26`` pixels.
    """
    return torch.floor(pos + max(1e-4, length / 2**25))


def _axis(pos: Tensor, pixel: Tensor, weight: Tensor, length: int) -> AxisNeighbors:
    offset = 2 * (pos.unsqueeze(-1) - pixel)
    return AxisNeighbors(pixel.long().clamp(0, length - 1), offset.float(), weight.float())


def _cross(rows: AxisNeighbors, columns: AxisNeighbors, width: int) -> Neighbors:
    """Combine every pixel along y with every pixel along x, query by query."""
    y, x = rows.offset.unsqueeze(-1), columns.offset.unsqueeze(-2)
    pixel = rows.pixel.unsqueeze(-1) * width + columns.pixel.unsqueeze(-2)
    offset = torch.stack(torch.broadcast_tensors(y, x), dim=-1)
    weight = rows.weight.unsqueeze(-1) * columns.weight.unsqueeze(-2)
    return Neighbors(pixel.flatten(-2), offset.flatten(-3, -2), weight.flatten(-2).unsqueeze(-1))


def key_lattice(size: tuple[int, int], device: Optional[torch.device] = None, period: int = LATTICE_PERIOD) -> Tensor:
    """Sub-pixel offsets at which the canonical texture keys are taken, one for every low-resolution pixel.

    The offsets follow the R2 low-discrepancy sequence over blocks of 8 x 8 pixels (the encoder's window), so that any
    crop whose origin is a multiple of 8 has the same lattice. Not specified in the paper; our choice: these keys at
    inference.

    Shape:
        returns (h * w, 2), order (y, x).
    Units: half low-resolution pixels, in (-1, 1).
    """
    h, w = size
    row = torch.arange(h, device=device).remainder(period).view(h, 1)
    col = torch.arange(w, device=device).remainder(period).view(1, w)
    step = (row * period + col).double().reshape(-1, 1) + 1
    plastic = 1.32471795724474602596  # the real root of x^3 = x + 1, which distributes points evenly in the plane
    rates = torch.tensor([1 / plastic, 1 / plastic**2], dtype=torch.float64, device=device)
    return (2 * (0.5 + step * rates).remainder(1) - 1).float()


def key_step(size: tuple[int, int], side: int = 48) -> int:
    """Step between the lattice pixels that give a texture key, so that at most about side^2 keys remain.

    48^2 is as many as the paper trains with: the cost of the retrieval grows with the area and not with its square.

    Example:
        >>> key_step((48, 48)), key_step((144, 144)), key_step((1, 9))
        (1, 3, 1)
    """
    step = 1
    while side * side * step * step < size[0] * size[1]:
        step += 1
    return step
