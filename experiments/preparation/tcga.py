"""TCGA: 400 tiles of 3072 x 3072 pixels from five slides at 40x, split 320 / 40 / 40.

Paper silent: which slides, where the tiles lie, and whether the split goes by slide. Here the user names the slides,
and the tiles lie on a grid and are drawn with a seed from those with enough tissue.
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
from monai_iste.io.image_reader import SLIDE_ENDINGS
from monai_iste.io.pixel_size import Mpp
from monai_iste.slides.reader import Slide
from monai_iste.slides.tissue import TissueMask, tissue_mask

#: Tiles for training, validation and test, their side in pixels, and the number of slides (the paper).
COUNTS, TILE, SLIDES = (320, 40, 40), 3072, 5

#: What counts as 40x, in micrometers per pixel.
MPP_RANGE = (0.2, 0.3)

# Points of a tile at which the mask is asked: a share to within 0.01 for tiles of 3072.
_PROBES = 32

# Names under which the Genomic Data Commons publishes slides: they name no person, and the slide can be had by them.
_PUBLIC_NAME = re.compile(r"TCGA-\w{2}-\w{4}-\d\d[A-Z]-\d\d-(TS|BS|DX)\w+(\.[0-9A-F-]{36})?\.svs", re.IGNORECASE)


class _Tile(NamedTuple):
    """A tile of the grid: number of its slide, row and column."""

    slide: int
    row: int
    column: int


class _Surveyed(NamedTuple):
    """A slide: its file and hash, pixel size, and the tiles that have enough tissue."""

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

    Candidates are the tiles of a grid from the upper left corner of level 0 of which at least ``min_tissue`` is tissue
    (:func:`tissue_shares`); they do not overlap. Each slide gives the same number, drawn with the seed; what a
    slide cannot give, the others do.

    With ``split_by="tile"``, the paper's numbers are met, but tiles of one slide then stand on both sides, so that
    a network is measured on slides that it has seen. With ``"slide"``, one slide is for validation, one for test,
    the rest for training; name slides of different patients then.

    Args:
        source: a folder with the slides, in it or its subfolders.
        root: see :func:`~experiments.preparation.output_folder.fill_folder`.
        seed: of the choice and the split.
        counts: tiles of train, val and test.
        slides: how many the folder must hold.
        tile: side of a tile, pixels.
        min_tissue: least share of a tile that is tissue, in (0, 1].
        split_by: "tile" or "slide".
        input_mpp: micrometers per pixel, if the slides do not state it.
        mpp_range: the pixel sizes that are accepted.
        quiet: no progress bar.
    Returns:
        the manifest. It names a slide only if that is one of TCGA's public names.
    Raises:
        DataError: another number of slides, an unreadable one, another pixel size, or too few tiles with tissue.
        OutputError: see :func:`~experiments.preparation.output_folder.fill_folder`. ConfigError: an option.
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


def tissue_shares(mask: TissueMask, tile: int) -> np.ndarray:
    """The share of each whole tile of a slide that is tissue.

    The mask is asked at 32 x 32 points of the tile; a point counts where its weight is above one half. That is so up
    to about three of the mask's samples, 25 um, beyond the tissue.

    Shape:
        returns (rows, columns), without the incomplete tiles at the right and lower edge.
    Units: shares in [0, 1].

    Example:
        >>> tissue_shares(TissueMask(np.array([[0, 255]], np.uint8), (64, 128)), 64).tolist()
        [[0.0, 1.0]]
    """
    rows, columns = (n // tile for n in mask.size)
    points = (torch.arange(_PROBES, dtype=torch.float64) + 0.5) * (tile / _PROBES) - 0.5
    x = (torch.arange(columns, dtype=torch.float64)[:, None] * tile + points).flatten()
    shares = np.empty((rows, columns))
    for row in range(rows):
        tissue = mask.weight(points + row * tile, x) > 0.5
        shares[row] = tissue.reshape(_PROBES, columns, _PROBES).double().mean((0, 2)).numpy()
    return shares


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
    found = sorted(path for path in source.rglob("*") if path.name.lower().endswith((*SLIDE_ENDINGS, ".tif", ".tiff")))
    if len(found) != count:
        raise DataError(f"{count} slides in {source}", str(len(found)), "Put those you mean there, or give --slides.")
    return found


def _survey(
    number: int, path: Path, tile: int, min_tissue: float, input_mpp: float | None, mpp_range: tuple[float, float]
) -> _Surveyed:
    with Slide(path, input_mpp) as slide:
        slide.size_at(1)  # says what to do where the pixel size is unknown
        mpp = slide.mpp or (0.0, 0.0)
        if not all(mpp_range[0] <= n <= mpp_range[1] for n in mpp):
            raise DataError(
                f"a slide at 40x, {mpp_range[0]} to {mpp_range[1]} um per pixel, in {path}",
                f"{mpp[0]:.4g} um",
                "Choose another slide.",
            )
        shares = tissue_shares(tissue_mask(slide, margin=0, feather=0), tile)
        tiles = [_Tile(number, int(row), int(column)) for row, column in np.argwhere(shares >= min_tissue)]
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
    """As many tiles of each slide as the others, as far as it has them."""
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
    # Dealt like cards: first one of each slide, then the next of each that still has some.
    dealt = sorted((turn, n) for n, tiles in enumerate(drawn) for turn in range(len(tiles)))
    return [drawn[n][turn] for turn, n in dealt[:count]]


def _read(path: Path, top: int, left: int, tile: int) -> np.ndarray:
    with Slide(path) as slide:  # opening takes a fraction of what decoding and writing do
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
