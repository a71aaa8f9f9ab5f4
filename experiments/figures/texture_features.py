"""Figure 7: feature maps before and after the Texture Learner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from experiments.figures.drawing import covering_region, draw_pixels, draw_view
from experiments.figures.inputs import (
    ImageSource,
    as_pixels,
    choose_view,
    format_scale,
    make_pair,
    reconstruct,
    require_iste,
)
from experiments.figures.intermediates import texture_features
from experiments.figures.style import MAPS, PAGE, FigureGrid, style
from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError
from monai_iste.inferers import Region
from monai_iste.networks import TextureLearner

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 128  # side of the default view, in ground-truth pixels

_RANGE = 3.0  # standard deviations on each side of the mean


def standardized(maps: Tensor) -> Tensor:
    """Standardize every map: ``(x - mean) / standard deviation``; zero if a map is constant.

    Shape:
        maps: (N, H, W); returns the same
    """
    centered = maps - maps.mean((1, 2), keepdim=True)
    deviation = centered.square().mean((1, 2), keepdim=True).sqrt()
    return torch.where(deviation > 0, centered / deviation.clamp_min(1e-12), 0.0)


def most_varied(maps: Tensor, count: int) -> list[int]:
    """Find the channels with the largest variance, largest first; equal ones in their order.

    Shape:
        maps: (N, H, W)
    """
    variance = maps.flatten(1).var(1, correction=0)
    return variance.argsort(descending=True, stable=True)[:count].tolist()


def draw_texture_features(
    image: ImageSource,
    network: nn.Module,
    scale: float = 4.0,
    channels: int = 3,
    crop: Region | None = None,
    protocol: str = "iste-rgb",
    name: str = "ISTE",
    width: float = PAGE,
) -> Figure:
    """Draw input and F_LR in the upper row, output and F_TL in the lower row.

    Of each feature map, the mean absolute value and the channels with the largest variance are shown. Every map is
    standardized over the part that is shown and drawn from -3 to 3 standard deviations, with one color bar. F_LR has
    one value per low-resolution pixel, F_TL one per output pixel.

    Args:
        image: ground truth, a file or (3, H, W) uint8; it is reduced by ``scale`` first.
        network: ISTE in evaluation mode, with its Texture Learner.
        scale: scale factor.
        channels: number of single channels.
        crop: part to show, in pixels of the image; default: the 128-pixel square with most detail.
        protocol: key of :data:`monai_iste.metrics.PROTOCOLS`.
        name: name of the network, printed over its output.
        width: width of the figure in inches.
    Raises:
        ConfigError: the network is not ISTE or has no TL, ``channels`` is below 1, the protocol does not exist, or
            matplotlib is missing.
        ShapeError: the crop is outside the image.
    """
    iste = require_iste(network)
    if not isinstance(iste.texture_learner, TextureLearner):
        raise ConfigError("an ISTE network with its texture_learner", "one without", "Choose another preset.")
    if channels < 1:
        raise ConfigError("at least one channel", str(channels), "The paper shows some.")
    pair = make_pair(image, scale, protocol)
    view = choose_view(pair.truth, crop, _SIDE)
    region, extent = covering_region(output_size((pair.low.shape[1], pair.low.shape[2]), scale), pair.size, view)
    features = texture_features(iste, pair.low, scale, region)
    shown, low_extent = covering_region((pair.low.shape[1], pair.low.shape[2]), pair.size, view)
    before = features.before[:, shown.top : shown.top + shown.height, shown.left : shown.left + shown.width]
    with style():
        aspect = view.height / view.width
        grid, rows = FigureGrid.with_rows((aspect, aspect), channels + 2, width, (1, 1), (0, 0), left=0.17, right=0.55)
        draw_view(rows[0][0], as_pixels(pair.low), pair.size, view)
        rows[0][0].set_title("LR input")
        draw_view(rows[1][0], as_pixels(reconstruct(iste, pair.low, scale, pair.size)), pair.size, view)
        rows[1][0].set_title(f"{name}, {format_scale(scale)}")
        for row, maps, where in ((rows[0], before, low_extent), (rows[1], features.after, extent)):
            chosen = most_varied(maps, channels)
            drawn = standardized(torch.cat([maps.abs().mean(0, keepdim=True), maps[chosen]]))
            titles = ["mean absolute", *(f"channel {number}" for number in chosen)]
            for axes, values, title in zip(row[1:], drawn, titles, strict=False):
                draw_pixels(axes, np.asarray(values), where, view, cmap=MAPS, vmin=-_RANGE, vmax=_RANGE)
                axes.set_title(title)
        rows[0][0].set_ylabel("before TL ($F_{LR}$)")
        rows[1][0].set_ylabel("after TL ($F_{TL}$)")
        label = "standard deviations from the mean"
        grid.color_bar_beside(rows[0][-1], rows[1][-1], MAPS, (-_RANGE, _RANGE), label, "both")
    return grid.finish()
