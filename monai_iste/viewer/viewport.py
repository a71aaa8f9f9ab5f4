"""Viewports: rectangles of a slide's pixel grid at one size, as shown on a screen."""

from __future__ import annotations

import math
from typing import NamedTuple

from monai_iste.errors import ScaleError, ShapeError
from monai_iste.inferers import Region
from monai_iste.slides.plan import MAX_SCALE

#: Largest width or height of a rendered image.
MAX_SIDE = 4096

#: Largest width * height of a rendered image: slightly more than a 4K screen.
MAX_AREA = 9_000_000

# Largest coordinate that is accepted, in slide pixels. Larger ones are never useful and would lose precision.
_MAX_COORDINATE = 1e8

Size = tuple[int, int]


class Viewport(NamedTuple):
    """Rectangle of the slide at one size; it may reach beyond the slide.

    The grid belongs to the slide and the size, never to the request. Two viewports of one size that overlap therefore
    have identical pixels in the overlap.

    Attributes:
        size: (H, W) of the whole slide at this scale.
        top, left, height, width: the rectangle, in pixels of that size.
    """

    size: Size
    top: int
    left: int
    height: int
    width: int

    def scale(self, native: Size) -> tuple[float, float]:
        """Return the output pixels per slide pixel, (y, x), for a slide of ``native`` (h, w) pixels."""
        return self.size[0] / native[0], self.size[1] / native[1]

    def extent(self, native: Size) -> tuple[float, float, float, float]:
        """Return the exact rectangle (x, y, w, h) in slide pixels.

        Example:
            >>> Viewport((20, 40), 5, 10, 10, 20).extent((10, 10))
            (2.5, 2.5, 5.0, 5.0)
        """
        (y, x) = self.scale(native)
        return self.left / x, self.top / y, self.width / x, self.height / y

    def region_on_slide(self) -> Region | None:
        """Return the part of the viewport that lies on the slide, in output pixels, or None if there is none."""
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = min(self.size[0], self.top + self.height), min(self.size[1], self.left + self.width)
        return Region(top, left, bottom - top, right - left) if top < bottom and left < right else None

    def is_upscaled(self, native: Size) -> bool:
        """Return True if the size exceeds the slide's on one axis and falls below it on none."""
        return tuple(self.size) != tuple(native) and all(n >= m for n, m in zip(self.size, native, strict=True))


def snap_viewport(native: Size, x: float, y: float, w: float, h: float, width: int, height: int) -> Viewport:
    """Return the grid viewport nearest to a rectangle of the slide that is shown on ``width x height`` pixels.

    The scales ``width / w`` and ``height / h`` are rounded so that the whole slide has an integer number of pixels.
    The corner is rounded to the nearest pixel of that grid, so it moves by at most half an output pixel.
    :meth:`Viewport.extent` returns the exact position.

    Args:
        native: (h, w) of the slide.
        x, y, w, h: rectangle in slide pixels; it may reach beyond the slide.
        width, height: size of the rendered image in pixels.
    Raises:
        ShapeError: the rectangle is empty or not finite, or the image has no pixel or too many.
        ScaleError: a scale exceeds :data:`~monai_iste.slides.plan.MAX_SCALE`.

    Example:
        >>> snap_viewport((2967, 2220), 1000.4, 500, 207.7, 207.7, 700, 700)
        Viewport(size=(10000, 7482), top=1685, left=3372, height=700, width=700)
    """
    check_image_size(width, height)
    numbers = (x, y, w, h)
    if not all(math.isfinite(n) and abs(n) <= _MAX_COORDINATE for n in numbers) or min(w, h) <= 0:
        raise ShapeError("a viewport x, y, w, h in pixels of the slide, w and h above 0", str(numbers), "Look closer.")
    size = _scaled_length(native[0], height / h), _scaled_length(native[1], width / w)
    top, left = round(y * size[0] / native[0]), round(x * size[1] / native[1])
    return Viewport(size, top, left, height, width)


def _scaled_length(length: int, scale: float) -> int:
    if scale > MAX_SCALE * (1 + 1e-9):
        raise ScaleError(f"a scale of at most {MAX_SCALE:g}", f"{scale:.6g}", "Zoom out.")
    return max(1, round(length * scale))


def check_image_size(width: int, height: int) -> None:
    """Raise ShapeError unless each side has 1 to :data:`MAX_SIDE` pixels and the area is at most :data:`MAX_AREA`."""
    if min(width, height) < 1 or max(width, height) > MAX_SIDE or width * height > MAX_AREA:
        raise ShapeError(
            f"an image of 1 to {MAX_SIDE} pixels a side and at most {MAX_AREA:,} in all",
            f"{width} x {height}",
            "Ask for a smaller one, or for several.",
        )
