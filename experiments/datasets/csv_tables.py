"""CSV files of data sets, and the files that they refer to."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_iste.errors import DataError

#: Grades of GlaS tiles; the index is the label in the substitute for PCam.
GRADES = ("benign", "malignant")


def require_folder(root: str | os.PathLike[str]) -> Path:
    """Return the folder as a path; raise DataError if it does not exist."""
    folder = Path(root)
    if not folder.is_dir():
        raise DataError("the folder of a data set", f"{folder}, which is not a folder", "Check the path.")
    return folder


def read_rows(file: Path) -> list[list[str]]:
    """Read all rows of a UTF-8 CSV file, header first.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as text:
            rows = list(csv.reader(text, strict=True))
        if any("\0" in cell for row in rows for cell in row):  # a crash leaves them
            raise csv.Error("zeros instead of text")
        return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"a table in {file}", f"an unreadable file ({error})", "Copy it again.") from error


def read_records(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file as dictionaries; its header must have these columns."""
    header, *rows = [row for row in read_rows(file) if row] or [[]]
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(
            f"the columns {', '.join(columns)} in {file}", f"a header without {missing[0]}", "Check its header."
        )
    if not rows or any(len(row) != len(header) for row in rows):
        raise DataError(
            f"rows of {len(header)} columns in {file}", "no rows, or rows of another length", "Copy it again."
        )
    return [dict(zip(header, row, strict=True)) for row in rows]


def look_up(value: str, meanings: Mapping[str, str], file: Path) -> str:
    """Translate the value of a cell; raise DataError with the valid values if it is unknown."""
    if value not in meanings:
        raise DataError(f"one of {', '.join(meanings)} in {file}", repr(value), "Correct the table.")
    return meanings[value]


def find_beside(table: Path, name: str) -> str:
    """Find a file that a CSV file refers to, in the same folder or its parent."""
    return str(next((file for file in (table.parent / name, table.parent.parent / name) if file.is_file()), name))
