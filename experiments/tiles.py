"""What is known of tiles beside their pixels: the collection that they come from, and their pixel size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from monai_iste.errors import ConfigError, DataError
from monai_iste.io.pixel_size import find_mpp


def source_of(name: str) -> str:
    """The collection that a tile comes from: its subfolder, else its file name up to the first underscore.

    Args:
        name: of the tile in its data list.

    Example:
        >>> source_of("glas_testA_1"), source_of("lung/tile_7"), source_of("tile")
        ('glas', 'lung', 'tile')
    """
    folder, _, _ = name.partition("/")
    return folder if folder != name else name.partition("_")[0]


def pixel_sizes(items: Sequence[Mapping[str, Any]], mpp: str | None = None) -> dict[str, float]:
    """Micrometers per pixel of every tile, by its name.

    Args:
        items: of :func:`monai_iste.data.image_datalist`.
        mpp: a number for all of them, or one for each collection (:func:`source_of`), ``glas=0.62,monuseg=0.25``;
            None asks the files themselves (:func:`monai_iste.io.pixel_size.find_mpp`).
    Raises:
        ConfigError: not of this form, or a number not above 0. DataError: the pixel size of a tile is unknown.

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
                "none in it",
                f"Give it: --mpp 0.5, or --mpp {source_of(item['name'])}=0.5,... for each collection.",
            )
        found[item["name"]] = math.sqrt(size[0] * size[1])
    return found


def _given(text: str) -> dict[str, float]:
    """By collection; under no name for all others."""
    try:
        words = (word.rpartition("=") for word in text.split(",") if word)
        return {source.strip(): float(number) for source, _, number in words}
    except ValueError as error:
        raise ConfigError("--mpp 0.5 or --mpp glas=0.62,lung=0.5", repr(text), "Give micrometers per pixel.") from error
