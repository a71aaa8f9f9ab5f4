"""Report of consistency maps: a summary, a picture with a color scale, and a file of the values."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image, ImageDraw, ImageFont

from monai_iste.errors import OutputError, ShapeError
from monai_iste.io.files import open_output
from monai_iste.io.seal import Fields
from monai_iste.slides.consistency import FULL_RANGE, ConsistencyMaps, Size, describe_means

#: Excess above which :func:`summary` counts a block, in 8-bit levels.
NOTABLE = 4.0

# Colors of the picture: black, blue, red-purple, orange, yellow. Lightness rises steadily, for gray prints and any
# color vision.
_COLORS = ((0, 0, 0), (28, 44, 120), (150, 52, 108), (238, 128, 54), (255, 236, 130))
_SIDES = (480, 2048)  # shortest and longest side of the drawn map
_LEGEND, _EDGE, _FONT = 64, 8, 14
_PAGES = {
    "excess": "network - bicubic: excess of the mean absolute difference",
    "network": "network: mean absolute difference to the slide",
    "bicubic": "bicubic interpolation: mean absolute difference to the slide",
}


class ConsistencySummary(NamedTuple):
    """Statistics of consistency maps; one line as text.

    Attributes:
        network, bicubic: means of both maps, in 8-bit levels.
        mean, p95, p99: mean and percentiles of the excess, in 8-bit levels.
        notable: fraction of blocks whose excess is above :data:`NOTABLE`.
        worst: excess of the highest block.
        row, column: first pixel of that block in the slide.
    """

    network: float
    bicubic: float
    mean: float
    p95: float
    p99: float
    notable: float
    worst: float
    row: int
    column: int

    def __str__(self) -> str:
        return (
            f"consistency: {describe_means(self.network, self.bicubic)} of 255; excess over bicubic: "
            f"95 % of blocks below {self.p95:.2f}, 99 % below {self.p99:.2f}, {100 * self.notable:.3g} % above "
            f"{NOTABLE:g}; worst {self.worst:.2f} at row {self.row}, column {self.column}"
        )


def summary(
    maps: ConsistencyMaps, weight: np.ndarray | None = None, block: int = 16, origin: Size = (0, 0)
) -> ConsistencySummary:
    """Summarize maps of :func:`consistency_maps`.

    A percentile is the lowest value such that blocks up to it have at least that fraction of the weight.

    Args:
        weight: weight of each block, such as its fraction of tissue; default: equal weights.
        block: side of the maps' blocks, in pixels of the slide.
        origin: the slide's pixel (y, x) at which the maps begin.
    Shape:
        maps: (n, m) each; weight: (n, m)
    Raises:
        ShapeError: the weight has another shape, or is nowhere above 0.

    Example:
        >>> network, bicubic = np.array([[0.5, 1.5], [1.0, 9.0]]), np.array([[1.0, 1.0], [1.0, 4.0]])
        >>> found = summary(ConsistencyMaps(network, bicubic))
        >>> found.network, found.bicubic, found.mean, found.p95, found.notable, found.row, found.column
        (3.0, 1.75, 1.25, 5.0, 0.25, 16, 16)
    """
    levels = maps.excess
    weight = np.ones(levels.shape) if weight is None else weight
    if weight.shape != levels.shape or not (weight > 0).any():
        raise ShapeError(
            f"weights of shape {levels.shape}, one of them above 0",
            f"{weight.shape}, the largest {weight.max(initial=0):g}",
            "Give one for each block.",
        )
    counted = np.where(weight > 0, levels, -np.inf)
    row, column = (int(i) for i in np.unravel_index(counted.argmax(), levels.shape))
    order = np.argsort(levels, axis=None)
    values, cumulated = levels.ravel()[order], weight.ravel()[order].cumsum(dtype=np.float64)
    p95, p99 = (float(values[np.searchsorted(cumulated, p * cumulated[-1])]) for p in (0.95, 0.99))
    network, bicubic = maps.means(weight)
    return ConsistencySummary(
        network=network,
        bicubic=bicubic,
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
    maps: ConsistencyMaps,
    block: int = 16,
    *,
    mpp: tuple[float, float] | None = None,
    overwrite: bool = False,
    seal: Fields | None = None,
) -> tuple[Path, Path]:
    """Write maps as a picture with a color scale (PNG), and their values beside it (float32 TIFF of the same name).

    The picture shows the excess over interpolation: from black (none) to yellow (8 levels and more). In a map too
    large for a picture, each pixel is the highest of its blocks, so that no bad place is lost. The TIFF has three
    pages: the excess, the network's map, and that of bicubic interpolation.

    Args:
        path: file of the picture; ends in ``.png``.
        block: side of the maps' blocks, in pixels of the slide.
        mpp: micrometers per pixel of the slide, (y, x), for the TIFF's resolution tags.
        overwrite: whether existing files are replaced.
        seal: fields by which the files are recognized later (:mod:`monai_iste.io.seal`).
    Shape:
        maps: (n, m) each
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
        _draw(maps).save(drawn, "PNG")
        with tifffile.TiffWriter(stored) as tiff:
            for name, levels in {"excess": maps.excess, **maps._asdict()}.items():
                tiff.write(
                    levels.astype(np.float32),
                    compression="zlib",
                    metadata=None,
                    software="monai_iste",
                    description=f"{_PAGES[name]} in 8-bit levels, blocks of {block} x {block} pixels of the slide",
                    **tags,
                )
    return picture, numbers


def _draw(maps: ConsistencyMaps) -> Image.Image:
    levels = maps.excess
    caption = (
        "Difference to the slide when reduced again, in excess of bicubic's own, in levels of 0 to 255.",
        f"Dark: as close as bicubic. Bright: contradicts. Mean: {describe_means(*maps.means())}.",
    )
    shortest, longest = _SIDES
    fewer = -(-max(levels.shape) // longest)
    if fewer > 1:
        padded = np.pad(levels, [(0, -n % fewer) for n in levels.shape], mode="edge")
        levels = padded.reshape(padded.shape[0] // fewer, fewer, -1, fewer).max((1, 3))
    zoom = max(1, min(-(-shortest // min(levels.shape)), longest // max(levels.shape)))
    pixels = _color(levels).repeat(zoom, 0).repeat(zoom, 1)
    height = max(len(pixels), shortest // 2)
    font = ImageFont.load_default(_FONT)
    width = max(pixels.shape[1] + _LEGEND, *(math.ceil(font.getlength(line)) for line in caption))
    sheet = Image.new("RGB", (width + 2 * _EDGE, height + (2 + len(caption)) * (_FONT + _EDGE)), "white")
    sheet.paste(Image.fromarray(pixels), (_EDGE, _EDGE))
    _draw_legend(sheet, pixels.shape[1] + 2 * _EDGE, _EDGE, height)
    for i, line in enumerate(caption):
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
