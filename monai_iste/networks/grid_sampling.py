"""Sampling of feature maps and images at single queries, and on regular grids axis by axis.

Rows and columns of a grid are independent: a pixel is looked up once per column and low-resolution row, then whole rows
are copied. The weights of the contributing pixels are products of one number per row and one per column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.coordinates import AxisNeighbors, Neighbors, bicubic_axis, grid_points


def query_grid(network: nn.Module, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
    """Colors of a network on a regular grid: its ``forward_grid`` where it has one, else a list of coordinates.

    Shape:
        image: (B, 3, h, w); rows: (H,) and columns: (W,), coordinates in [-1, 1]; cell: (B, 2); returns (B, 3, H, W).

    Example:
        >>> from monai_iste.networks import Bicubic
        >>> query_grid(Bicubic(), torch.ones(1, 3, 4, 4), torch.zeros(2), torch.zeros(5), torch.ones(1, 2)).shape
        torch.Size([1, 3, 2, 5])
    """
    forward_grid: Callable[..., Tensor] | None = getattr(network, "forward_grid", None)
    if forward_grid is not None:
        return forward_grid(image, rows, columns, cell)
    coord = grid_points(rows, columns).expand(image.shape[0], -1, -1)
    rgb: Tensor = network(image, coord=coord, cell=cell)
    return rgb.mT.reshape(image.shape[0], 3, len(rows), len(columns))


def gather_rows(feature_map: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> tuple[Tensor, AxisNeighbors]:
    """Gather the feature vectors that each column of a grid reads, for the pixel rows that its rows read.

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
    """Group consecutive output rows that share the same source rows.

    Yields the rows of each group, and their source rows in the result of :func:`gather_rows`. What is computed from
    these can be broadcast over the group, and is small enough to stay in a cache.

    Shape:
        rows: (R, n'); for each group, ``vectors[pixels]`` is (n', n, W, C).

    Example:
        >>> from monai_iste.coordinates import nearest_axis
        >>> rows = torch.tensor([-0.75, -0.25, 0.25, 0.75])
        >>> list(row_groups(nearest_axis(rows, 2)))
        [(slice(0, 2, None), slice(0, 1, None)), (slice(2, 4, None), slice(1, 2, None))]
    """
    top = 0
    for pixels, group in groupby(rows.pixel.tolist()):
        bottom = top + len(list(group))
        adjacent = pixels[-1] - pixels[0] + 1 == len(pixels)  # a slice is read as it lies, a list is copied
        yield slice(top, bottom), slice(pixels[0], pixels[-1] + 1) if adjacent else pixels
        top = bottom


def ensemble_grid(values: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> Tensor:
    """Weighted sum over the contributing pixels, as :func:`ensemble`, with separable weights.

    Shape:
        values: (R, n', n, W, C); returns (R, W, C).
    """
    if values.shape[1] == values.shape[2] == 1:
        return values[:, 0, 0]  # one pixel's weight is 1
    weight = rows.weight.to(values.dtype)[:, :, None, None, None] * columns.weight.to(values.dtype).mT[:, :, None]
    return _weighted(values.flatten(1, 2).unbind(1), weight.flatten(1, 2).unbind(1))


def bicubic_on_grid(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bicubic interpolation on a regular grid, as :func:`bicubic_at`.

    Shape:
        image: (C, h, w); rows: (R,) and columns: (W,), coordinates in [-1, 1]; returns (R, W, C).
    """
    return interpolate_on_grid(image, bicubic_axis(rows, image.shape[1]), bicubic_axis(columns, image.shape[2]))


def interpolate_on_grid(image: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> Tensor:
    """Weighted sum over the contributing pixels of an image, one axis after the other.

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
    """Gather the feature vectors of the pixels ``index``.

    Shape:
        feature_map: (B, C, h, w); index: (B, Q, n); returns (B, Q, n, C).
    """
    b, c, h, w = feature_map.shape
    rows = feature_map.permute(0, 2, 3, 1).reshape(b * h * w, c)
    first = torch.arange(b, device=index.device).mul(h * w).view(b, 1, 1)
    return F.embedding(index + first, rows)


def ensemble(values: Tensor, neighbors: Neighbors) -> Tensor:
    """Weighted sum over the contributing pixels.

    Shape:
        values: (B, Q, n, C); returns (B, Q, C).
    """
    return (values * neighbors.weight.to(values.dtype)).sum(2)


def bicubic_at(image: Tensor, coord: Tensor) -> Tensor:
    """Bicubic interpolation of an image at continuous coordinates, borders replicated (PyTorch's kernel, a = -0.75).

    Shape:
        image: (B, C, h, w); coord: (B, Q, 2), order (y, x); returns (B, Q, C).
    """
    image = image.to(torch.promote_types(image.dtype, torch.float32))  # also keeps half precision off the coordinates
    grid = coord.to(image.dtype).flip(-1).unsqueeze(1)
    values = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return values.squeeze(2).transpose(1, 2)
