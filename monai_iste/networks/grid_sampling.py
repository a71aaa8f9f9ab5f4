"""Sampling of feature maps and images at single queries, and on regular grids axis by axis.

Rows and columns of a grid are independent: a pixel is looked up once per column and low-resolution row, then whole rows
are copied. The weights of the contributing pixels are products of one number per row and one per column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.coordinates import AxisNeighbors, Neighbors, bicubic_axis, grid_points


def query_grid(
    network: nn.Module,
    image: Tensor,
    rows: Tensor,
    columns: Tensor,
    cell: Tensor,
    input_blur: Tensor | None = None,
) -> Tensor:
    """Colors of a network on a regular grid: its ``forward_grid`` where it has one, else a list of coordinates.

    A network that takes no ``input_blur`` is not told.

    Shape:
        image: (B, 3, h, w); rows: (H,) or (B, H) and columns: (W,) or (B, W), coordinates in [-1, 1]; cell: (B, 2);
        input_blur: (B,); returns (B, 3, H, W).

    Example:
        >>> from monai_iste.networks import Bicubic
        >>> query_grid(Bicubic(), torch.ones(1, 3, 4, 4), torch.zeros(2), torch.zeros(5), torch.ones(1, 2)).shape
        torch.Size([1, 3, 2, 5])
    """
    is_script = isinstance(network, torch.jit.ScriptModule)  # has forward(), and nothing of the fast paths
    forward_grid: Callable[..., Tensor] | None = None if is_script else getattr(network, "forward_grid", None)
    told = {"input_blur": input_blur} if input_blur is not None and takes_input_blur(network) else {}
    if forward_grid is not None:
        return forward_grid(image, rows, columns, cell, **told)
    rgb: Tensor = network(image, coord=batch_points(rows, columns, len(image)), cell=cell, **told)
    return rgb.mT.reshape(image.shape[0], 3, rows.shape[-1], columns.shape[-1])


def takes_input_blur(network: nn.Module) -> bool:
    """Return True if a network, or the one that DistributedDataParallel wraps, can be told the blur of its image.

    A TorchScript program cannot: it keeps the blur that its network was told.
    """
    inside = getattr(network, "module", network)
    return bool(getattr(inside, "takes_input_blur", False)) and not isinstance(inside, torch.jit.ScriptModule)


def batch_points(rows: Tensor, columns: Tensor, images: int) -> Tensor:
    """Coordinates of the points of one grid per image, or of one grid for all images, row by row.

    Shape:
        rows: (H,) or (B, H); columns: (W,) or (B, W); returns (B, H * W, 2), order (y, x).

    Example:
        >>> batch_points(torch.tensor([0.0]), torch.tensor([[-0.5, 0.5], [0.1, 0.2]]), 2).shape
        torch.Size([2, 2, 2])
    """
    if rows.ndim == columns.ndim == 1:
        return grid_points(rows, columns).expand(images, -1, -1)
    y, x = rows.expand(images, -1), columns.expand(images, -1)
    points = torch.stack(torch.broadcast_tensors(y.unsqueeze(2), x.unsqueeze(1)), dim=-1)
    return points.flatten(1, 2)


class GridPixel(NamedTuple):
    """One of the low-resolution pixels that contribute to every point of a grid per image.

    Shape:
        pixel: (B * H * W,), into the images' pixels one after the other; row_offset: (B, H, 1, 1);
        column_offset: (B, 1, W, 1); weight: (B, H, W, 1).
    Units: offsets in half low-resolution pixels.
    """

    pixel: Tensor
    row_offset: Tensor
    column_offset: Tensor
    weight: Tensor

    def take(self, feature_map: Tensor) -> Tensor:
        """Feature vectors of the pixel at every point: (B, C, h, w), channels last in memory -> (B, H, W, C)."""
        vectors = feature_map.permute(0, 2, 3, 1).reshape(-1, feature_map.shape[1])
        return vectors.index_select(0, self.pixel).unflatten(0, self.weight.shape[:3])


def grid_pixels(rows: AxisNeighbors, columns: AxisNeighbors, size: tuple[int, int]) -> list[GridPixel]:
    """List the pixels that contribute to the points of a grid per image, in the order of :class:`Neighbors`.

    Shape:
        rows: (B, H, n'); columns: (B, W, n), in an image of ``size``; n' * n in all.
    """
    (h, w), first = size, torch.arange(len(rows.pixel), device=rows.pixel.device).view(-1, 1, 1)
    return [
        GridPixel(
            ((first * h + y.pixel.unsqueeze(2)) * w + x.pixel.unsqueeze(1)).flatten(),
            y.offset[:, :, None, None],
            x.offset[:, None, :, None],
            (y.weight.unsqueeze(2) * x.weight.unsqueeze(1)).unsqueeze(-1),
        )
        for y, x in product(_each(rows), _each(columns))
    ]


def sum_weighted(values: Iterable[Tensor], pixels: list[GridPixel]) -> Tensor:
    """Weighted sum over the contributing pixels of a grid per image, with gradients; values: (B, H, W, C) of each."""
    terms = (value * pixel.weight for value, pixel in zip(values, pixels, strict=True))
    return reduce(torch.add, terms)


def _each(axis: AxisNeighbors) -> list[AxisNeighbors]:
    return [AxisNeighbors(*part) for part in zip(*(field.unbind(-1) for field in axis), strict=True)]


def interpolate_on_grids(image: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> Tensor:
    """Weighted sum over the contributing pixels of every image, one grid each, as two matrix products; with gradients.

    Shape:
        image: (B, C, h, w); rows: (B, H, n'); columns: (B, W, n); returns (B, H, W, C).
    """
    down, right = _weight_matrix(rows, image.shape[2]), _weight_matrix(columns, image.shape[3])
    with torch.autocast(image.device.type, enabled=False):  # interpolation is never rounded to half precision
        lines = down.unsqueeze(1) @ image.to(down.dtype)
        return (lines @ right.mT.unsqueeze(1)).permute(0, 2, 3, 1)


def _weight_matrix(axis: AxisNeighbors, length: int) -> Tensor:
    """Weights (B, H, length) of all pixels along an axis; a pixel that occurs twice at a border has their sum."""
    matrix = axis.weight.new_zeros((*axis.pixel.shape[:-1], length))
    return matrix.scatter_add_(-1, axis.pixel, axis.weight)


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
