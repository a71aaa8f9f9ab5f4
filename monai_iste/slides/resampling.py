"""A region of a large image resampled as part of the whole: where it is cut out changes none of its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from monai_iste.inferers import Region

# Lanczos, because it keeps what the new grid can hold and folds back little of what it cannot: tissue brought from 0.5
# to 1.2 um/px and back loses less of itself than with Pillow's bicubic, and is changed less by sampling it elsewhere.
_FILTER, _SUPPORT = Image.Resampling.LANCZOS, 3

# Output pixels along the side of a block: so many that they need about _READ pixels of the level.
_READ, _LEAST_BLOCK, _LARGEST_BLOCK = 2048, 16, 128

# Pixels of a level that are read at once; 4 bytes each.
_STRIP_PIXELS = 2_000_000

Size = tuple[int, int]


class LevelPixels(NamedTuple):
    """One level of a pyramid, which is addressed in pixels of level 0.

    Args:
        size: (h, w) of the level.
        extent: what all of level 0 measures in the level's pixels, (y, x): see :func:`level_extent`.
        step: level-0 pixels from one of its pixels to the next; 1 for level 0.
        read: (start, size) -> (*size, 3) uint8, from the level-0 pixel ``start`` (y, x) on, as
            :meth:`~monai_iste.slides.backends.Pixels.read`. A level whose step is not a whole number cannot be entered
            at every one of its pixels; it is then read between them.
    """

    size: Size
    extent: tuple[float, float]
    step: float
    read: Callable[[Size, Size], np.ndarray]

    @property
    def exact(self) -> bool:
        """Whether every pixel of the level begins at a pixel of level 0, to a thousandth of a pixel."""
        return abs(self.step - round(self.step)) * max(self.size) < 1e-3


class _AxisBlock(NamedTuple):
    """One block along one axis.

    The output pixels of the block cover ``box`` of the level, counted from the level's pixel ``first`` on: a margin for
    the filter lies within. Of the block, the output pixels ``part`` are wanted (``target`` in the region), and for them
    the level's pixels ``taken``. It has ``inside`` pixels from there to its end; the last is repeated to ``padded``.
    """

    target: slice
    part: slice
    length: int
    first: int
    taken: slice
    inside: int
    padded: int
    box: tuple[float, float]


def level_extent(level: Size, full: Size) -> tuple[float, float]:
    """What level 0, of size ``full``, measures in the pixels of a level: where the two lie over each other.

    Most pyramids average k x k pixels, whether k divides the size or not: then the level's pixel i covers those from
    k i on, and its last one is left out or cut. So it is read where the level's size is that of full / k rounded up or
    down, axis by axis. Any other level was resampled as a whole, and its edges are those of level 0.

    Example:
        >>> level_extent((501, 1003), (1003, 2007)), level_extent((100, 333), (1003, 1000))
        ((501.5, 1003.5), (100.3, 333.3333333333333))
        >>> level_extent((300, 300), (1003, 1000))
        (300.0, 300.0)
    """
    height, width = (_axis_extent(n, whole) for n, whole in zip(level, full, strict=True))
    return height, width


def _axis_extent(n: int, whole: int) -> float:
    exact = whole / max(1, round(whole / n))
    return exact if n in (math.floor(exact), math.ceil(exact)) else float(n)


def best_level(levels: tuple[Size, ...], size: Size) -> int:
    """The smallest level that is not smaller than wanted on either axis, or level 0 where all are.

    A level that lacks a pixel is large enough: sizes of levels are rounded.

    Example:
        >>> levels = (1001, 2003), (500, 1001), (250, 500)
        >>> [best_level(levels, size) for size in ((250, 500), (251, 501), (300, 500), (9, 9), (4000, 8000))]
        [2, 2, 1, 2, 0]
    """
    large = (
        index
        for index, level in enumerate(levels)
        if all(wanted <= max(n, min(n + 1, 1.01 * n)) for n, wanted in zip(level, size, strict=True))
    )
    return max(large, default=0)


def resample_region(level: LevelPixels, size: Size, region: Region) -> np.ndarray:
    """A region of what :meth:`PIL.Image.Image.resize` would make of a whole level, to within its rounding.

    Output pixel i is centerd at ``(i + 0.5) * e / N - 0.5`` of the level's pixels (level 0, which measures e of them,
    becomes N pixels), so that a level of rounded size is used where it lies. The output is made in blocks of a fixed
    lattice, each with all the pixels that the filter reaches, from one place of the level on: so a pixel is the same,
    bit for bit, in whichever region it is asked for, although Pillow keeps positions in single precision, and although
    a level that is entered between its pixels is blurred by where it was entered. Only what the region needs is read,
    in strips that bound the memory.

    Args:
        size: (H, W) of the whole output; may be larger than the level.
        region: in pixels of the output.
    Shape:
        returns (height, width, 3), contiguous uint8.
    """
    pixels = np.empty((region.height, region.width, 3), np.uint8)
    for rows in _axis_blocks(level, 0, size[0], region.top, region.height):
        for columns in _axis_blocks(level, 1, size[1], region.left, region.width):
            pixels[rows.target, columns.target] = _block(level, rows, columns)[rows.part, columns.part]
    return pixels


def _axis_blocks(level: LevelPixels, axis: int, full: int, start: int, length: int) -> Iterator[_AxisBlock]:
    n, step, stop = level.size[axis], level.step, start + length
    scale = level.extent[axis] / full
    block = min(max(int(_READ / scale), _LEAST_BLOCK), _LARGEST_BLOCK)
    margin = math.ceil(_SUPPORT * max(1.0, scale)) + 1

    def reach(begin: int, end: int) -> tuple[int, int]:
        return max(0, math.floor(begin * scale) - margin), min(n, math.ceil(end * scale) + margin)

    for lattice in range(start // block * block, stop, block):
        over = min(lattice + block, full)
        begin, end = max(lattice, start), min(over, stop)
        first, last = reach(lattice, over)
        wanted_first, wanted_last = reach(begin, end)
        position = round(first * step) / step  # where `first` is really entered: up to half a level-0 pixel beside it
        low, high = max(0.0, lattice * scale - position), over * scale - position
        inside = min(last - first, math.floor(n - position + 1e-6))
        padded = max(last - first, math.ceil(high - 1e-6))
        yield _AxisBlock(
            target=slice(begin - start, end - start),
            part=slice(begin - lattice, end - lattice),
            length=over - lattice,
            first=first,
            taken=slice(wanted_first - first if level.exact else 0, min(wanted_last - first, inside)),
            inside=inside,
            padded=padded,
            box=(low, min(high, padded)),
        )


def _block(level: LevelPixels, rows: _AxisBlock, columns: _AxisBlock) -> np.ndarray:
    """Across, strip by strip, then down: the two passes of Pillow's own resizing, with its rounding between them.

    What lies outside the rows and columns that are taken is left black; only unwanted output pixels see it.
    """
    across = np.zeros((rows.padded, columns.length, 3), np.uint8)
    strip = max(1, _STRIP_PIXELS // columns.padded)
    x = round((columns.first + columns.taken.start) * level.step)
    for top in range(rows.taken.start, rows.taken.stop, strip):
        height = min(strip, rows.taken.stop - top)
        pixels = np.zeros((height, columns.padded, 3), np.uint8)
        y = round((rows.first + top) * level.step)
        pixels[:, columns.taken] = level.read((y, x), (height, columns.taken.stop - columns.taken.start))
        pixels[:, columns.inside :] = pixels[:, columns.inside - 1 : columns.inside]
        box = (columns.box[0], 0, columns.box[1], height)
        across[top : top + height] = np.asarray(Image.fromarray(pixels).resize((columns.length, height), _FILTER, box))
    across[rows.inside :] = across[rows.inside - 1]
    down = Image.fromarray(across)
    return np.asarray(
        down.resize((columns.length, rows.length), _FILTER, (0, rows.box[0], columns.length, rows.box[1]))
    )
