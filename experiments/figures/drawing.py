"""Drawing of images, outlines and scale bars on panels, in common coordinates for all resolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_iste.inferers import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: (H, W).
Size = tuple[int, int]

#: (left, right, bottom, top), as in matplotlib.
Extent = tuple[float, float, float, float]


def draw_view(axes: Axes, pixels: np.ndarray, field: Size, view: Region, **options: Any) -> None:
    """Draw a view of an image on a panel; views of images of different resolution coincide.

    Args:
        axes: panel.
        pixels: image that covers the whole field, edge to edge, at any resolution.
        field: height and width of the field, in the unit of the view.
        view: part of the field to show.
        options: options of ``imshow``.
    Shape:
        pixels: (H, W, 3), uint8, or (H, W).
    """
    (top, left, height, width), extent = covering_region((pixels.shape[0], pixels.shape[1]), field, view)
    draw_pixels(axes, pixels[top : top + height, left : left + width], extent, view, **options)


def covering_region(size: Size, field: Size, view: Region) -> tuple[Region, Extent]:
    """Compute the pixels that a view touches in an image of ``size`` that covers ``field``, and their extent.

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
    """Draw pixels at ``extent`` (left, right, bottom, top), in the unit of the view."""
    axes.imshow(pixels, extent=extent, aspect="auto", **options)
    axes.set_xlim(view.left, view.left + view.width)
    axes.set_ylim(view.top + view.height, view.top)


def outline_effects(color: str = "black", width: float = 1.4) -> list[Any]:
    """Create path effects that outline lines and letters, so that they are visible on any tissue."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground=color)]


def add_scale_bar(axes: Axes, view: Region, mpp: float | None, labeled: bool = True) -> float:
    """Draw a scale bar of a round length, about a quarter of the view, in its lower left corner.

    Args:
        axes: panel.
        view: part that the panel shows.
        mpp: micrometers per unit of the view; None for a bar in pixels.
        labeled: whether its length is printed.
    Returns:
        the length in micrometers, or in pixels.
    """
    mpp, unit = (1.0, "px") if mpp is None else (mpp, "µm")
    wanted = 0.3 * view.width * mpp
    power = 10.0 ** math.floor(math.log10(wanted))
    length = next(step * power for step in (5, 2, 1) if step * power <= wanted)
    left, bottom = view.left + 0.06 * view.width, view.top + 0.93 * view.height
    axes.plot([left, left + length / mpp], [bottom] * 2, color="black", lw=1.8, solid_capstyle="butt",
              path_effects=outline_effects("white", 3.2))  # fmt: skip
    if labeled:
        axes.text(left, bottom - 0.03 * view.height, f"{length:g} {unit}", va="bottom",
                  path_effects=outline_effects("white", 1.8))  # fmt: skip
    return length
