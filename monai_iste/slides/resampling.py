"""Resampling of regions of a large image; the pixels do not depend on the region."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from monai_iste.inferers import Region

# Lanczos keeps more of what the new grid can represent, and aliases less, than Pillow's bicubic: tissue brought from
# 0.5 to 1.2 um/px and back loses less.
_FILTER, _SUPPORT = Image.Resampling.LANCZOS, 3

# Side of a block in output pixels, chosen so that it needs about _READ pixels of the level.
_READ, _LEAST_BLOCK, _LARGEST_BLOCK = 2048, 16, 128

# Pixels of a level that are read at once; 4 bytes each.
_STRIP_PIXELS = 2_000_000

Size = tuple[int, int]


class LevelPixels(NamedTuple):
    """Level of a pyramid, addressed in pixels of level 0.

    Args:
        size: (h, w) of the level.
        extent: extent of level 0 in the level's pixels, (y, x); see :func:`level_extent`.
        step: level-0 pixels from one of its pixels to the next; 1 for level 0.
        read: (start, size) -> (*size, 3) uint8, from the level-0 pixel ``start`` (y, x) on, as
            :meth:`~monai_iste.io.pixels.Pixels.read`. A level whose step is not a whole number cannot be entered
            at every one of its pixels; it is then read between them.
    """

    size: Size
    extent: tuple[float, float]
    step: float
    read: Callable[[Size, Size], np.ndarray]

    @property
    def exact(self) -> bool:
        """True if every pixel of the level begins at a pixel of level 0, to a thousandth of a pixel."""
        return abs(self.step - round(self.step)) * max(self.size) < 1e-3


class _AxisBlock(NamedTuple):
    """Block of the output along one axis.

    Attributes:
        target: output pixels of the block in the requested region.
        part: the same output pixels in the block.
        length: number of output pixels of the block.
        first: first pixel of the level that the block needs, with a margin for the filter.
        taken: pixels of the level that ``part`` needs, counted from ``first``.
        inside: number of the level's pixels from ``first`` to its end.
        padded: number of pixels to which the last one is repeated.
        box: interval of the level that the block covers, counted from ``first``.
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
    """Compute the extent of level 0, of size ``full``, in the pixels of a level.

    Most pyramids average k x k pixels, whether k divides the size or not: the level's pixel i covers those from k i on,
    and an incomplete last one is dropped or kept. This is assumed, axis by axis, where the level's size is full / k
    rounded up or down. Any other level is taken as resampled as a whole, with the edges of level 0.

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
    """Choose the smallest level that is not smaller than ``size`` on either axis, or level 0.

    A level may lack one pixel: sizes of levels are rounded.

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
    """Resample a region of a level as :meth:`PIL.Image.Image.resize` resamples the whole, to within its rounding.

    Output pixel i is centered at ``(i + 0.5) * e / N - 0.5`` of the level's pixels, where e is the extent of level 0
    and N the number of output pixels; so levels of rounded size are not shifted. The output is computed in blocks of a
    fixed lattice, each from all the pixels that the filter reaches, read from one position of the level. A pixel is
    therefore the same, bit for bit, in every region, although Pillow keeps positions in single precision, and although
    reading a level between its pixels blurs it. Only what the region needs is read, in strips that bound the memory.

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
    """Resample a block across, strip by strip, then down: the two passes of Pillow's resizing, rounded in between.

    Pixels outside ``taken`` stay black; they reach only output pixels outside the region.
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
