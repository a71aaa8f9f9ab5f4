"""Tables that come with a data set: CSV files, and the files that they name."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_iste.errors import DataError

#: What GlaS says of a tile; the label of the stand-in for PCam is the position.
GRADES = ("benign", "malignant")


def require_folder(root: str | os.PathLike[str]) -> Path:
    """A folder, or a DataError that it is none."""
    folder = Path(root)
    if not folder.is_dir():
        raise DataError("the folder of a data set", f"{folder}, which is none", "Check the path.")
    return folder


def read_rows(file: Path) -> list[list[str]]:
    """All rows of a table in UTF-8, its header first."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as text:
            return list(csv.reader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"a table in {file}", f"an unreadable one ({error})", "Copy it again.") from error


def read_records(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table below its header, which must name these columns."""
    header, *rows = [row for row in read_rows(file) if row] or [[]]
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(f"the columns {', '.join(columns)} in {file}", f"none called {missing[0]}", "Check its header.")
    if not rows or any(len(row) != len(header) for row in rows):
        raise DataError(f"rows of {len(header)} columns in {file}", "none, or shorter ones", "Copy it again.")
    return [dict(zip(header, row, strict=True)) for row in rows]


def look_up(value: str, meanings: Mapping[str, str], file: Path) -> str:
    """What a cell of the table means, or a DataError that names the cells that are known."""
    if value not in meanings:
        raise DataError(f"one of {', '.join(meanings)} in {file}", repr(value), "Correct the table.")
    return meanings[value]


def find_beside(table: Path, name: str) -> str:
    """A file that a table names, from the table's folder or the one above."""
    return str(next((file for file in (table.parent / name, table.parent.parent / name) if file.is_file()), name))
