"""Consistency of a super-resolved slide with its source: difference after reduction, beyond interpolation's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from monai_iste.errors import ScaleError, ShapeError
from monai_iste.functional import to_array
from monai_iste.inferers import Region, Tiler
from monai_iste.inferers.tiling import Read
from monai_iste.slides.compute import Interpolation

Size = tuple[int, int]
Progress = Callable[[int, int], None]

#: Excess drawn in the picture's last color, and with the viewer's highest opacity, in 8-bit levels.
FULL_RANGE = 8.0

_REACH = 2048  # side of the squares that are reduced at once, in output pixels
_SUPPORT = 2  # of the bicubic filter, in input pixels
_PASSES = 3  # box blurs that make up Pillow's Gaussian


class ConsistencyMaps(NamedTuple):
    """Consistency maps of a super-resolved slide and of interpolation (:func:`consistency_maps`).

    Attributes:
        network, bicubic: difference of the result, and of bicubic interpolation, (n, m), float32, in 8-bit levels.
    """

    network: np.ndarray
    bicubic: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """Difference of the result beyond that of interpolation, (n, m); below 0 where the result is closer."""
        difference: np.ndarray = self.network - self.bicubic
        return difference

    def means(self, weight: np.ndarray | None = None) -> tuple[float, float]:
        """Return the mean of the network's map and that of bicubic interpolation."""
        network, bicubic = (float(np.average(levels, weights=weight)) for levels in self)
        return network, bicubic


def describe_means(network: float, bicubic: float) -> str:
    """Return the means of both maps in words.

    Example:
        >>> describe_means(5.13, 4.8)
        'network 5.1, bicubic 4.8 levels'
    """
    return f"network {network:.1f}, bicubic {bicubic:.1f} levels"


def consistency_map(
    read_input: Read,
    read_output: Read,
    size: Size,
    output_size: Size,
    block: int = 16,
    progress: Progress | None = None,
    region: Region | None = None,
) -> np.ndarray:
    """Compute the difference between the reduced super-resolved slide and the slide, block by block.

    With the slide ``x`` (h x w), the super-resolved slide ``y`` (H x W) and the reduction ``D`` by which training pairs
    are made (``blur_bicubic`` of :mod:`monai_iste.transforms.degradation`)::

        m    = (H / h + W / w) / 2
        D(y) = bicubic reduction, antialiased, of a Gaussian blur of y with sigma (m - 1) / 2 output pixels
        map  = mean of |D(y) - x| over the pixels of a block and the three channels

    ``D(y)`` is not rounded, so that only the rounding of ``y`` counts for a faithful result. The slide is processed in
    squares with the margins that blur and filter need; the map does not depend on them.

    A low value is necessary, not sufficient: details between the slide's pixels can be invented and still reduce to
    them. A high value counts the slide's own sharpness and compression too, where they differ from those of ``D``:
    :func:`consistency_maps` takes them away.

    Args:
        read_input: reads a region of the slide, (height, width, 3) uint8.
        read_output: reads a region of the super-resolved slide, (height, width, 3) uint8.
        size: (h, w) of the slide.
        output_size: (H, W) of the super-resolved slide.
        block: side of a block in pixels of the slide; the last ones of a row and a column may be smaller.
        progress: called with (squares done, number of squares).
        region: part of the super-resolved slide that exists, in its pixels; default: all of it. The map then covers
            the pixels that :func:`comparable` returns. The positions passed to the readers stay those of the whole
            slide.
    Shape:
        returns (ceil(h / block), ceil(w / block)), float32, for the h x w pixels that are compared.
    Units: 8-bit levels.
    Raises:
        ShapeError: the block or the region is empty, or the region is not inside the output.
        ScaleError: the output is smaller than the slide.

    Example:
        >>> x, y = np.full((40, 33, 3), 100, np.uint8), np.full((60, 99, 3), 103, np.uint8)
        >>> consistency_map(lambda region: x[region.slices], lambda region: y[region.slices], (40, 33), (60, 99))
        array([[3., 3., 3.],
               [3., 3., 3.],
               [3., 3., 3.]], dtype=float32)
    """
    return _maps(read_input, [read_output], size, output_size, block, progress, region)[0]


def consistency_maps(
    read_input: Read,
    read_output: Read,
    size: Size,
    output_size: Size,
    block: int = 16,
    progress: Progress | None = None,
    region: Region | None = None,
    read_bicubic: Read | None = None,
) -> ConsistencyMaps:
    """Compute the map of a super-resolved slide and that of bicubic interpolation, whose difference is drawn.

    With ``D``, ``x`` and ``y`` of :func:`consistency_map`, and ``B(x)`` the slide interpolated to the size of ``y`` and
    rounded to 8 bits (:class:`~monai_iste.slides.compute.Interpolation`)::

        network = mean of |D(y) - x|
        bicubic = mean of |D(B(x)) - x|
        excess  = network - bicubic

    Interpolation invents nothing. Its difference shows by how much ``D`` misses the slide's own blur and compression.
    What a result has in excess of it contradicts the scan.

    Args:
        read_bicubic: reads a region of ``B(x)``, (height, width, 3) uint8; default: it is computed.
        read_input, read_output, size, output_size, block, progress, region: see :func:`consistency_map`.
    Shape:
        two maps of (ceil(h / block), ceil(w / block)), float32, for the h x w pixels that are compared.
    Units: 8-bit levels.
    Raises:
        ShapeError, ScaleError: as :func:`consistency_map`.

    Example:
        >>> x, y = np.full((40, 33, 3), 100, np.uint8), np.full((60, 99, 3), 103, np.uint8)
        >>> maps = consistency_maps(lambda part: x[part.slices], lambda part: y[part.slices], (40, 33), (60, 99))
        >>> maps.means(), maps.excess.shape
        ((3.0, 0.0), (3, 3))
    """
    interpolated = read_bicubic or _interpolation(read_input, size, output_size)
    return ConsistencyMaps(*_maps(read_input, [read_output, interpolated], size, output_size, block, progress, region))


def _interpolation(read_input: Read, size: Size, output_size: Size) -> Read:
    """Return a function that reads a region of the slide interpolated to ``output_size``."""
    tiler, bicubic = Tiler(), Interpolation()

    def read(region: Region) -> np.ndarray:
        output = tiler.region(read_input, size, bicubic, output_size, region)
        return to_array(output)

    return read


def _maps(
    read_input: Read,
    read_outputs: Sequence[Read],
    size: Size,
    output_size: Size,
    block: int,
    progress: Progress | None,
    region: Region | None,
) -> np.ndarray:
    """Compute the maps of several results of one slide: (results, n, m), float32."""
    if block < 1:
        raise ShapeError("blocks of at least 1 pixel", str(block), "The default is 16.")
    box = comparable(size, output_size, region)
    made = region or Region(0, 0, *output_size)
    levels = np.empty((len(read_outputs), *(-(-n // block) for n in box[2:])), np.float32)
    squares = list(_squares(box, [big / n for big, n in zip(output_size, size, strict=True)], block))
    for done, square in enumerate(squares, 1):
        rows, columns = (
            slice((a - origin) // block, -(-(a - origin + n) // block))
            for a, origin, n in zip(square[:2], box[:2], square[2:], strict=True)
        )
        slide = read_input(square)
        for one, read_output in zip(levels, read_outputs, strict=True):
            reduced = _reduce(read_output, size, output_size, made, square)
            one[rows, columns] = _block_means(np.abs(reduced - slide).mean(2, dtype=np.float64), block)
        if progress is not None:
            progress(done, len(squares))
    return levels


def comparable(size: Size, output_size: Size, region: Region | None = None) -> Region:
    """Find the pixels of a slide that lie wholly inside a region of the super-resolved slide.

    Args:
        size: (h, w) of the slide.
        output_size: (H, W) of the super-resolved slide.
        region: in pixels of the super-resolved slide; default: all of it.
    Raises:
        ShapeError, ScaleError: as :func:`consistency_map`.

    Example:
        >>> comparable((100, 100), (370, 370), Region(10, 37, 100, 74))
        Region(top=3, left=10, height=26, width=20)
    """
    if any(big < n or n < 1 for big, n in zip(output_size, size, strict=True)):
        raise ScaleError(
            f"a super-resolved slide of at least {size[0]} x {size[1]} (H x W)",
            f"{output_size[0]} x {output_size[1]}",
            "Compare a slide with its own result.",
        )
    region = region or Region(0, 0, *output_size)
    # In whole numbers: as fractions, a border that lies on a pixel's could fall on either side.
    first = [-(-a * n // big) for a, n, big in zip(region[:2], size, output_size, strict=True)]
    ends = [(a + m) * n // big for a, m, n, big in zip(region[:2], region[2:], size, output_size, strict=True)]
    beyond = any(a < 0 or a + m > big for a, m, big in zip(region[:2], region[2:], output_size, strict=True))
    if beyond or any(a >= b for a, b in zip(first, ends, strict=True)):
        raise ShapeError(
            f"a region (top, left, height, width) of {output_size[0]} x {output_size[1]} pixels, of one pixel of the "
            "slide at least",
            str(tuple(region)),
            "Compare a part of the output.",
        )
    return Region(first[0], first[1], ends[0] - first[0], ends[1] - first[1])


def _squares(box: Region, scales: list[float], block: int) -> Iterator[Region]:
    """Split a region of the slide into squares of whole blocks, of at most :data:`_REACH` output pixels a side."""
    height, width = (max(1, int(_REACH / scale / block)) * block for scale in scales)
    bottom, right = box[0] + box[2], box[1] + box[3]
    for top in range(box[0], bottom, height):
        for left in range(box[1], right, width):
            yield Region(top, left, min(height, bottom - top), min(width, right - left))


def _reduce(read: Read, size: Size, output_size: Size, made: Region, square: Region) -> np.ndarray:
    """Compute D(y) in a region of the slide: (height, width, 3), float32 in [0, 255]."""
    scales = [big / n for big, n in zip(output_size, size, strict=True)]
    sigma = (sum(scales) / 2 - 1) / 2
    crop, edges = [], []
    for scale, begin, extent, first, length in zip(scales, made[:2], made[2:], square[:2], square[2:], strict=True):
        margin = math.ceil(_SUPPORT * scale) + 1 + _blur_reach(sigma)
        start = max(begin, int(first * scale) - margin)
        stop = min(begin + extent, math.ceil((first + length) * scale) + margin)
        crop.append((start, stop - start))
        # Rounding must not put an edge beyond the crop.
        edges.append((max(0.0, first * scale - start), min((first + length) * scale - start, stop - start)))
    (y, height), (x, width) = crop
    high = Image.fromarray(np.ascontiguousarray(read(Region(y, x, height, width))))
    blurred = np.asarray(high.filter(ImageFilter.GaussianBlur(sigma)), np.float32)
    (top, bottom), (left, right) = edges
    # In floating point, because whole levels after either pass would be an error of their own.
    channels = [
        Image.fromarray(channel).resize(square[:1:-1], Image.Resampling.BICUBIC, (left, top, right, bottom))
        for channel in np.ascontiguousarray(blurred.transpose(2, 0, 1))
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2).clip(0, 255)


def _blur_reach(sigma: float) -> int:
    """Compute the reach of Pillow's Gaussian: each of its box blurs has 2 r + 1 = sqrt(12 sigma^2 / n + 1) pixels."""
    return _PASSES * (int((math.sqrt(12 * sigma**2 / _PASSES + 1) - 1) / 2) + 1)


def _block_means(values: np.ndarray, block: int) -> np.ndarray:
    rows, columns = (np.arange(0, n, block) for n in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights, widths = (np.diff(np.r_[starts, n]) for starts, n in zip((rows, columns), values.shape, strict=True))
    means: np.ndarray = sums / (heights[:, None] * widths)
    return means
