"""Consistency of a super-resolved slide with its source: difference after reduction, as map, summary and picture."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from monai_iste.errors import OutputError, ScaleError, ShapeError
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import Read
from monai_iste.io.files import open_output
from monai_iste.io.seal import Fields

Size = tuple[int, int]
Progress = Callable[[int, int], None]

#: Difference drawn in the picture's last color, in 8-bit levels.
FULL_RANGE = 8.0

#: Difference above which :func:`summary` counts a block, in 8-bit levels.
NOTABLE = 4.0

_REACH = 2048  # side of the squares that are reduced at once, in output pixels
_SUPPORT = 2  # of the bicubic filter, in input pixels
_PASSES = 3  # box blurs that make up Pillow's Gaussian

# Colors of the picture: black, blue, red-purple, orange, yellow. Lightness rises steadily, for gray prints and any
# color vision.
_COLORS = ((0, 0, 0), (28, 44, 120), (150, 52, 108), (238, 128, 54), (255, 236, 130))
_SIDES = (480, 2048)  # shortest and longest side of the drawn map
_LEGEND, _EDGE, _FONT = 64, 8, 14
_CAPTION = ("Difference to the slide when reduced again, in levels of 0 to 255.", "Dark: agrees. Bright: contradicts.")


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
    them. A high value contradicts the scan, and means that the result is not to be trusted there. Sharpness counts too
    where the slide's own blur differs from ``D``: compare with the map of interpolation, not with 0.

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
    if block < 1:
        raise ShapeError("blocks of at least 1 pixel", str(block), "The default is 16.")
    box = comparable(size, output_size, region)
    made = region or Region(0, 0, *output_size)
    levels = np.empty([-(-n // block) for n in box[2:]], np.float32)
    squares = list(_squares(box, [big / n for big, n in zip(output_size, size, strict=True)], block))
    for done, square in enumerate(squares, 1):
        reduced = _reduce(read_output, size, output_size, made, square)
        difference = np.abs(reduced - read_input(square)).mean(2, dtype=np.float64)
        rows, columns = (
            slice((a - origin) // block, -(-(a - origin + n) // block))
            for a, origin, n in zip(square[:2], box[:2], square[2:], strict=True)
        )
        levels[rows, columns] = _block_means(difference, block)
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


# --- summary ----------------------------------------------------------------------------------------------------------


class ConsistencySummary(NamedTuple):
    """Statistics of a consistency map; one line as text.

    Attributes:
        mean, p95, p99: mean and percentiles, in 8-bit levels.
        notable: fraction of blocks above :data:`NOTABLE`.
        worst: value of the highest block.
        row, column: first pixel of that block in the slide.
    """

    mean: float
    p95: float
    p99: float
    notable: float
    worst: float
    row: int
    column: int

    def __str__(self) -> str:
        return (
            f"consistency: mean {self.mean:.2f} of 255 levels, 95 % of blocks below {self.p95:.2f}, "
            f"99 % below {self.p99:.2f}; {100 * self.notable:.3g} % above {NOTABLE:g}; "
            f"worst {self.worst:.2f} at row {self.row}, column {self.column}"
        )


def summary(
    levels: np.ndarray, weight: np.ndarray | None = None, block: int = 16, origin: Size = (0, 0)
) -> ConsistencySummary:
    """Summarize a map of :func:`consistency_map`.

    A percentile is the lowest value such that blocks up to it have at least that fraction of the weight.

    Args:
        weight: weight of each block, such as its fraction of tissue; default: equal weights.
        block: side of the map's blocks, in pixels of the slide.
        origin: the slide's pixel (y, x) at which the map begins.
    Shape:
        levels, weight: (n, m)
    Raises:
        ShapeError: the weight has another shape, or is nowhere above 0.

    Example:
        >>> found = summary(np.array([[0.5, 1.5], [1.0, 5.0]]))
        >>> found.mean, found.p95, found.notable, found.row, found.column
        (2.0, 5.0, 0.25, 16, 16)
    """
    weight = np.ones(levels.shape) if weight is None else weight
    if weight.shape != levels.shape or not (weight > 0).any():
        raise ShapeError(
            f"weights of shape {levels.shape}, one of them above 0",
            f"{weight.shape}, the largest {weight.max(initial=0):g}",
            "Give one for each block.",
        )
    counted = np.where(weight > 0, levels, -1.0)
    row, column = (int(i) for i in np.unravel_index(counted.argmax(), levels.shape))
    order = np.argsort(levels, axis=None)
    values, cumulated = levels.ravel()[order], weight.ravel()[order].cumsum(dtype=np.float64)
    p95, p99 = (float(values[np.searchsorted(cumulated, p * cumulated[-1])]) for p in (0.95, 0.99))
    return ConsistencySummary(
        mean=float(np.average(levels, weights=weight)),
        p95=p95,
        p99=p99,
        notable=float(weight[levels > NOTABLE].sum(dtype=np.float64) / cumulated[-1]),
        worst=float(levels[row, column]),
        row=origin[0] + row * block,
        column=origin[1] + column * block,
    )


# --- files ------------------------------------------------------------------------------------------------------------


def write_consistency(
    path: str | os.PathLike[str],
    levels: np.ndarray,
    block: int = 16,
    *,
    mpp: tuple[float, float] | None = None,
    overwrite: bool = False,
    seal: Fields | None = None,
) -> tuple[Path, Path]:
    """Write a map as a picture with a color scale (PNG), and its values beside it (float32 TIFF of the same name).

    The picture goes from black (no difference) to yellow (8 levels and more). In a map too large for a
    picture, each pixel is the highest of its blocks, so that no bad place is lost.

    Args:
        path: file of the picture; ends in ``.png``.
        block: side of the map's blocks, in pixels of the slide.
        mpp: micrometers per pixel of the slide, (y, x), for the TIFF's resolution tags.
        overwrite: whether existing files are replaced.
        seal: fields by which the files are recognized later (:mod:`monai_iste.io.seal`).
    Shape:
        levels: (n, m)
    Returns:
        the paths of the picture and of the numbers.
    Raises:
        OutputError: the name ends otherwise, a file exists, or cannot be written.
    """
    picture, numbers = Path(path), Path(path).with_suffix(".tif")
    if picture.suffix.lower() != ".png":
        raise OutputError("a picture that ends in .png", str(picture), "The numbers are written beside it, in .tif.")
    tags: dict[str, Any] = {}
    if mpp is not None:
        tags = {"resolution": tuple(1e4 / (m * block) for m in mpp[::-1]), "resolutionunit": "CENTIMETER"}
    with open_output(picture, overwrite, seal) as drawn, open_output(numbers, overwrite, seal) as stored:
        _draw(levels).save(drawn, "PNG")
        tifffile.imwrite(
            stored,
            levels.astype(np.float32),
            compression="zlib",
            metadata=None,
            software="monai_iste",
            description=f"mean absolute difference in 8-bit levels, blocks of {block} x {block} pixels of the slide",
            **tags,
        )
    return picture, numbers


def _draw(levels: np.ndarray) -> Image.Image:
    shortest, longest = _SIDES
    fewer = -(-max(levels.shape) // longest)
    if fewer > 1:
        padded = np.pad(levels, [(0, -n % fewer) for n in levels.shape], mode="edge")
        levels = padded.reshape(padded.shape[0] // fewer, fewer, -1, fewer).max((1, 3))
    zoom = max(1, min(-(-shortest // min(levels.shape)), longest // max(levels.shape)))
    pixels = _color(levels).repeat(zoom, 0).repeat(zoom, 1)
    height = max(len(pixels), shortest // 2)
    font = ImageFont.load_default(_FONT)
    width = max(pixels.shape[1] + _LEGEND, *(math.ceil(font.getlength(line)) for line in _CAPTION))
    sheet = Image.new("RGB", (width + 2 * _EDGE, height + (2 + len(_CAPTION)) * (_FONT + _EDGE)), "white")
    sheet.paste(Image.fromarray(pixels), (_EDGE, _EDGE))
    _draw_legend(sheet, pixels.shape[1] + 2 * _EDGE, _EDGE, height)
    for i, line in enumerate(_CAPTION):
        ImageDraw.Draw(sheet).text((_EDGE, height + 2 * _EDGE + i * (_FONT + _EDGE)), line, "black", font)
    return sheet


def _draw_legend(sheet: Image.Image, left: int, top: int, height: int) -> None:
    """Draw the color scale, highest value at the top, with a number every two levels."""
    bar = _LEGEND // 3
    sheet.paste(Image.fromarray(_color(np.linspace(FULL_RANGE, 0, height)[:, None]).repeat(bar, 1)), (left, top))
    words, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for level in range(0, int(FULL_RANGE) + 1, 2):
        y = top + round((1 - level / FULL_RANGE) * (height - 1))
        words.line([(left + bar, y), (left + bar + 4, y)], "black")
        anchor = {0: "ls", FULL_RANGE: "lt"}.get(level, "lm")
        words.text((left + bar + 8, y), f"{level}+" if level == FULL_RANGE else f"{level}", "black", font, anchor)


def _color(levels: np.ndarray) -> np.ndarray:
    """Convert (n, m) levels to colors (n, m, 3) uint8, interpolated linearly."""
    stops = np.linspace(0, FULL_RANGE, len(_COLORS))
    channels = [np.interp(levels, stops, channel) for channel in zip(*_COLORS, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
