"""Figure 6: one field of view at non-integer scales, each as large as it would be printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from experiments.figures.drawing import Extent, add_scale_bar, covering_region, draw_pixels
from experiments.figures.inputs import BICUBIC, ImageSource, as_pixels, choose_view, format_scale, make_pair
from experiments.figures.style import GAP, LINE, PAGE, FigureGrid, style
from monai_iste.errors import ConfigError, ScaleError
from monai_iste.functional import upscale_bands
from monai_iste.inferers import Region
from monai_iste.inferers.output_size import OutputSize
from monai_iste.inferers.tiling import inside
from monai_iste.networks import Bicubic
from monai_iste.networks.baselines.fixed_scale import FixedScaleNetwork
from monai_iste.transforms import LoadRGB
from monai_iste.transforms.io import plain_tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Scales of the paper's Fig. 6.
SCALES = (1.3, 2.5, 3.7, 4.9, 6.1, 7.3)

_SIDE = 40  # side of the field of view, in low-resolution pixels


def draw_zoom_strip(
    image: ImageSource,
    network: nn.Module,
    scales: Sequence[float] = SCALES,
    crop: Region | None = None,
    mpp: float | None = None,
    reduce: float = 1.0,
    name: str = "ISTE",
    width: float = PAGE,
) -> Figure:
    """Draw one field of view of a low-resolution tile at several scales: bicubic above, the network below.

    All panels show the same field without interpolation. They grow with the scale, so that a pixel of every result is
    printed equally large. A scale bar of one physical length is in each panel of the network, its length in the last.

    Args:
        image: low-resolution tile, a file or (3, h, w) uint8.
        network: network of any scale, in evaluation mode.
        scales: scale factors, one column each.
        crop: field of view, in pixels of ``image``; default: the square of 40 low-resolution pixels with most detail.
        mpp: micrometers per pixel of ``image``, for the scale bar and the pixel size of every scale; None for a bar in
            pixels of ``image``.
        reduce: factor to reduce the image by first, under the protocol ``iste-rgb``, as in the paper's experiments; 1
            for no reduction.
        name: name of the network, printed beside its row.
        width: width of the figure in inches.
    Raises:
        ScaleError: a scale is below 1, or ``mpp`` is not above 0.
        ShapeError: the crop is outside the image.
        ConfigError: the network has one built-in scale, or matplotlib is missing.
    """
    if isinstance(network, (FixedScaleNetwork, Bicubic)):
        raise ConfigError("a network of any scale", type(network).__name__, "Choose ISTE, LIIF or LTE.")
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise ScaleError("micrometers per pixel above 0", repr(mpp), "Try 0.25, as at 40x.")
    if reduce == 1:
        low = plain_tensor(LoadRGB()(image))
        field = int(low.shape[1]), int(low.shape[2])
    else:
        pair = make_pair(image, reduce)
        low, field = pair.low.mul(255).round().byte(), pair.size
    view = _field_of_view(low, field, crop)
    with style():
        grid, rows = _growing_rows(scales, view.height / view.width, width, mpp is not None)
        for upper, lower, scale in zip(*rows, scales, strict=True):
            part = _part(low, scale, field, view)
            draw_pixels(upper, _bicubic(low, part), part.extent, view)
            draw_pixels(lower, _upscale(low, network, part), part.extent, view)
            upper.set_title(format_scale(scale))
            if mpp is not None:
                lower.set_xlabel(f"{mpp * field[1] / part.output[1]:.3f} µm/px")
        for row, label in zip(rows, (BICUBIC, name), strict=True):
            row[0].set_ylabel(label)
        largest = max(range(len(scales)), key=lambda column: scales[column])
        for column, axes in enumerate(rows[1]):
            add_scale_bar(axes, view, mpp, labeled=column == largest)
    return grid.finish()


def _growing_rows(
    scales: Sequence[float], aspect: float, width: float, labeled: bool
) -> tuple[FigureGrid, list[list[Axes]]]:
    """Create two rows of panels whose widths are proportional to the scales, with common lower edges.

    Args:
        aspect: height / width of the field of view.
        labeled: whether there is a line of text below the second row.
    """
    left = 0.17  # names of the rows
    unit = (width - left - (len(scales) - 1) * GAP) / sum(scales)
    height = unit * max(scales) * aspect
    grid = FigureGrid(width, 2 * height + LINE + GAP + labeled * LINE + 0.03)
    rows = []
    for bottom in (LINE + height, LINE + 2 * height + GAP):
        lefts = [left + unit * sum(scales[:column]) + column * GAP for column in range(len(scales))]
        rows.append(
            [
                grid.panel(x, 0.01 + bottom - unit * scale * aspect, unit * scale, unit * scale * aspect)
                for x, scale in zip(lefts, scales, strict=True)
            ]
        )
    return grid, rows


class _Part(NamedTuple):
    """Output pixels of a view at one scale, with their extent in the view's unit."""

    output: tuple[int, int]
    region: Region
    extent: Extent


def _field_of_view(low: Tensor, field: tuple[int, int], crop: Region | None) -> Region:
    """Choose the field of view, in pixels of the file before reduction."""
    if crop is not None:
        return inside(crop, field)
    unit = field[1] / low.shape[2]
    return Region(*(round(n * unit) for n in choose_view(low.float() / 255, None, _SIDE)))


def _part(low: Tensor, scale: float, field: tuple[int, int], view: Region) -> _Part:
    output = OutputSize(scale).resolve_upscaled((int(low.shape[1]), int(low.shape[2])))
    region, extent = covering_region(output, field, view)
    return _Part(output, region, extent)


def _upscale(low: Tensor, network: nn.Module, part: _Part) -> np.ndarray:
    return as_pixels(torch.cat(list(upscale_bands(low, network, part.output, part.region)), dim=1))


def _bicubic(low: Tensor, part: _Part) -> np.ndarray:
    """Upscale a part with Pillow's bicubic, which reads beyond the box: the same pixels as for the whole image."""
    (top, left, height, width), (y, x) = part.region, (n / m for n, m in zip(low.shape[1:], part.output, strict=True))
    box = (left * x, top * y, (left + width) * x, (top + height) * y)
    picture = Image.fromarray(low.permute(1, 2, 0).contiguous().numpy())
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box))
