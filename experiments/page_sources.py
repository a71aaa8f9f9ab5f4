"""Files of scores that pages have their numbers from, and choice of rows from them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_iste.errors import DataError
from monai_iste.io.json_files import read_json

#: Row of a file of scores: texts of a CSV file, values of a JSON file.
Row = Mapping[str, Any]

#: Contents of a file: the rows of a CSV file, anything of a JSON file.
Source = Any

#: Makes the lines of a table, the header first, or the phrases of a paragraph, from files of scores and words.
Maker = Callable[..., Sequence[Any]]

#: Makers of tables, by the name that comments have.
TABLES: dict[str, Maker] = {}

#: Makers of phrases that a paragraph or list must have, by the name that comments have.
PHRASES: dict[str, Maker] = {}


def table(maker: Maker) -> Maker:
    """Register a maker of tables under the name of the function."""
    TABLES[maker.__name__] = maker
    return maker


def phrases(maker: Maker) -> Maker:
    """Register a maker of phrases under the name of the function."""
    PHRASES[maker.__name__] = maker
    return maker


def read_source(file: Path) -> Source:
    """Read a file of scores, CSV or JSON.

    Raises:
        DataError: the file does not exist, or is neither.
    """
    if file.suffix == ".json" and (content := read_json(file, remedy="Measure again.")) is not None:
        return content
    try:
        if file.suffix == ".csv":
            with file.open(newline="", encoding="utf-8") as lines:
                return list(csv.DictReader(lines, strict=True))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, csv.Error) as error:
        raise DataError("a file of scores, CSV or JSON", f"{file.name} ({error})", "Measure again.") from error
    raise DataError("an existing file of scores, CSV or JSON", file.name, "Correct its name.")


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Choose the rows with these values; numbers are compared as numbers.

    Example:
        >>> select([{"scale": "2.0", "psnr": "31.2"}, {"scale": "3", "psnr": "28.1"}], scale=2)
        [{'scale': '2.0', 'psnr': '31.2'}]
    """

    def fits(row: Row, key: str, value: Any) -> bool:
        found = row[key]
        if isinstance(value, str):
            return bool(found == value)
        return found not in ("", None) and float(found) == value

    return [row for row in rows if all(fits(row, key, value) for key, value in wanted.items())]


def one(rows: Iterable[Row], **wanted: Any) -> Row:
    """Choose the only row with these values.

    Raises:
        DataError: there is none, or more than one.
    """
    found = select(rows, **wanted)
    if len(found) != 1:
        what = ", ".join(f"{key} {value}" for key, value in wanted.items())
        raise DataError(f"one row with {what}", str(len(found)), "Correct the comment, or measure again.")
    return found[0]


def number(row: Row, key: str) -> float:
    """Return the number in a column.

    Raises:
        DataError: there is none.
    """
    try:
        return float(row[key])
    except (TypeError, ValueError) as error:
        raise DataError(f"a number in the column {key}", repr(row[key]), "Measure again.") from error


def signed(value: float, digits: int = 2) -> str:
    """Format with a sign; what rounds to zero has none but the plus.

    Example:
        >>> signed(0.256), signed(-0.004), signed(-0.5)
        ('+0.26', '+0.00', '-0.50')
    """
    text = f"{value:+.{digits}f}"
    return text.replace("-", "+") if float(text) == 0 else text


def interval(row: Row, key: str) -> str:
    """Format a difference with its interval: ``+0.33 (+0.25 to +0.38)``."""
    mean, low, high = (signed(number(row, f"{key}{end}")) for end in ("", "_low", "_high"))
    return f"{mean} ({low} to {high})"
