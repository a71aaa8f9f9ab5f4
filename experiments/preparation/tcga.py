"""TCGA: 400 tiles of 3072 x 3072 pixels from five slides at 40x, split 320 / 40 / 40.

Not specified in the paper; our choice: the user provides the slides; tiles are drawn with a seed from the tiles of a
grid with enough tissue; the split is by tile or by slide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from experiments.preparation.output_folder import (
    PARTS,
    Plan,
    PlannedImage,
    assign_folders,
    check_counts,
    fill_folder,
    hash_order,
    source_digest,
)
from monai_iste.errors import ConfigError, DataError
from monai_iste.inferers import Region
from monai_iste.io.files import checksum
from monai_iste.io.folders import list_files
from monai_iste.io.pixel_size import Mpp
from monai_iste.io.pixels import SLIDE_ENDINGS
from monai_iste.slides.reader import Slide
from monai_iste.slides.tissue import TissueMask, tissue_mask

#: Number of tiles for training, validation and test, their side in pixels, and the number of slides (the paper).
COUNTS, TILE, SLIDES = (320, 40, 40), 3072, 5

#: Pixel sizes that are accepted as 40x, in micrometers.
MPP_RANGE = (0.2, 0.3)

# Points per side of a tile at which the mask is sampled; the tissue fraction of a 3072 tile is exact to 0.01.
_PROBES = 32

# File names of slides in the Genomic Data Commons: they identify the slide there, and no person.
_PUBLIC_NAME = re.compile(r"TCGA-\w{2}-\w{4}-\d\d[A-Z]-\d\d-(TS|BS|DX)\w+(\.[0-9A-F-]{36})?\.svs", re.IGNORECASE)


class _Tile(NamedTuple):
    """Tile of the grid: index of its slide, row and column."""

    slide: int
    row: int
    column: int


class _Surveyed(NamedTuple):
    """Slide with file, hash, pixel size, size, and the tiles with enough tissue."""

    path: Path
    sha256: str
    mpp: Mpp
    size: tuple[int, int]
    tiles: list[_Tile]


def prepare_tcga(
    source: Path,
    root: Path,
    seed: int = 0,
    counts: Sequence[int] = COUNTS,
    slides: int = SLIDES,
    tile: int = TILE,
    min_tissue: float = 0.5,
    split_by: str = "tile",
    input_mpp: float | None = None,
    mpp_range: tuple[float, float] = MPP_RANGE,
    quiet: bool = False,
) -> dict[str, Any]:
    """Cut tiles with enough tissue from slides at 40x.

    Candidates are the non-overlapping tiles of a grid, from the upper left corner of level 0, with a tissue fraction of
    at least ``min_tissue`` (:func:`tissue_fractions`). The same number is drawn from each slide, with the seed; if a
    slide has too few, the others provide the rest.

    ``split_by="tile"`` gives the paper's numbers, but tiles of one slide are then in several parts, so that a network
    is scored on slides that it was trained on. ``"slide"`` uses one slide for validation, one for test and the others
    for training; the slides should be of different patients.

    Args:
        source: folder with the slides, directly or in subfolders.
        root: see :func:`~experiments.preparation.output_folder.fill_folder`.
        seed: seed of the selection and of the split.
        counts: number of tiles for train, val and test.
        slides: number of slides that the folder must hold.
        tile: side of a tile in pixels.
        min_tissue: smallest tissue fraction of a tile, in (0, 1].
        split_by: "tile" or "slide".
        input_mpp: micrometers per pixel, if the slides do not state it.
        mpp_range: range of accepted pixel sizes.
        quiet: whether to hide the progress bar.
    Returns:
        the manifest. It contains the name of a slide only if it is one of TCGA's public names.
    Raises:
        ConfigError: an option is invalid.
        DataError: the number of slides differs, a slide is unreadable or of another pixel size, or there are too few
            tiles with tissue.
        OutputError: see :func:`~experiments.preparation.output_folder.fill_folder`.
    """
    parts = check_counts(counts)
    _check_options(slides, tile, min_tissue, split_by)
    paths = _slides(source, slides)
    job = {
        "name": "tcga",
        "seed": seed,
        "counts": parts,
        "tile": tile,
        "min_tissue": min_tissue,
        "split_by": split_by,
        "input_mpp": input_mpp,
        "source": source_digest(source, paths),
    }

    @contextmanager
    def plan() -> Iterator[Plan]:
        surveyed = [_survey(number, path, tile, min_tissue, input_mpp, mpp_range) for number, path in enumerate(paths)]
        chosen = _by_tile(surveyed, parts, seed) if split_by == "tile" else _by_slide(surveyed, parts, seed)
        yield Plan(
            [
                PlannedImage(
                    f"{part}/slide{n + 1}-r{row:02d}-c{column:02d}.png",
                    (tile, tile),
                    partial(_read, surveyed[n].path, row * tile, column * tile, tile),
                    surveyed[n].mpp,
                )
                for (n, row, column), part in sorted(chosen.items())
            ],
            _about(surveyed, chosen, job),
        )

    return fill_folder(root, job, plan, quiet)


def tissue_fractions(mask: TissueMask, tile: int) -> np.ndarray:
    """Compute the tissue fraction of each whole tile of a slide.

    The mask is sampled at 32 x 32 points per tile. A point counts as tissue if its weight is above one half, which is
    the case up to about three samples of the mask, 25 um, beyond the tissue.

    Args:
        mask: tissue mask of the slide.
        tile: side of a tile in pixels.
    Shape:
        returns (rows, columns), without the incomplete tiles at the right and lower edge.
    Units: fractions in [0, 1].

    Example:
        >>> tissue_fractions(TissueMask(np.array([[0, 255]], np.uint8), (64, 128)), 64).tolist()
        [[0.0, 1.0]]
    """
    rows, columns = (n // tile for n in mask.size)
    points = (torch.arange(_PROBES, dtype=torch.float64) + 0.5) * (tile / _PROBES) - 0.5
    x = (torch.arange(columns, dtype=torch.float64)[:, None] * tile + points).flatten()
    fractions = np.empty((rows, columns))
    for row in range(rows):
        tissue = mask.weight(points + row * tile, x) > 0.5
        fractions[row] = tissue.reshape(_PROBES, columns, _PROBES).double().mean((0, 2)).numpy()
    return fractions


def _check_options(slides: int, tile: int, min_tissue: float, split_by: str) -> None:
    if tile < 192:
        raise ConfigError("a tile of at least 192 pixels", str(tile), "The paper's are of 3072.")
    if not 0 < min_tissue <= 1:
        raise ConfigError("min_tissue above 0 and at most 1", str(min_tissue), "Half a tile is 0.5.")
    if split_by not in ("tile", "slide"):
        raise ConfigError("a split by tile or by slide", repr(split_by), "The paper's numbers need tile.")
    if slides < (fewest := 1 if split_by == "tile" else 3):
        raise ConfigError(f"at least {fewest} slides for a split by {split_by}", str(slides), "Name more.")


def _slides(source: Path, count: int) -> list[Path]:
    if not source.is_dir():
        raise DataError("a folder of slides", str(source), "Name the folder that holds them.")
    endings = (*SLIDE_ENDINGS, ".tif", ".tiff")
    found = [source / name for name in list_files(source, tqdm.write) if name.lower().endswith(endings)]
    if len(found) != count:
        raise DataError(f"{count} slides in {source}", str(len(found)), "Put those you mean there, or give --slides.")
    return found


def _survey(
    number: int, path: Path, tile: int, min_tissue: float, input_mpp: float | None, mpp_range: tuple[float, float]
) -> _Surveyed:
    with Slide(path, input_mpp) as slide:
        slide.size_at(1)  # raises if the pixel size is unknown
        mpp = slide.mpp or (0.0, 0.0)
        if not all(mpp_range[0] <= n <= mpp_range[1] for n in mpp):
            raise DataError(
                f"a slide at 40x, {mpp_range[0]} to {mpp_range[1]} um per pixel, in {path}",
                f"{mpp[0]:.4g} um",
                "Choose another slide.",
            )
        fractions = tissue_fractions(tissue_mask(slide, margin=0, feather=0), tile)
        tiles = [_Tile(number, int(row), int(column)) for row, column in np.argwhere(fractions >= min_tissue)]
        return _Surveyed(path, checksum(path), mpp, slide.size, tiles)


def _by_tile(surveyed: Sequence[_Surveyed], parts: dict[str, int], seed: int) -> dict[_Tile, str]:
    chosen = _choose(surveyed, sum(parts.values()), seed)
    names = [f"split:{surveyed[n].sha256}:{row}:{column}" for n, row, column in chosen]
    return dict(zip(chosen, assign_folders(names, parts, seed), strict=True))


def _by_slide(surveyed: Sequence[_Surveyed], parts: dict[str, int], seed: int) -> dict[_Tile, str]:
    order = [surveyed[i] for i in hash_order([slide.sha256 for slide in surveyed], seed)]
    groups = {"val": order[:1], "test": order[1:2], "train": order[2:]}
    return {one: part for part in PARTS for one in _choose(groups[part], parts[part], seed)}


def _choose(surveyed: Sequence[_Surveyed], count: int, seed: int) -> list[_Tile]:
    """Draw the same number of tiles from each slide, as far as available."""
    available = [len(slide.tiles) for slide in surveyed]
    if sum(available) < count:
        raise DataError(
            f"{count} tiles with enough tissue in {', '.join(slide.path.name for slide in surveyed)}",
            f"{sum(available)} ({', '.join(map(str, available))})",
            "Choose slides with more tissue, lower --min-tissue, or give fewer in --counts.",
        )
    drawn = [
        [slide.tiles[i] for i in hash_order([f"{slide.sha256}:{row}:{column}" for _, row, column in slide.tiles], seed)]
        for slide in surveyed
    ]
    # Round robin: one tile of each slide, then the next of each slide that has more.
    order = sorted((turn, n) for n, tiles in enumerate(drawn) for turn in range(len(tiles)))
    return [drawn[n][turn] for turn, n in order[:count]]


def _read(path: Path, top: int, left: int, tile: int) -> np.ndarray:
    with Slide(path) as slide:  # opening is cheap beside decoding and writing
        return slide.read(Region(top, left, tile, tile)).transpose(2, 0, 1)


def _about(surveyed: Sequence[_Surveyed], chosen: dict[_Tile, str], job: dict[str, Any]) -> dict[str, Any]:
    slides = [
        {
            "name": slide.path.name if _PUBLIC_NAME.fullmatch(slide.path.name) else None,
            "sha256": slide.sha256,
            "size": slide.size,
            "mpp": slide.mpp,
            "candidates": len(slide.tiles),
            "tiles": dict(Counter(part for one, part in sorted(chosen.items()) if one.slide == number)),
        }
        for number, slide in enumerate(surveyed)
    ]
    return {
        "mpp": round(float(np.mean([slide.mpp for slide in surveyed])), 4),
        "protocol": "iste-rgb",
        "tile": job["tile"],
        "split_by": job["split_by"],
        "source": {"slides": slides, "digest": job["source"]},
    }
