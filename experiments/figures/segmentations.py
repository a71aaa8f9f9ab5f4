"""Figure 10: segmentations on the original and on reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from skimage.measure import find_contours
from torch import nn

from experiments.figures.drawing import draw_view, outline_effects
from experiments.figures.inputs import (
    BICUBIC,
    ImageSource,
    Pair,
    as_pixels,
    choose_view,
    format_scale,
    make_pair,
    reconstruct,
)
from experiments.figures.style import ACCENT, PAGE, FigureGrid, style
from monai_iste.errors import ConfigError, ShapeError
from monai_iste.inferers import Region
from monai_iste.networks import Bicubic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def contours(labels: np.ndarray) -> list[np.ndarray]:
    """Trace the outlines of every object, along the edges of its pixels; open at the border of the image.

    Shape:
        labels: (H, W); returns arrays (N, 2), order (y, x)
    Units: pixels, 0 at the upper left edge of the image; the center of the first pixel is at 0.5.

    Example:
        >>> [line.tolist() for line in contours(np.array([[0, 7, 7], [0, 7, 7]]))]
        [[[1.5, 1.0], [0.5, 1.0]]]
    """
    lines = []
    for label in np.unique(labels[labels > 0]):
        rows, columns = (np.flatnonzero((labels == label).any(axis)) for axis in (1, 0))
        top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)
        part = labels[top : rows[-1] + 2, left : columns[-1] + 2] == label
        if min(part.shape) > 1:  # required by scikit-image
            lines += [line + (top + 0.5, left + 0.5) for line in find_contours(part.astype(float), 0.5)]  # noqa: RUF005
    return lines


def draw_segmentations(
    image: ImageSource,
    masks: Mapping[str, np.ndarray],
    methods: Mapping[str, nn.Module],
    scale: float = 4.0,
    crop: Region | None = None,
    protocol: str = "iste-rgb",
    width: float = PAGE,
) -> Figure:
    """Draw the image, then the outlines of every label map on the image that it was computed from.

    A map named after a method (or Bicubic), in upper or lower case, is drawn on that method's reconstruction. All other
    maps, such as ``truth``, are drawn on the image itself.

    Args:
        image: original, a file or (3, H, W) uint8; it is reduced by ``scale`` first.
        masks: label maps (H, W) by the names to print, in order; 0 is background.
        methods: networks in evaluation mode by name; only those that a map is named after are run.
        scale: scale factor.
        crop: part to show, in pixels of the image; default: all.
        protocol: key of :data:`monai_iste.metrics.PROTOCOLS`.
        width: width of the figure in inches.
    Raises:
        ConfigError: there are no masks, the protocol does not exist, or matplotlib is missing.
        ShapeError: a map and the image differ in size, or the crop is outside the image.
    """
    if not masks:
        raise ConfigError("at least one label map", "none", "Add --masks truth=mask.png.")
    original = make_pair(image, 1, protocol).truth
    size = int(original.shape[1]), int(original.shape[2])
    pair = make_pair(image, scale, protocol)
    for name, labels in masks.items():
        if labels.shape not in (size, pair.size):
            raise ShapeError(
                f"a label map of {size[0]} x {size[1]} pixels (H x W) for {name!r}",
                " x ".join(map(str, labels.shape)),
                "Take the map of this image.",
            )
    view = choose_view(pair.truth, crop, None)
    with style():
        grid, rows = FigureGrid.with_rows([view.height / view.width], len(masks) + 1, width, (1,), (0,))
        draw_view(rows[0][0], as_pixels(pair.truth), pair.size, view)
        rows[0][0].set_title("image")
        for axes, (name, labels) in zip(rows[0][1:], masks.items(), strict=True):
            background, title = _background(pair, name, methods)
            draw_view(axes, background, pair.size, view)
            _add_contours(axes, labels)
            axes.set_title(title)
    return grid.finish()


def _background(pair: Pair, name: str, methods: Mapping[str, nn.Module]) -> tuple[np.ndarray, str]:
    for label, network in {BICUBIC: Bicubic(), **methods}.items():
        if label.lower() == name.lower():
            image = reconstruct(network, pair.low, pair.scale, pair.size)
            return as_pixels(image), f"{label}, {format_scale(pair.scale)}"
    return as_pixels(pair.truth), name


def _add_contours(axes: Axes, labels: np.ndarray) -> None:
    for line in contours(labels):
        axes.plot(line[:, 1], line[:, 0], color=ACCENT, lw=0.8, path_effects=outline_effects(width=1.6))
