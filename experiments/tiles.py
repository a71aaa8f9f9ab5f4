"""Collection and pixel size of tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from monai_iste.errors import ConfigError, DataError
from monai_iste.io.pixel_size import find_mpp


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
