"""Which pixels a picture on the screen is made of: a part of the slide at one size."""

from __future__ import annotations

import math
from typing import NamedTuple

from monai_iste.errors import ScaleError, ShapeError
from monai_iste.inferers import Region
from monai_iste.slides.plan import MAX_SCALE

#: Largest width or height of a picture that is sent.
MAX_SIDE = 4096

#: Largest width * height of one: a 4K screen, and some.
MAX_AREA = 9_000_000

#: Beyond this many pixels from the slide's corner nobody looks; it keeps the numbers exact.
_FARTHEST = 1e8

Size = tuple[int, int]


class Frame(NamedTuple):
    """A rectangle of the whole slide at one size; it may reach beyond the slide.

    ``size`` is the (H, W) that all of the slide has, and so says the scale; ``top, left, height, width`` are pixels
    of that grid. The grid belongs to the slide and the size, never to the request: two frames of one size that overlap
    have the same pixels there.
    """

    size: Size
    top: int
    left: int
    height: int
    width: int

    def scale(self, native: Size) -> tuple[float, float]:
        """Pixels of the frame for one of the slide, (y, x); ``native`` is the slide's (h, w)."""
        return self.size[0] / native[0], self.size[1] / native[1]

    def extent(self, native: Size) -> tuple[float, float, float, float]:
        """What the frame shows, (x, y, w, h) in the slide's pixels, exactly.

        Example:
            >>> Frame((20, 40), 5, 10, 10, 20).extent((10, 10))
            (2.5, 2.5, 5.0, 5.0)
        """
        (y, x) = self.scale(native)
        return self.left / x, self.top / y, self.width / x, self.height / y

    def inside(self) -> Region | None:
        """The part of the frame where the slide is; None where there is none."""
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = min(self.size[0], self.top + self.height), min(self.size[1], self.left + self.width)
        return Region(top, left, bottom - top, right - left) if top < bottom and left < right else None

    def magnifies(self, native: Size) -> bool:
        """Whether it has more pixels than the slide, and on no axis fewer: only then is there anything to infer."""
        return tuple(self.size) != tuple(native) and all(n >= m for n, m in zip(self.size, native, strict=True))


def view_frame(native: Size, x: float, y: float, w: float, h: float, width: int, height: int) -> Frame:
    """The frame nearest to a viewport of a slide at the size of a screen.

    The slide is magnified by ``width / w`` and ``height / h``, rounded so that all of it has whole pixels, and the
    viewport's corner goes to the nearest of them: no pixel lies more than half an output pixel from where it was asked
    for because of the corner, and :meth:`Frame.extent` says where it is.

    Args:
        native: (h, w) of the slide.
        x, y, w, h: the viewport in the slide's pixels; it may reach beyond the slide.
        width, height: of the picture.
    Raises:
        ShapeError: the viewport is empty or not finite, or the picture has no pixel or too many.
        ScaleError: it magnifies by more than :data:`~monai_iste.slides.plan.MAX_SCALE`.

    Example:
        >>> view_frame((2967, 2220), 1000.4, 500, 207.7, 207.7, 700, 700)
        Frame(size=(10000, 7482), top=1685, left=3372, height=700, width=700)
    """
    check_output_size(width, height)
    numbers = (x, y, w, h)
    if not all(math.isfinite(n) and abs(n) <= _FARTHEST for n in numbers) or min(w, h) <= 0:
        raise ShapeError("a viewport x, y, w, h in pixels of the slide, w and h above 0", str(numbers), "Look closer.")
    size = _grid(native[0], height / h), _grid(native[1], width / w)
    top, left = round(y * size[0] / native[0]), round(x * size[1] / native[1])
    return Frame(size, top, left, height, width)


def _grid(length: int, scale: float) -> int:
    if scale > MAX_SCALE * (1 + 1e-9):
        raise ScaleError(f"a magnification of at most {MAX_SCALE:g}", f"{scale:.6g}", "Zoom out.")
    return max(1, round(length * scale))


def check_output_size(width: int, height: int) -> None:
    """Refuse a picture before anything is allocated for it.

    Raises:
        ShapeError: it has no pixel, or more than :data:`MAX_SIDE` a side or :data:`MAX_AREA` in all.
    """
    if min(width, height) < 1 or max(width, height) > MAX_SIDE or width * height > MAX_AREA:
        raise ShapeError(
            f"a picture of 1 to {MAX_SIDE} pixels a side and at most {MAX_AREA:,} in all",
            f"{width} x {height}",
            "Ask for a smaller one, or for several.",
        )
