"""Parts of a window: the interior, which it alone covers, and the border, where it is blended with its neighbors."""

from __future__ import annotations

from typing import NamedTuple

from monai_iste.inferers.tiling import AxisWindow
from monai_iste.slides.plan import Window

Slices = tuple[slice, slice]


class Rectangle(NamedTuple):
    """Part of a window: rows ``top:bottom`` and columns ``left:right``, counted from the window's corner."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def slices(self) -> Slices:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def parts(window: Window) -> tuple[Rectangle, list[Rectangle]]:
    """Split a window into its interior and the four sides of its border: above, left, right, below."""
    (top, bottom, height), (left, right, width) = (unblended(axis) for axis in window)
    return Rectangle(top, bottom, left, right), [
        Rectangle(0, top, 0, width),
        Rectangle(top, bottom, 0, left),
        Rectangle(top, bottom, right, width),
        Rectangle(bottom, height, 0, width),
    ]


def unblended(window: AxisWindow) -> tuple[int, int, int]:
    """Find the pixels of weight 1 along an axis: the first, the one after the last, and the window's length."""
    inner = (window.weight == 1).nonzero().flatten()
    length = len(window.weight)
    return (int(inner[0]), int(inner[-1]) + 1, length) if len(inner) else (length, length, length)


def overlap(part: Rectangle, corner: tuple[int, int], size: tuple[int, int]) -> tuple[Slices, Slices]:
    """Intersect part of a window at ``corner`` with an image of ``size``: slices of the image, and of the part.

    Example:
        >>> overlap(Rectangle(0, 4, 2, 9), corner=(-1, 3), size=(10, 8))
        ((slice(0, 3, None), slice(5, 8, None)), (slice(1, 4, None), slice(0, 3, None)))
    """
    here, there = [], []
    sides = ((part.top, part.bottom), (part.left, part.right))
    for (low, high), offset, limit in zip(sides, corner, size, strict=True):
        begin = max(0, low + offset)
        end = max(begin, min(limit, high + offset))
        here.append(slice(begin, end))
        there.append(slice(begin - offset - low, end - offset - low))
    return (here[0], here[1]), (there[0], there[1])
