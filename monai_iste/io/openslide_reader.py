"""Reading of regions of slides through OpenSlide."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import openslide

from monai_iste.errors import DataError
from monai_iste.io.byte_cache import ByteCache
from monai_iste.io.checks import MAX_TILE_PIXELS, check_size, check_slide_size
from monai_iste.io.pixel_size import PixelSize, find_mpp
from monai_iste.io.samples import over_background

Size = tuple[int, int]

#: Bytes of the decoded tiles that OpenSlide keeps, of all open slides together.
TILE_CACHE_BYTES = 2**26


class OpenSlidePixels:
    """Slide that OpenSlide reads; safe to read from several threads.

    Where it has no pixels, its background color is returned, white if it states none. All slides share one cache of
    :data:`TILE_CACHE_BYTES`.

    Args:
        kind: as in :class:`~monai_iste.io.image_reader.ImageInfo`; "tiff" for slides that are one file.
    Raises:
        DataError: OpenSlide cannot open it, or its tiles are too large.
    """

    note = ""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self.kind = path, kind
        try:
            slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise DataError(
                f"a readable slide in {path}",
                f"a damaged or incomplete one ({_one_line(error)})",
                "Copy it again, with the files that belong to it.",
            ) from error
        slide.set_cache(_shared_tiles())
        self.cache = ByteCache(0)  # not used: OpenSlide's is
        self._slide: openslide.OpenSlide | None = slide
        self.levels: tuple[Size, ...] = tuple((height, width) for width, height in slide.level_dimensions)
        self.steps: tuple[float, ...] = tuple(slide.level_downsamples)
        self.properties: Mapping[str, str] = dict(slide.properties)
        self._background = _background(self.properties)
        try:
            (check_size if kind == "tiff" else check_slide_size)(path, self.levels[0])
            _check_tiles(path, self.properties, len(self.levels))
        except DataError:
            self.close()
            raise

    def read(self, level: int, start: Size, size: Size) -> np.ndarray:
        slide = self._slide
        if slide is None:
            raise DataError(f"the slide {self._path} to be open", "one that was closed", "Read inside its with block.")
        try:
            rgba = np.asarray(slide.read_region(start[::-1], level, size[::-1]))
        except openslide.OpenSlideError as error:
            raise DataError(
                f"readable pixels in {self._path}",
                f"an error in the {size[0]} x {size[1]} pixels from row {start[0]}, column {start[1]} of level 0 on, "
                f"at level {level} ({_one_line(error)})",
                "The slide reads nothing more until it is opened again; if that fails too, copy its file again.",
            ) from error
        return over_background(rgba, self._background)

    def pixel_size(self) -> PixelSize:
        return find_mpp(self._path, properties=self.properties)

    def icc(self) -> bytes | None:
        with suppress(openslide.OpenSlideError, OSError):  # OSError: Pillow does not understand it
            profile = None if self._slide is None else self._slide.color_profile
            return None if profile is None else profile.tobytes()
        return None

    def close(self) -> None:
        slide, self._slide = self._slide, None
        if slide is not None:
            slide.close()


@lru_cache(maxsize=1)
def _shared_tiles() -> openslide.OpenSlideCache:
    return openslide.OpenSlideCache(TILE_CACHE_BYTES)


def _background(properties: Mapping[str, str]) -> np.ndarray:
    color = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "")
    known = re.fullmatch("[0-9A-Fa-f]{6}", color)
    return np.frombuffer(bytes.fromhex(color if known else "ffffff"), np.uint8)


def _check_tiles(path: Path, properties: Mapping[str, str], levels: int) -> None:
    for level in range(levels):
        names = (f"openslide.level[{level}].tile-{side}" for side in ("height", "width"))
        tile = [int(properties.get(name, "0")) for name in names]
        if math.prod(tile) > MAX_TILE_PIXELS:
            raise DataError(
                f"tiles of at most {MAX_TILE_PIXELS:,} pixels in {path}",
                f"tiles of {tile[0]} x {tile[1]} (H x W)",
                "Convert it to tiles of 512 x 512.",
            )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
