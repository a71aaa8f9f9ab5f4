"""Collection, case and pixel size of tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.datasets.csv_tables import read_rows
from monai_iste.errors import ConfigError, DataError
from monai_iste.io.pixel_size import find_mpp

#: Table of tiles, in their folder or in the one above.
TABLE = "manifest.csv"

#: Columns of the table that name the case of a tile; the first that exists counts.
_CASES = ("case", "patient")


def source_of(name: str) -> str:
    """Return the collection of a tile: its subfolder, else its file name up to the first underscore.

    Args:
        name: name of the tile in its data list.

    Example:
        >>> source_of("glas_testA_1"), source_of("lung/tile_7"), source_of("tile")
        ('glas', 'lung', 'tile')
    """
    folder, _, _ = name.partition("/")
    return folder if folder != name else name.partition("_")[0]


def pixel_sizes(items: Sequence[Mapping[str, Any]], mpp: str | None = None) -> dict[str, float]:
    """Find the pixel size of every tile, in micrometers, by its name.

    Args:
        items: items of :func:`monai_iste.data.image_datalist`.
        mpp: one number for all tiles, or one per collection (:func:`source_of`), ``glas=0.62,monuseg=0.25``; None
            reads it from the files (:func:`monai_iste.io.pixel_size.find_mpp`).
    Raises:
        ConfigError: ``mpp`` has another form, or a number is not above 0.
        DataError: the pixel size of a tile is unknown.

    Example:
        >>> pixel_sizes([{"image": "glas_1.png", "name": "glas_1"}], "glas=0.62,lung=0.5")
        {'glas_1': 0.62}
    """
    given = _given(mpp or "")
    found = {}
    for item in items:
        size = find_mpp(item["image"], given.get(source_of(item["name"]), given.get(""))).mpp
        if size is None:
            raise DataError(
                f"the pixel size of {item['image']}",
                "a file that does not state it",
                f"Give it: --mpp 0.5, or --mpp {source_of(item['name'])}=0.5,... for each collection.",
            )
        found[item["name"]] = math.sqrt(size[0] * size[1])
    return found


def _given(text: str) -> dict[str, float]:
    """Parse the option to a number per collection; the empty key is for all others."""
    try:
        words = (word.rpartition("=") for word in text.split(",") if word)
        return {source.strip(): float(number) for source, _, number in words}
    except ValueError as error:
        raise ConfigError("--mpp 0.5 or --mpp glas=0.62,lung=0.5", repr(text), "Give micrometers per pixel.") from error


def label_tiles(items: Sequence[Mapping[str, Any]], folder: Path, name: str = "") -> list[dict[str, str]]:
    """Find the case, the organ and the source of every tile of a folder.

    They are those of a table ``manifest.csv``, in the folder or in the one above, with the columns ``file`` and
    ``case`` (or ``patient``), and if known ``organ`` and ``source``. Every tile must then be in it. Without a table
    every tile is a case of its own, and its source is :func:`source_of` its name.

    Args:
        items: items of :func:`monai_iste.data.image_datalist`.
        folder: folder that they are in.
        name: source of tiles for which the table has none.
    Returns:
        per tile ``source``, ``organ`` and ``case``; what is not known is empty.
    Raises:
        DataError: a tile is not in the table, or twice, or the table cannot be read.
    """
    table = _read_table(folder)
    return [_labels(item, name, folder, table) for item in items]


def _read_table(folder: Path) -> dict[str, dict[str, str]] | None:
    """Read the table of a folder by paths relative to the folder of the table; None if there is none."""
    for place in (folder, folder.resolve().parent):
        file = place / TABLE
        if not file.is_file():
            continue
        header, *rows = [row for row in read_rows(file) if row] or [[]]
        if not header:
            remedy = "Restore it, or remove it: every tile is then a case of its own."
            raise DataError(f"a table of tiles in {file}", "an empty file", remedy)
        case = next((column for column in _CASES if column in header), None)
        if "file" not in header or case is None:
            continue  # a file of that name, but no table of tiles
        table: dict[str, dict[str, str]] = {}
        for row in (dict(zip(header, cells, strict=False)) for cells in rows):
            if "file" not in row:
                raise DataError(f"rows with the column file in {file}", f"a row of {len(row)} cells", "Restore it.")
            key = str((place / row["file"]).resolve())
            if key in table:
                raise DataError(f"each tile once in {file}", f"{row['file']} twice", "Remove one of its lines.")
            table[key] = {**row, "case": row.get(case, "")}
        return table
    return None


def _labels(
    item: Mapping[str, Any], name: str, folder: Path, table: Mapping[str, Mapping[str, str]] | None
) -> dict[str, str]:
    if table is None:
        return {"source": source_of(item["name"]), "organ": "", "case": item["name"]}
    row = table.get(str(Path(item["image"]).resolve()))
    if row is None or not row["case"]:
        raise DataError(
            f"every tile of {folder} with its case in {TABLE}", f"{item['image']}, without", "Add it, or move the tile."
        )
    return {"source": row.get("source") or name, "organ": row.get("organ") or "", "case": row["case"]}
