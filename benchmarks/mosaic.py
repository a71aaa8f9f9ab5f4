"""Synthetic slides of any size for measurements: islands of real tissue on background, as a TIFF pyramid.

python -m benchmarks.mosaic slide.svs big.tif --side 20000 --tissue 0.5
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import tifffile
import typer
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from benchmarks import common
from benchmarks.common import Row
from monai_iste.errors import ConfigError, DataError, require_extra
from monai_iste.inferers import Region
from monai_iste.io.files import open_output
from monai_iste.io.pixels import IMAGE_SUFFIXES
from monai_iste.slides.reader import Slide
from monai_iste.slides.tissue import background_color, tissue_mask

__all__ = ["Islands", "app", "mosaic", "tissue_pieces"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TILE, QUALITY, FACTOR = 512, 90, 4
SMALLEST = 1024  # largest side of the last level in pixels
_PIECE, _PIECES, _LOOKED_AT = 512, 24, 96
_STAINED, _STAINED_FRACTION = 20, 0.5  # levels below background; fraction of a piece's pixels
_PITCH = 3000.0  # pixels from island to island
_STEP = 16  # pixels between the points at which the outline of islands is computed
_SOFT = 24.0  # pixels of the transition from tissue to background
_BACKGROUND = np.array((243, 243, 244), np.float32)  # if the source shows none

Mpp = tuple[float, float]
Tile = Callable[[int, int], np.ndarray]


@app.command()
def mosaic(
    source: Annotated[Path, typer.Argument(help="Slide, image, or folder of images.")],
    out: Annotated[Path, typer.Argument(help="TIFF file to write.")],
    side: Annotated[int, typer.Option("--side", min=1, help="Height and width in pixels.")] = 20_000,
    tissue: Annotated[float, typer.Option("--tissue", min=0, max=1, help="Fraction of the area with tissue.")] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the slide.")] = 0,
    mpp: Annotated[float | None, typer.Option("--mpp", help="Micrometers per pixel; default: the source's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> Row:
    """Write a tiled JPEG pyramid with islands of repeated, mirrored tissue and soft edges on background."""
    if not 0 <= tissue <= 1:
        raise ConfigError("a tissue fraction from 0 to 1", f"{tissue}", "The default is 0.5.")
    require_extra("imagecodecs", "slides")
    start = time.perf_counter()
    pieces, background, found = tissue_pieces(source, seed)
    islands = Islands(side, tissue, pieces, background, seed)
    with open_output(out, overwrite) as file, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        levels = _write(file, islands.tile, side, found if mpp is None else (mpp, mpp), Path(folder))
    row = {
        "side": side,
        "levels": levels,
        "tissue": round(islands.tissue_fraction, 3),
        "pieces": len(pieces),
        "megabytes": round(out.stat().st_size / 1e6, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }
    common.report(f"A mosaic of {source.name}, seed {seed}", [row], lambda r: r, "cpu", None)
    return row


# --- pieces of tissue -------------------------------------------------------------------------------------------------


def tissue_pieces(source: Path, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, Mpp | None]:
    """Cut square pieces of tissue from the source, at most 24 of at most 512 x 512 pixels.

    Returns:
        the pieces, the background color, and micrometers per pixel if known.
    Raises:
        DataError: no piece has enough tissue.
    """
    paths = [source]
    if source.is_dir():
        paths = sorted(p for p in source.iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES))
    random = np.random.default_rng(seed)
    pieces: list[tuple[float, np.ndarray]] = []
    background, mpp = None, None
    # A few images are enough; each of them is searched.
    for path in [paths[i] for i in sorted(random.permutation(len(paths))[:_PIECES])]:
        with Slide(path) as slide:
            background = background_color(slide) if background is None else background
            mpp = mpp or slide.mpp
            pieces += _pieces_of(slide, _BACKGROUND if background is None else background, random)
    if not pieces:
        raise DataError("a slide or a folder of images with tissue", str(source), "Choose another source.")
    best = sorted(pieces, key=lambda piece: -piece[0])[:_PIECES]
    return [piece for _, piece in best], _BACKGROUND if background is None else background, mpp


def _pieces_of(slide: Slide, background: np.ndarray, random: np.random.Generator) -> list[tuple[float, np.ndarray]]:
    """Cut pieces (side, side, 3), each with its fraction of stained pixels."""
    side = min(_PIECE, *slide.size)
    mask = tissue_mask(slide)
    places = [
        (top, left)
        for top in range(0, slide.size[0] - side + 1, side // 2 or 1)
        for left in range(0, slide.size[1] - side + 1, side // 2 or 1)
        if mask.touches(top, left, top + side, left + side)
    ]
    found = []
    for i in random.permutation(len(places))[:_LOOKED_AT]:
        top, left = places[i]
        piece = slide.read(Region(top, left, side, side))
        fraction = float(((background - piece).max(2) > _STAINED).mean())
        if fraction >= _STAINED_FRACTION:
            found.append((fraction, piece.copy()))
    return found


# --- islands ----------------------------------------------------------------------------------------------------------


class Islands:
    """Slide with islands of tissue, computed tile by tile from the arguments only.

    Every point belongs to the nearest of some scattered centers. With the distances ``d1`` and ``d2`` to the nearest
    and the second nearest center, an island is where ``f = (d2 - d1) / 2 * exp(noise)`` is above a threshold. The
    threshold is the quantile that gives the requested tissue fraction. ``f`` is 0 halfway between centers, so that
    islands do not touch.

    Args:
        side: height and width in pixels.
        tissue: fraction of the area with tissue, from 0 to 1.
        pieces: pieces of tissue, repeated and mirrored within islands; each (n, n, 3), uint8.
        background: color between the islands, in 8-bit levels.
        seed: seed of the slide.
    """

    def __init__(
        self, side: int, tissue: float, pieces: list[np.ndarray], background: np.ndarray, seed: int = 0
    ) -> None:
        self.side, self.pieces, self.seed = side, pieces, seed
        self._step = max(_STEP, math.ceil(side / 2048))
        random = np.random.default_rng(seed)
        count = -(-side // self._step) + 2
        centers = _centers(side, random)
        axis = np.arange(count) * self._step
        points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
        distances, nearest = cKDTree(centers).query(points, k=2)
        shape = sum(
            weight * _noise(count, size / self._step, random) for weight, size in ((0.6, _PITCH / 10), (0.25, 48))
        )
        self._outline = ((distances[..., 1] - distances[..., 0]) / 2 * np.exp(shape)).astype(np.float32)
        self._owner = nearest[..., 0].astype(np.int32)
        threshold = np.quantile(self._outline[:-2, :-2], 1 - tissue) if 0 < tissue < 1 else 1e6 * (0.5 - tissue)
        self._outline -= np.float32(threshold)
        self.tissue_fraction = float((self._outline[:-2, :-2] > 0).mean())
        grain = random.normal(0, 1.0, (3 * TILE, 3 * TILE, 1)) + random.normal(0, 0.5, (3 * TILE, 3 * TILE, 3))
        self._background = (background + grain).clip(0, 255).round().astype(np.uint8)

    def tile(self, top: int, left: int) -> np.ndarray:
        """Compute the tile (TILE, TILE, 3) uint8 at row ``top`` and column ``left``, also beyond the side."""
        random = np.random.default_rng((self.seed, top, left))
        y, x = random.integers(0, 2 * TILE, 2)
        background = self._background[y : y + TILE, x : x + TILE]
        rows, columns = (slice(a // self._step, (a + TILE) // self._step + 2) for a in (top, left))
        outline, owner = self._outline[rows, columns], self._owner[rows, columns]
        if outline.max() < -_SOFT / 2:
            return background
        owners = np.unique(owner[outline > -_SOFT])
        if outline.min() > _SOFT / 2 and len(owners) == 1:
            return self._tissue(owners[0], top, left)
        down, across = (
            ((np.arange(a, a + TILE) - a // self._step * self._step) / self._step).clip(0, n - 1)
            for a, n in zip((top, left), outline.shape, strict=True)
        )
        opacity = (_between(down, len(outline)) @ outline @ _between(across, outline.shape[1]).T / _SOFT + 0.5).clip(
            0, 1
        )
        whose = owner[np.ix_(down.round().astype(int), across.round().astype(int))]
        tissue = self._tissue(owners[0], top, left)
        for one in owners[1:]:
            tissue = np.where((whose == one)[..., None], self._tissue(one, top, left), tissue)
        weight = Image.fromarray((255 * opacity).round().astype(np.uint8))
        return np.asarray(Image.composite(Image.fromarray(tissue), Image.fromarray(background), weight))

    def _tissue(self, owner: int, top: int, left: int) -> np.ndarray:
        """Compute an island's tissue in a tile: its piece from a random corner, repeated and mirrored."""
        random = np.random.default_rng((self.seed, int(owner)))
        piece = self.pieces[random.integers(len(self.pieces))]
        rows, columns = (
            _mirrored(np.arange(a, a + TILE) + random.integers(2 * n), n)
            for a, n in zip((top, left), piece.shape, strict=False)
        )
        return piece.take(rows, 0).take(columns, 1)


def _centers(side: int, random: np.random.Generator) -> np.ndarray:
    """Draw centers (n, 2), one in each square of a grid that extends beyond the slide."""
    count = max(2, round(side / _PITCH))
    grid = np.stack(np.meshgrid(*[np.arange(-1, count + 1)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    places: np.ndarray = (grid + random.uniform(0.1, 0.9, grid.shape)) * side / count
    return places


def _noise(count: int, size: float, random: np.random.Generator) -> np.ndarray:
    noise = gaussian_filter(random.standard_normal((count, count)), size, mode="wrap")
    return noise / (noise.std() or 1)


def _between(position: np.ndarray, count: int) -> np.ndarray:
    """Create the matrix (n, count) that interpolates linearly between ``count`` values.

    Example:
        >>> _between(np.array([0.25, 2.0]), 3).tolist()
        [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
    """
    matrix: np.ndarray = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(count))).astype(np.float32)
    return matrix


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Mirror indices at the ends of an axis of length n.

    Example:
        >>> _mirrored(np.arange(7), 3).tolist()
        [0, 1, 2, 2, 1, 0, 0]
    """
    index = index % (2 * n)
    return np.minimum(index, 2 * n - 1 - index)


# --- the pyramid ------------------------------------------------------------------------------------------------------


def _write(file: BinaryIO, tile: Tile, side: int, mpp: Mpp | None, folder: Path) -> int:
    """Write every level as a TIFF directory, reduced by 4 from the previous one; return the number of levels."""
    level = 0
    with tifffile.TiffWriter(file, bigtiff=3.2 * side**2 > 2**32) as tiff:
        while True:
            resolution: dict[str, Any] = {}
            if mpp is not None:
                resolution = {
                    "resolution": tuple(1e4 / (m * FACTOR**level) for m in mpp[::-1]),
                    "resolutionunit": "CENTIMETER",
                }
            stored = folder / f"{level}.rgb"
            tiff.write(
                _tiles(tile, side, stored),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": QUALITY},
                subsampling=(1, 1),
                subfiletype=1 if level else 0,
                metadata=None,
                software="monai_iste",
                maxworkers=min(4, os.cpu_count() or 1),
                buffersize=16 * 3 * TILE**2,  # read-ahead of the encoders
                **resolution,
            )
            level += 1
            if side <= SMALLEST:
                return level
            side = -(-side // FACTOR)
            tile = _Stored(stored, side).tile


def _tiles(tile: Tile, side: int, stored: Path) -> Iterator[np.ndarray]:
    """Yield the tiles of a level row by row, and store their reductions for the next level."""
    last = (side - 1) // TILE * TILE
    for top in range(0, side, TILE):
        band = np.empty((TILE // FACTOR, (last + TILE) // FACTOR, 3), np.uint8)
        for left in range(0, side, TILE):
            # Pixels beyond the side repeat the edge, so that they do not affect JPEG or the next level.
            inside = tile(top, left)[: side - top, : side - left]
            pixels = np.pad(inside, [(0, TILE - n) for n in inside.shape[:2]] + [(0, 0)], mode="edge")
            reduced = np.asarray(Image.fromarray(pixels).reduce(FACTOR))
            band[:, left // FACTOR : (left + TILE) // FACTOR] = reduced
            if left == last:  # before the yield: the consumer stops after the last tile
                height, width = (-(-n // FACTOR) for n in (min(side - top, TILE), side))
                with open(stored, "ab") as file:
                    file.write(band[:height, :width].tobytes())
            yield pixels


class _Stored:
    """Level stored as rows; one row of tiles is held in memory."""

    def __init__(self, path: Path, side: int) -> None:
        self._path, self._row, self._top = path, 3 * side, -1
        self._band = np.empty((0, side, 3), np.uint8)

    def tile(self, top: int, left: int) -> np.ndarray:
        """Read a tile, smaller at the right and lower edge."""
        if top != self._top:
            band = np.fromfile(self._path, np.uint8, TILE * self._row, offset=top * self._row)
            self._band, self._top = band.reshape((-1, self._row // 3, 3)), top
        return self._band[:, left : left + TILE]


if __name__ == "__main__":
    common.run(app)
