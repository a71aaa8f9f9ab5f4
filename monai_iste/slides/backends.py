"""Opening of slide files, by OpenSlide or as plain images, and the checks before anything is decoded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from operator import add
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import openslide
import tifffile
from monai.data.wsi_reader import WSIReader

from monai_iste.errors import DataError
from monai_iste.io.image_reader import IMAGE_SUFFIXES, MAX_PIXELS, probe, read_rgb
from monai_iste.io.pixel_size import PixelSize, find_mpp, is_tiff
from monai_iste.io.tiff_pages import main_image
from monai_iste.slides.resampling import Size

#: Largest width * height that a slide may declare; a slide of 26 x 76 mm at 0.12 um/px has 137 gigapixels.
MAX_SLIDE_PIXELS = 150_000_000_000

# Largest tile of a TIFF, which is decoded as a whole: 8192 x 8192, 270 MB. Scanners write tiles of up to 2048.
_MAX_TILE_PIXELS = 2**26

# Largest number of pixels per byte of a file. The best compression is zstd on one color, 128 KiB in 4 bytes: 11,000 RGB
# or 33,000 gray pixels a byte (deflate: 344, JPEG: 500). A tile of 512 x 512 that is not stored at all still has 6
# bytes in the directory of its TIFF: 43,690. So empty background passes, and a few bytes that claim terabytes do not.
_MAX_PIXELS_PER_BYTE = 50_000

# Formats in which OpenSlide converts any TIFF to RGB, fluorescence too.
_DECLARED_BY_TIFF = ("generic-tiff", "aperio")


class Pixels(Protocol):
    """Interface of an opened file, addressed in pixels of level 0.

    Attributes:
        levels: (h, w) of each level, from the largest to the smallest.
        steps: distance between adjacent pixels of each level, in level-0 pixels.
        note: sentence for the user where not the first page of a TIFF is read.
    """

    levels: tuple[Size, ...]
    steps: tuple[float, ...]
    note: str

    def read(self, level: int, start: Size, size: Size) -> np.ndarray:
        """Read ``size`` (height, width) of a level, from the level-0 pixel ``start`` (y, x) on.

        Shape:
            returns (height, width, 3) uint8, which may be a view.
        """

    def pixel_size(self) -> PixelSize:
        """Read the pixel size that the file states."""

    def icc(self) -> bytes | None:
        """Read the RGB color profile."""

    def close(self) -> None:
        """Close the file; further calls do nothing."""


def open_pixels(path: Path) -> Pixels:
    """Open a slide with OpenSlide, or an image that OpenSlide does not know or would misread in memory.

    The declared size is checked before anything is decoded. A tiled TIFF is checked for truncation, which would
    otherwise show hours later.

    Raises:
        DataError: the file is missing, empty, truncated, larger than :data:`MAX_SLIDE_PIXELS`, too small for the
            declared size, or neither a slide nor an RGB image.
    """
    _check_file(path)
    header = _tiff_header(path)
    if header is not None:
        _check_size(path, header.size, single_file=True)
        _check_whole(path, header)
    vendor = openslide.OpenSlide.detect_format(path)
    if vendor == "generic-tiff" and header is not None and not header.is_first:
        vendor = None  # OpenSlide would show the first page
    if vendor is not None and (header is None or header.is_rgb or vendor not in _DECLARED_BY_TIFF):
        return _OpenSlidePixels(path)
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise DataError(
            f"a slide that OpenSlide reads, or an image ({', '.join(IMAGE_SUFFIXES)})", str(path), "Convert it to TIFF."
        )
    if header is not None and header.is_rgb and math.prod(header.size) > MAX_PIXELS:
        raise DataError(
            f"regions that OpenSlide reads in {path}, because it has more than {MAX_PIXELS:,} pixels",
            f"{header.size[0]} x {header.size[1]} pixels that must be decoded at once",
            "Convert it to a tiled 8-bit RGB TIFF.",
        )
    return _ImagePixels(path)


class _OpenSlidePixels:
    """Slide that is read by MONAI through OpenSlide; both are thread-safe."""

    note = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = WSIReader(backend="openslide", channel_dim=-1, mode="RGBA")
        try:
            slide: openslide.OpenSlide = self._reader.read(str(path))
        except openslide.OpenSlideError as error:
            raise DataError(
                f"a readable slide in {path}",
                f"a damaged or incomplete one ({_one_line(error)})",
                "Copy it again, with the files that belong to it.",
            ) from error
        self._slide: openslide.OpenSlide | None = slide
        self.levels = tuple((height, width) for width, height in slide.level_dimensions)
        self.steps = tuple(slide.level_downsamples)
        self.properties: Mapping[str, str] = dict(slide.properties)
        self._background = _background(self.properties)
        try:
            _check_size(path, self.levels[0], single_file=False)
            _check_tiles(path, self.properties, len(self.levels))
        except DataError:
            self.close()
            raise

    def read(self, level: int, start: Size, size: Size) -> np.ndarray:
        slide = self._slide
        if slide is None:
            raise _closed(self._path)
        try:
            rgba, _ = self._reader.get_data(slide, location=start, size=size, level=level)
        except openslide.OpenSlideError as error:
            raise DataError(
                f"readable pixels in {self._path}",
                f"an error in the {size[0]} x {size[1]} pixels from row {start[0]}, column {start[1]} of level 0 on, "
                f"at level {level} ({_one_line(error)})",
                "The slide reads nothing more until it is opened again; if that fails too, copy its file again.",
            ) from error
        return _over(rgba, self._background)

    def pixel_size(self) -> PixelSize:
        return find_mpp(self._path, properties=self.properties)

    def icc(self) -> bytes | None:
        with suppress(openslide.OpenSlideError, OSError):  # OSError: Pillow does not understand it
            profile = None if self._slide is None else self._slide.color_profile
            icc = b"" if profile is None else profile.tobytes()
            if icc[16:20] == b"RGB ":
                return icc
        return None

    def close(self) -> None:
        slide, self._slide = self._slide, None
        if slide is not None:
            slide.close()


class _ImagePixels:
    """Plain image, decoded at the first reading and kept in memory."""

    def __init__(self, path: Path) -> None:
        self._info = probe(path)
        size, self.note = self._info.size, self._info.note
        _check_size(path, size, single_file=True)
        self._path, self._lock = path, Lock()
        self._decoded: np.ndarray | None = None
        self._is_open = True
        self.levels: tuple[Size, ...] = (size,)
        self.steps: tuple[float, ...] = (1.0,)

    def read(self, level: int, start: Size, size: Size) -> np.ndarray:
        with self._lock:  # two threads would decode it twice
            if not self._is_open:
                raise _closed(self._path)
            if self._decoded is None:
                self._decoded = self._decode()
            return self._decoded[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]

    def _decode(self) -> np.ndarray:
        pixels = read_rgb(self._path).transpose(1, 2, 0)
        if pixels.shape[:2] != self.levels[0]:
            raise DataError(f"{self._path} as it was opened", "an image of another size", "Open it again.")
        return np.ascontiguousarray(pixels)

    def pixel_size(self) -> PixelSize:
        return self._info.pixel_size

    def icc(self) -> bytes | None:
        return self._info.icc

    def close(self) -> None:
        self._is_open, self._decoded = False, None


def _background(properties: Mapping[str, str]) -> np.ndarray:
    color = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "")
    known = re.fullmatch("[0-9A-Fa-f]{6}", color)
    return np.frombuffer(bytes.fromhex(color if known else "ffffff"), np.uint8)


def _over(rgba: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Composite (h, w, 4) over a background color to (h, w, 3); a view where nothing is transparent."""
    opacity = rgba[..., 3:]
    if opacity.min() == 255:
        return rgba[..., :3]
    opacity = opacity.astype(np.uint16)  # 255 * 255 + 127 fits
    return ((rgba[..., :3] * opacity + background * (255 - opacity) + 127) // 255).astype(np.uint8)


# --- checks -----------------------------------------------------------------------------------------------------------


class _TiffHeader(NamedTuple):
    """Header of a TIFF.

    Attributes:
        size: (H, W).
        is_rgb: whether it is one RGB image of integers.
        end: end of its last tile in bytes.
        is_first: whether its first page is the image.
    """

    size: Size
    is_rgb: bool
    end: int
    is_first: bool


def _tiff_header(path: Path) -> _TiffHeader | None:
    """Read the header of a TIFF; None for other files, and for damaged ones, which their reader will report."""
    if not is_tiff(path):
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            page, levels, is_stack, note = main_image(tiff)
            color = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
            tiled = [level.keyframe for level in levels if level.keyframe.is_tiled]
            ends = (max(map(add, part.dataoffsets, part.databytecounts)) for part in tiled)
            return _TiffHeader(
                (page.imagelength, page.imagewidth),
                not is_stack and color and page.dtype in (np.uint8, np.uint16),  # 16 bits: rounded as by read_rgb
                max(ends, default=0),
                not note,
            )
    except Exception:  # a damaged header raises various errors
        return None


def _check_file(path: Path) -> None:
    if not path.exists():
        raise DataError("a slide or an image file", f"{path}, which does not exist", "Check the path.")
    if path.is_dir():
        raise DataError("a slide or an image file", f"the folder {path}", "Name a file in it.")
    if path.stat().st_size == 0:
        raise DataError("a slide or an image file", f"{path}, which is empty", "Copy or export it again.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"a file that may be read, {path}", error.strerror or str(error), "Ask its owner.") from error


def _check_size(path: Path, size: Size, single_file: bool) -> None:
    pixels, nbytes = math.prod(size), path.stat().st_size
    if pixels > MAX_SLIDE_PIXELS:
        raise DataError(f"at most {MAX_SLIDE_PIXELS:,} pixels in {path}", _claim(size), "Cut it into parts.")
    if single_file and pixels > _MAX_PIXELS_PER_BYTE * nbytes:
        raise DataError(
            f"at most {_MAX_PIXELS_PER_BYTE:,} pixels for each of the {nbytes:,} bytes of {path}",
            _claim(size),
            "It is damaged or made to fill the memory; copy it again if it should be whole.",
        )


def _check_tiles(path: Path, properties: Mapping[str, str], levels: int) -> None:
    for level in range(levels):
        names = (f"openslide.level[{level}].tile-{side}" for side in ("height", "width"))
        tile = [int(properties.get(name, "0")) for name in names]
        if math.prod(tile) > _MAX_TILE_PIXELS:
            raise DataError(
                f"tiles of at most {_MAX_TILE_PIXELS:,} pixels in {path}",
                f"tiles of {tile[0]} x {tile[1]} (H x W)",
                "Convert it to tiles of 512 x 512.",
            )


def _check_whole(path: Path, header: _TiffHeader) -> None:
    nbytes = path.stat().st_size
    if header.end > nbytes:
        raise DataError(
            f"{header.end:,} bytes in {path}", f"a file that was cut short at {nbytes:,}", "Copy or export it again."
        )


def _claim(size: Size) -> str:
    return f"a header that claims {size[0]} x {size[1]} (H x W)"


def _closed(path: Path) -> DataError:
    return DataError(f"the slide {path} to be open", "one that was closed", "Read inside its with block.")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
