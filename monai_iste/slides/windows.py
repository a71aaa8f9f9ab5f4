"""A window in parts: the interior, where it answers alone, and the frame, where it is blended with its neighbors."""

from __future__ import annotations

from typing import NamedTuple

from monai_iste.inferers.tiling import AxisWindow
from monai_iste.slides.plan import Window

Slices = tuple[slice, slice]


class Rectangle(NamedTuple):
    """Part of a window: rows ``top:bottom`` and columns ``left:right``, from the window's own corner."""

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
    """The interior of a window, and the four sides of its frame: above, left, right, below."""
    (top, bottom, height), (left, right, width) = (alone(span) for span in window)
    return Rectangle(top, bottom, left, right), [
        Rectangle(0, top, 0, width),
        Rectangle(top, bottom, 0, left),
        Rectangle(top, bottom, right, width),
        Rectangle(bottom, height, 0, width),
    ]


def alone(span: AxisWindow) -> tuple[int, int, int]:
    """Where along an axis a window's weight is 1 (first pixel, and the one after the last), and its length."""
    inner = (span.weight == 1).nonzero().flatten()
    length = len(span.weight)
    return (int(inner[0]), int(inner[-1]) + 1, length) if len(inner) else (length, length, length)


def overlap(part: Rectangle, corner: tuple[int, int], size: tuple[int, int]) -> tuple[Slices, Slices]:
    """Where part of a window at ``corner`` meets an image of ``size``: in the image, and in the part itself.

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
