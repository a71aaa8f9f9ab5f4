"""Fast paths of :class:`~monai_iste.networks.ISTE` for regular grids.

:func:`decode_grid` serves whole images and the inferer's windows, without gradients. :func:`grid_colors` serves
training, with gradients. The equations are the same.

In :func:`decode_grid` every factor is computed once per element on which it depends: low-resolution pixel, row or
column of the grid. Work goes from top to bottom in blocks of low-resolution rows, and within a block in strips of
output rows that fit into a cache, so that nothing wide is ever held for the whole image. Blocks may be computed by
several threads (:func:`~monai_iste.networks.parallel.share`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple, Optional, Protocol

import torch
from torch import Tensor

from monai_iste.coordinates import AxisNeighbors, axis_centers, bicubic_axis, corner_axis, nearest_axis
from monai_iste.networks import tuning
from monai_iste.networks.grid_sampling import bicubic_on_grid, grid_pixels, interpolate_on_grid, interpolate_on_grids
from monai_iste.networks.parallel import share
from monai_iste.networks.residual_gate import residual_gate

#: Low-resolution rows beyond a block that its rows see: one through the LFI, one through a 3x3 projection.
_MARGIN = 2


class Encoding(NamedTuple):
    """Features of one image, from which colors are decoded; passed along, never kept on the network.

    Shape:
        image: (B, 3, h, w) in [-1, 1]; amp_freq: (B, 3 T, h, w); features: (B, D, h, w), the first layer of the LPD on
        F_STF; gate: (B, 1, h, w), see :func:`~monai_iste.networks.residual_gate.residual_gate`, where bicubic is added.
    """

    image: Tensor
    amp_freq: Tensor
    features: Tensor
    gate: Optional[Tensor]


class Boxes(Protocol):
    """Parts of :class:`~monai_iste.networks.ISTE` that the fast path evaluates."""

    local_feature_interactor: Any
    texture_learner: Any
    self_texture_fusion: Any
    local_pixel_decoder: Any
    local_texture_decoder: Any
    texture_axis: Any  # nearest_axis or corner_axis
    inference_keys: str
    key_side: int
    bicubic_residual: bool

    def encode_image(self, image: Tensor, input_blur: Optional[Tensor] = None) -> Tensor: ...
    def output_of(self, cell: Tensor, size: tuple[int, int]) -> tuple[int, int]: ...


def decode_grid(
    net: Boxes, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor, input_blur: Optional[Tensor] = None
) -> Tensor:
    """Compute the colors of a regular grid, without gradients.

    Shape:
        image: (B, 3, h, w); rows: (H,) and columns: (W,), coordinates; cell: (B, 2); input_blur: (B,); returns
        (B, 3, H, W), channels last in memory
    Units: image in [-1, 1], as the network works on it; the result around [0, 1], not clamped.
    """
    feat = net.encode_image(image, input_blur)  # F_LR
    keys = _keys(net, feat, cell)
    gate = residual_gate(image) if net.bicubic_residual else None
    h, w = feat.shape[2:]
    corner_rows, corner_columns = corner_axis(rows, h), corner_axis(columns, w)
    texture_rows, texture_columns = net.texture_axis(rows, h), net.texture_axis(columns, w)
    result = image.new_empty((image.shape[0], len(rows), len(columns), 3))

    def decode(limits: tuple[int, int]) -> None:
        top, bottom = limits
        needed = corner_rows.pixel[top:bottom]
        first, last = int(needed.min()), int(needed.max())
        features, amp_freq = _fuse(net, feat, keys, first, last + 1)  # stage 1, feature domain: F_STF
        for b, y, x in _strips(len(image), top, bottom, len(columns), features.shape[1]):
            corners = corner_rows.part(y).shifted(-first), corner_columns.part(x)
            rgb = net.local_pixel_decoder.on_grid(features[b], *corners, cell[b])  # I_LPD
            if net.local_texture_decoder is not None:  # stage 2, spatial domain: + I_LTD
                neighbors = texture_rows.part(y).shifted(-first), texture_columns.part(x)
                texture = net.texture_learner.on_grid(amp_freq[b], *neighbors, cell[b])
                rgb = rgb + net.local_texture_decoder.on_grid(texture, *neighbors)
            result[b, y, x] = rgb
        block = slice(top, bottom)
        if gate is not None:
            for b, rgb in enumerate(result[:, block]):
                rgb.mul_(interpolate_on_grid(gate[b], corner_rows.part(block), corner_columns))
                rgb.add_(bicubic_on_grid(image[b], rows[block], columns))
        result[:, block].mul_(0.5).add_(0.5)

    share(decode, _blocks(corner_rows, w))
    return result.permute(0, 3, 1, 2)


def grid_colors(net: Boxes, encoding: Encoding, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
    """Compute the colors of one grid per image from their encoding, with gradients.

    Terms that depend on a row or a column alone are computed once per row or column, instead of once per query as in
    :meth:`ISTE.colors <monai_iste.networks.ISTE.colors>`.

    Shape:
        rows: (H,) or (B, H); columns: (W,) or (B, W), coordinates; cell: (B, 2); returns (B, 3, H, W), channels last in
        memory
    Units: the result around [0, 1], not clamped.
    """
    image, amp_freq, features, gate = encoding
    (b, _, h, w), size = image.shape, (image.shape[2], image.shape[3])
    rows, columns = rows.expand(b, -1), columns.expand(b, -1)
    corner_rows, corner_columns = corner_axis(rows, h), corner_axis(columns, w)
    corners = grid_pixels(corner_rows, corner_columns, size)
    rgb = net.local_pixel_decoder.on_grids(features, corners, cell)  # I_LPD
    if net.local_texture_decoder is not None:  # stage 2, spatial domain: + I_LTD
        nearest = net.texture_axis is nearest_axis
        pixels = grid_pixels(nearest_axis(rows, h), nearest_axis(columns, w), size) if nearest else corners
        textures = net.texture_learner.on_grids(amp_freq, pixels, cell)  # F_TL
        rgb = rgb + net.local_texture_decoder.on_grids(textures, pixels)
    if gate is not None:
        bicubic = interpolate_on_grids(image, bicubic_axis(rows, h), bicubic_axis(columns, w))
        rgb = rgb * interpolate_on_grids(gate, corner_rows, corner_columns) + bicubic
    colors: Tensor = rgb.to(image.dtype) * 0.5 + 0.5
    return colors.permute(0, 3, 1, 2)


def _keys(net: Boxes, feat: Tensor, cell: Tensor) -> Tensor:
    """Textures that stage 1 retrieves from; none without it."""
    if net.self_texture_fusion is None:
        return feat.new_empty((0,))
    if net.inference_keys == "lattice":
        keys: Tensor = net.texture_learner.keys_from_features(feat, cell, net.key_side)
        return keys
    (h, w), amp_freq = feat.shape[2:], net.texture_learner.amp_freq(feat)
    output = net.output_of(cell, (h, w))
    rows, columns = (nearest_axis(axis_centers(count, feat.device), n) for count, n in zip(output, (h, w), strict=True))
    parts = []
    for b, y, x in _strips(len(feat), 0, output[0], output[1], amp_freq.shape[1], columns_at_once=output[1]):
        texture = net.texture_learner.on_grid(amp_freq[b], rows.part(y), columns.part(x), cell[b])
        parts.append(texture.flatten(0, 3))
    return torch.cat(parts).unflatten(0, (len(feat), -1))


def _fuse(net: Boxes, feat: Tensor, keys: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Compute the decoders' inputs for the low-resolution rows ``first:last``: features of F_STF, and A and f."""
    top = max(0, first - _MARGIN)
    part = feat[:, :, top : last + _MARGIN]
    kept = slice(first - top, last - top)
    interactor = net.local_feature_interactor
    feat_lfi = interactor.attend(part)  # F_LFI
    query = interactor.projection(feat_lfi)[:, :, kept]  # F_LFIC
    if net.self_texture_fusion is not None:  # stage 1, feature domain: F_STF
        query = net.self_texture_fusion(query, keys, feat_lfi[:, :, kept], interactor.projection_matrix())
    amp_freq = net.texture_learner.amp_freq(part)[:, :, kept]  # A and f of Eq. (3)
    return net.local_pixel_decoder.features(query), amp_freq


def _blocks(rows: AxisNeighbors, width: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of output rows whose low-resolution rows hold about ``MAX_FUSION_PIXELS`` pixels."""
    low, high = rows.pixel.aminmax()
    count = max(1, len(rows.pixel) * tuning.MAX_FUSION_PIXELS // (width * int(high - low + 1)))
    for top in range(0, len(rows.pixel), count):
        yield top, min(top + count, len(rows.pixel))


def _strips(
    images: int, top: int, bottom: int, columns: int, channels: int, columns_at_once: int | None = None
) -> Iterator[tuple[int, slice, slice]]:
    """Yield strips of a block whose hidden layers at four corners hold about ``MAX_DECODER_ELEMENTS`` numbers."""
    width = columns_at_once or min(columns, tuning.MAX_STRIP_COLUMNS)
    height = max(1, tuning.MAX_DECODER_ELEMENTS // (4 * width * channels))
    for b, y, x in product(range(images), range(top, bottom, height), range(0, columns, width)):
        yield b, slice(y, min(y + height, bottom)), slice(x, min(x + width, columns))
