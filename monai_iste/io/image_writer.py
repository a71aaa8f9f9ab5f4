"""Writing of images to files, row by row, with color profile and pixel size.

A file appears under its name only when it is complete.
"""

from __future__ import annotations

import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image

from monai_iste.errors import OutputError
from monai_iste.io.files import check_name, check_writable, open_output
from monai_iste.io.pixel_size import Mpp
from monai_iste.io.seal import Fields

#: Largest width * height of a file; PNG and TIFF are written in bands, so only the disk limits them otherwise.
MAX_FILE_PIXELS = 20_000_000_000

#: A pixel size below this, in micrometers, is left out: PNG's count of pixels per meter ends there.
FINEST_MPP = 5e-4

_TIFF_TILE = 256
_JPEG_SIDE = 65_500
_JPEG_PIXELS = 500_000_000  # 1.5 GB: a JPEG is encoded from memory

Size = tuple[int, int]
Bands = Iterable[np.ndarray]


def save_image(
    path: str | os.PathLike[str],
    bands: Bands,
    size: Size,
    *,
    mpp: Mpp | None = None,
    icc: bytes | None = None,
    overwrite: bool = False,
    seal: Fields | None = None,
) -> None:
    """Write an 8-bit RGB image: PNG, tiled TIFF (deflate; BigTIFF above 4 GB) or JPEG (quality 95, full color).

    PNG and TIFF are written as the bands come, so that memory stays flat; a JPEG is collected first.

    Args:
        path: ends in one of :data:`WRITABLE_SUFFIXES`.
        bands: the rows from top to bottom, in portions of any height, each (rows, W, 3) uint8.
        size: (H, W) of the whole image.
        mpp: micrometers per pixel, (y, x): TIFF resolution tags, PNG pHYs, JPEG Exif.
        icc: color profile.
        overwrite: whether an existing file is replaced.
        seal: fields by which the file is recognized later (:mod:`monai_iste.io.seal`).
    Raises:
        OutputError: see :func:`check_output`, or writing failed; the path is as it was before.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> save_image(file, [np.zeros((2, 5, 3), np.uint8), np.zeros((1, 5, 3), np.uint8)], (3, 5))
        >>> Image.open(file).size
        (5, 3)
    """
    path = Path(path)
    check_output(path, size, overwrite)
    if mpp is not None and min(mpp) < FINEST_MPP:
        mpp = None
    with open_output(path, overwrite, seal) as file:
        _WRITERS[path.suffix.lower()](file, bands, size, mpp, icc)


def check_output(path: str | os.PathLike[str], size: Size, overwrite: bool = False) -> None:
    """Check name, format, folder and free disk space of an output before any work.

    Args:
        size: (H, W) of the image to be written.
    Raises:
        OutputError: names the obstacle.
    """
    path, (height, width) = Path(path), size
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise OutputError(f"an output that ends in {', '.join(_WRITERS)}", str(path), "TIFF holds any size.")
    check_name(path, overwrite)
    if not os.path.isdir(path.parent):
        raise OutputError("an existing folder for the output", str(path.parent), "Make it first.")
    check_writable(path)
    if suffix.startswith(".jp") and (max(size) > _JPEG_SIDE or height * width > _JPEG_PIXELS):
        raise OutputError(
            f"at most {_JPEG_SIDE:,} pixels a side and {_JPEG_PIXELS:,} in all in a JPEG",
            f"{height:,} x {width:,} (H x W)",
            "Write TIFF or PNG.",
        )
    # Uncompressed, which nothing exceeds by much; how far an image will shrink is not known before it is made.
    needed, free = 3 * height * width, shutil.disk_usage(path.parent).free
    if needed > free:
        raise OutputError(
            f"up to {needed / 1e9:,.3g} GB of free space for {path}",
            f"{free / 1e9:,.3g} GB",
            "Free disk space, or choose a disk.",
        )


# --- the three formats ------------------------------------------------------------------------------------------------


def _write_tiff(file: BinaryIO, bands: Bands, size: Size, mpp: Mpp | None, icc: bytes | None) -> None:
    resolution: dict[str, Any] = {}
    if mpp is not None:
        resolution = {"resolution": (1e4 / mpp[1], 1e4 / mpp[0]), "resolutionunit": "CENTIMETER"}
    # The margin is for tiles that do not shrink, and for their directory.
    with tifffile.TiffWriter(file, bigtiff=3.2 * math.prod(size) > 2**32) as tiff:
        tiff.write(
            _tiles(bands, size[1]),
            shape=(*size, 3),
            dtype=np.uint8,
            tile=(_TIFF_TILE, _TIFF_TILE),
            photometric="rgb",
            compression="zlib",
            predictor=True,
            iccprofile=icc,
            metadata=None,
            software="monai_iste",
            maxworkers=1,  # more would read ahead, and hold what they have read
            **resolution,
        )


def _tiles(bands: Bands, width: int) -> Iterator[np.ndarray]:
    """Cut bands into square tiles, row by row; those at the right and lower edge are smaller."""
    held = np.empty((0, width, 3), np.uint8)

    def cut(rows: np.ndarray) -> Iterator[np.ndarray]:
        for left in range(0, width, _TIFF_TILE):
            yield np.ascontiguousarray(rows[:, left : left + _TIFF_TILE])

    for band in bands:
        held = np.concatenate([held, band])
        while len(held) >= _TIFF_TILE:
            yield from cut(held[:_TIFF_TILE])
            held = held[_TIFF_TILE:]
    if len(held):
        yield from cut(held)


def _write_png(file: BinaryIO, bands: Bands, size: Size, mpp: Mpp | None, icc: bytes | None) -> None:
    """Write PNG chunk by chunk: Pillow would need the whole image in memory.

    Every row is stored as its difference to the row above (filter 2), which suits upscaled images.
    """

    def chunk(kind: bytes, data: bytes) -> None:
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

    height, width = size
    file.write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    if icc is not None:
        chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if mpp is not None:
        chunk(b"pHYs", struct.pack(">IIB", round(1e6 / mpp[1]), round(1e6 / mpp[0]), 1))  # pixels per meter
    packer, above = zlib.compressobj(), np.zeros((1, 3 * width), np.uint8)
    for band in bands:
        rows = band.reshape(len(band), 3 * width)
        filtered = np.full((len(band), 1 + 3 * width), 2, np.uint8)
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:].copy()
        chunk(b"IDAT", packer.compress(filtered.tobytes()))
    chunk(b"IDAT", packer.flush())
    chunk(b"IEND", b"")


def _write_jpeg(file: BinaryIO, bands: Bands, size: Size, mpp: Mpp | None, icc: bytes | None) -> None:
    pixels, top = np.empty((*size, 3), np.uint8), 0
    for band in bands:
        pixels[top : top + len(band)] = band
        top += len(band)
    exif = Image.Exif()
    if mpp is not None:  # JPEG's own density ends at 65,535 per inch, 0.39 um
        exif[0x011A], exif[0x011B], exif[0x0128] = 1e4 / mpp[1], 1e4 / mpp[0], 3  # x, y, centimeter
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0, icc_profile=icc, exif=exif)


_WRITERS: dict[str, Callable[[BinaryIO, Bands, Size, Mpp | None, bytes | None], None]] = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
}

#: File name suffixes that :func:`save_image` writes, lower case.
WRITABLE_SUFFIXES = tuple(_WRITERS)

#: File name endings of slides that :mod:`monai_iste.slides.writers` writes, lower case; ".ome.zarr" and ".dcm" are
#: folders.
SLIDE_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.zarr", ".dcm")


def slide_suffix(path: Path) -> str:
    """Return the one of :data:`SLIDE_SUFFIXES` that a name ends in, or an empty string.

    Example:
        >>> slide_suffix(Path("a.1.OME.tiff")), slide_suffix(Path("a.tiff"))
        ('.ome.tiff', '')
    """
    return next((suffix for suffix in SLIDE_SUFFIXES if path.name.lower().endswith(suffix)), "")
