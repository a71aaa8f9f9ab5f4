"""JSON files, written as a whole; those that an editor or a full disk damaged are read with a sentence.

A *shape* says what a file must hold:

* a type; ``float`` takes whole numbers too, and only ``bool`` takes true and false;
* a tuple of shapes, one of which must fit;
* ``[shape]``: a list of at least one item;
* ``{"name": shape}``: an object that has these keys, and may have others;
* ``{str: shape}``: an object with any keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from monai_iste.errors import DataError
from monai_iste.io.files import open_output

#: What to do about a damaged file of results that a command continues from.
MEASURE_AGAIN = "Restore the file, or remove it: what it held is then measured again."

_NAMES = {
    str: "a text",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
}


class _Misfit(NamedTuple):
    expected: str
    received: str


def read_json(path: Path, shape: Any = object, remedy: str = MEASURE_AGAIN) -> Any:
    """Read a JSON file; None if it does not exist.

    Args:
        shape: what the file must hold, see the module; default: anything.
        remedy: advice for a file that does not, as a sentence.
    Raises:
        DataError: the file cannot be read, is no JSON, or holds something else.
    """
    try:
        if not path.is_file():
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        deep = "nested too deeply" if isinstance(error, RecursionError) else None
        reason = deep or getattr(error, "strerror", None) or str(error)
        raise DataError(f"JSON in {path}", f"a file that is damaged ({reason})", remedy) from error
    return check_shape(found, shape, path, remedy)


def check_shape(value: Any, shape: Any, source: Any, remedy: str = MEASURE_AGAIN) -> Any:
    """Return a value that was read from a file, after a comparison with its shape, see the module.

    Args:
        source: the file, for the message.
        remedy: advice, as a sentence.
    Raises:
        DataError: it has another shape; the message names the place.

    Example:
        >>> check_shape({"rows": [{"psnr": "31"}]}, {"rows": [{"psnr": float}]}, "a.json", "Measure again.")
        Traceback (most recent call last):
        ...
        monai_iste.errors.DataError: Expected a number at rows[0].psnr in a.json, got '31'. Measure again.
    """
    misfit = _misfit(value, shape, "")
    if misfit is not None:
        raise DataError(f"{misfit.expected} in {source}", misfit.received, remedy)
    return value


def _misfit(value: Any, shape: Any, place: str) -> _Misfit | None:
    if isinstance(shape, tuple):
        misfits = [_misfit(value, one, place) for one in shape]
        return None if None in misfits else misfits[0]
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return _Misfit(f"a list of at least one item{_at(place)}", repr(value)[:100])
        parts = [(item, shape[0], f"{place}[{i}]") for i, item in enumerate(value)]
    elif isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return _Misfit(f"an object{_at(place)}", repr(value)[:100])
        wanted = dict.fromkeys(value, shape[str]) if str in shape else shape
        missing = next((name for name in wanted if name not in value), None)
        if missing is not None:
            return _Misfit(f"{missing!r}{_at(place)}", "none")
        parts = [(value[name], inner, f"{place}.{name}".lstrip(".")) for name, inner in wanted.items()]
    else:
        kinds = (int, float) if shape is float else shape
        fits = isinstance(value, kinds) and (shape in (bool, object) or not isinstance(value, bool))
        return None if fits else _Misfit(f"{_NAMES[shape]}{_at(place)}", repr(value)[:100])
    return next((misfit for part in parts if (misfit := _misfit(*part)) is not None), None)


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, replacing an existing file; it appears only when complete.

    Raises:
        OutputError: it cannot be written.
    """
    with open_output(path, overwrite=True) as file:
        file.write(json.dumps(value, indent=1).encode() + b"\n")
