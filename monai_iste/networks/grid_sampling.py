"""Sampling on regular grids: what :mod:`monai_iste.coordinates` does for single queries, one axis after the other.

Rows and columns of a grid are independent: a pixel is looked up once per column and low-resolution row, then whole rows
are copied, and the weights of the answering pixels are products of one number per row and one per column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_iste.coordinates import AxisNeighbors, Neighbors, bicubic_axis


def as_grid(coord: Tensor) -> Optional[tuple[Tensor, Tensor]]:
    """The rows' and the columns' coordinates, if these queries are a regular grid, row by row, one for all images.

    Shape:
        coord: (B, Q, 2); returns (H,) and (W,) with H * W = Q, or None.

    Example:
        >>> from monai_iste.coordinates import pixel_centers
        >>> [axis.tolist() for axis in as_grid(pixel_centers((1, 2)).unsqueeze(0))]
        [[0.0], [-0.5, 0.5]]
    """
    queries = coord.shape[1]
    if queries == 0:
        return None
    other = (coord[0, :, 0] != coord[0, 0, 0]).nonzero()
    width = int(other[0]) if len(other) else queries
    if width == 0 or queries % width:  # 0: the first is not equal to itself, NaN
        return None
    grid = coord.unflatten(1, (queries // width, width))
    rows, columns = grid[0, :, 0, 0], grid[0, 0, :, 1]
    regular = bool((grid[..., 0] == rows.unsqueeze(1)).all()) and bool((grid[..., 1] == columns).all())
    return (rows, columns) if regular else None


def spread(feature_map: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> tuple[Tensor, AxisNeighbors]:
    """The feature vectors of the pixels that answer each column of a grid, for the pixel rows that its rows need.

    Shape:
        feature_map: (C, h, w), channels last in memory; rows: (R, n); columns: (W, n);
        returns (k, n, W, C), and the rows with their pixels counted from the first of the k.
    """
    c, h, w = feature_map.shape
    first = int(rows.pixel.min())
    count = int(rows.pixel.max()) + 1 - first
    needed = torch.arange(first, first + count, device=rows.pixel.device).view(-1, 1, 1)
    vectors = F.embedding(needed * w + columns.pixel.mT, feature_map.permute(1, 2, 0).reshape(h * w, c))
    return vectors, rows._replace(pixel=rows.pixel - first)


def row_groups(rows: AxisNeighbors) -> Iterator[tuple[slice, slice | list[int]]]:
    """Rows of a grid that the same pixels answer, together: which rows, and where :func:`spread` has their vectors.

    What is computed of such a run can be broadcast over its rows, and is small enough to stay in a cache.

    Shape:
        rows: (R, n'); for a run of r rows, ``vectors[pixels]`` is (n', n, W, C).

    Example:
        >>> from monai_iste.coordinates import nearest_axis
        >>> rows = torch.tensor([-0.75, -0.25, 0.25, 0.75])
        >>> list(row_groups(nearest_axis(rows, 2)))
        [(slice(0, 2, None), slice(0, 1, None)), (slice(2, 4, None), slice(1, 2, None))]
    """
    top = 0
    for pixels, run in groupby(rows.pixel.tolist()):
        bottom = top + len(list(run))
        adjacent = pixels[-1] - pixels[0] + 1 == len(pixels)  # a slice is read as it lies, a list is copied
        yield slice(top, bottom), slice(pixels[0], pixels[-1] + 1) if adjacent else pixels
        top = bottom


def blend(values: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> Tensor:
    """The weighted sum over the contributing pixels, as :func:`ensemble`, with separable weights.

    Shape:
        values: (R, n', n, W, C); returns (R, W, C).
    """
    if values.shape[1] == values.shape[2] == 1:
        return values[:, 0, 0]  # one pixel's weight is 1
    weight = rows.weight.to(values.dtype)[:, :, None, None, None] * columns.weight.to(values.dtype).mT[:, :, None]
    return _weighted(values.flatten(1, 2).unbind(1), weight.flatten(1, 2).unbind(1))


def bicubic_on_grid(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """:func:`~monai_iste.networks.grid_sampling.bicubic_at` on a regular grid.

    Shape:
        image: (C, h, w); rows: (R,) and columns: (W,), coordinates in [-1, 1]; returns (R, W, C).
    """
    return interpolate_on_grid(image, bicubic_axis(rows, image.shape[1]), bicubic_axis(columns, image.shape[2]))


def interpolate_on_grid(image: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> Tensor:
    """The weighted sum of an image's pixels over those that answer, one axis after the other.

    Shape:
        image: (C, h, w); rows: (R, n'); columns: (W, n); returns (R, W, C).
    """
    first = int(rows.pixel.min())
    needed = image[:, first : int(rows.pixel.max()) + 1].contiguous()
    lines = _weighted([needed.index_select(2, p) for p in columns.pixel.unbind(-1)], columns.weight.unbind(-1))
    weights = [weight.unsqueeze(-1) for weight in rows.weight.unbind(-1)]
    return _weighted([lines.index_select(1, p - first) for p in rows.pixel.unbind(-1)], weights).permute(1, 2, 0)


def _weighted(terms: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total.addcmul_(term, weight)
    return total


def gather(feature_map: Tensor, index: Tensor) -> Tensor:
    """Feature vectors of the pixels ``index``.

    Shape:
        feature_map: (B, C, h, w); index: (B, Q, n); returns (B, Q, n, C).
    """
    b, c, h, w = feature_map.shape
    rows = feature_map.permute(0, 2, 3, 1).reshape(b * h * w, c)
    first = torch.arange(b, device=index.device).mul(h * w).view(b, 1, 1)
    return F.embedding(index + first, rows)


def ensemble(values: Tensor, samples: Neighbors) -> Tensor:
    """The weighted sum over the answering pixels.

    Shape:
        values: (B, Q, n, C); returns (B, Q, C).
    """
    return (values * samples.weight.to(values.dtype)).sum(2)


def bicubic_at(image: Tensor, coord: Tensor) -> Tensor:
    """Bicubic interpolation of an image at continuous coordinates, borders replicated (PyTorch's kernel, a = -0.75).

    Shape:
        image: (B, C, h, w); coord: (B, Q, 2), order (y, x); returns (B, Q, C).
    """
    image = image.to(torch.promote_types(image.dtype, torch.float32))  # also keeps half precision off the coordinates
    grid = coord.to(image.dtype).flip(-1).unsqueeze(1)
    values = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return values.squeeze(2).transpose(1, 2)
