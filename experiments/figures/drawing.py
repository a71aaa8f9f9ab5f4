"""Drawing on panels: images that lie on each other whatever their resolution, lines that are seen on any tissue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_iste.inferers import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: (H, W); and (left, right, bottom, top), as matplotlib has it.
Size = tuple[int, int]


Extent = tuple[float, float, float, float]


def draw_view(axes: Axes, pixels: np.ndarray, field: Size, view: Region, **options: Any) -> None:
    """Draw the part of an image that a view needs, so that views of images of any resolution lie on each other.

    Args:
        pixels: covers the whole field, edge to edge, in any number of pixels.
        field: height and width of the field, in the unit of the view.
        view: what the panel shows.
        options: for ``imshow``.
    Shape:
        pixels: (H, W, 3), uint8, or (H, W).
    """
    (top, left, height, width), extent = covering_region((pixels.shape[0], pixels.shape[1]), field, view)
    draw_pixels(axes, pixels[top : top + height, left : left + width], extent, view, **options)


def covering_region(size: Size, field: Size, view: Region) -> tuple[Region, Extent]:
    """The pixels, of an image of ``size`` that covers ``field``, which a view touches; and the place that they take.

    Example:
        >>> covering_region((5, 10), (10, 20), Region(3, 0, 4, 20))
        (Region(top=1, left=0, height=3, width=10), (0.0, 20.0, 8.0, 2.0))
    """
    y, x = field[0] / size[0], field[1] / size[1]
    top, left = math.floor(view.top / y + 1e-6), math.floor(view.left / x + 1e-6)
    bottom = min(size[0], math.ceil((view.top + view.height) / y - 1e-6))
    right = min(size[1], math.ceil((view.left + view.width) / x - 1e-6))
    return Region(top, left, bottom - top, right - left), (left * x, right * x, bottom * y, top * y)


def draw_pixels(axes: Axes, pixels: np.ndarray, extent: Extent, view: Region, **options: Any) -> None:
    """Draw pixels where they belong: ``extent`` (left, right, bottom, top), in the unit of the view."""
    axes.imshow(pixels, extent=extent, aspect="auto", **options)
    axes.set_xlim(view.left, view.left + view.width)
    axes.set_ylim(view.top + view.height, view.top)


def outline_effects(color: str = "black", width: float = 1.4) -> list[Any]:
    """Path effects: a line around lines and letters, so that they are seen on any tissue."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground=color)]


def add_scale_bar(axes: Axes, view: Region, mpp: float) -> float:
    """A bar of a round length, about a quarter of the view, in its lower left corner; returns the length in um.

    Args:
        mpp: micrometers per unit of the view.
    """
    wanted = 0.3 * view.width * mpp
    power = 10.0 ** math.floor(math.log10(wanted))
    length = next(step * power for step in (5, 2, 1) if step * power <= wanted)
    left, bottom = view.left + 0.06 * view.width, view.top + 0.93 * view.height
    axes.plot([left, left + length / mpp], [bottom] * 2, color="black", lw=1.8, solid_capstyle="butt",
              path_effects=outline_effects("white", 3.2))  # fmt: skip
    axes.text(left, bottom - 0.03 * view.height, f"{length:g} µm", va="bottom",
              path_effects=outline_effects("white", 1.8))  # fmt: skip
    return length
