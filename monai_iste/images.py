"""Write magnified images to files, row by row, with the colour profile and the pixel size of their source.

A file appears under its name in one step, complete, or not at all.
"""

from __future__ import annotations

import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image

from monai_iste.errors import ISTEError, OutputError
from monai_iste.locks import held, remove_abandoned
from monai_iste.pixel_size import Mpp, is_tiff

__all__ = [
    "MAX_FILE_PIXELS",
    "WRITABLE_SUFFIXES",
    "check_output",
    "make_folder",
    "open_output",
    "save_image",
    "source_icc",
    "writing",
]

#: Largest width * height of a file; PNG and TIFF are written in bands, so only the disk limits them otherwise.
MAX_FILE_PIXELS = 20_000_000_000

#: A pixel size below this, in micrometres, is left out: PNG's count of pixels per metre ends there.
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
) -> None:
    """Write an 8-bit RGB image: PNG, tiled TIFF (deflate; BigTIFF above 4 GB) or JPEG (quality 95, full colour).

    PNG and TIFF are written as the bands come, so that memory stays flat; a JPEG is collected first.

    Args:
        path: ends in one of :data:`WRITABLE_SUFFIXES`.
        bands: the rows from top to bottom, in portions of any height, each (rows, W, 3) uint8.
        size: (H, W) of the whole image.
        mpp: micrometres per pixel, (y, x): TIFF resolution tags, PNG pHYs, JPEG Exif.
        icc: colour profile.
        overwrite: whether an existing file is replaced.
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
    with open_output(path, overwrite) as file:
        _WRITERS[path.suffix.lower()](file, bands, size, mpp, icc)


@contextmanager
def open_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[BinaryIO]:
    """A binary file that takes its name in one step when the block ends well, and otherwise leaves nothing behind.

    Raises:
        OutputError: the file exists and may not be overwritten, or cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with suppress(KeyboardInterrupt), open_output(folder / "a.bin") as file:
        ...     raise KeyboardInterrupt
        >>> list(folder.iterdir())
        []
    """
    path = Path(path)
    _check_name(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            remove_abandoned(path)
            temporary.touch()
            with held(temporary):
                with open(temporary, "wb") as file:
                    yield file
                os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def writing(path: str | os.PathLike[str], remedy: str = "Choose another place, or make room.") -> Iterator[None]:
    """What the system refuses while the block writes, as a sentence.

    Raises:
        OutputError: names the path, what the system said, and the remedy.
    """
    try:
        yield
    except ISTEError:
        raise
    except OSError as error:
        raise OutputError(f"to be able to write {path}", error.strerror or str(error), remedy) from error


def check_output(path: str | os.PathLike[str], size: Size, overwrite: bool = False) -> None:
    """Refuse what can be refused before hours of work: the name, the format, the folder, the room on the disk.

    Args:
        size: (H, W) of the image to be written.
    Raises:
        OutputError: names what is in the way.
    """
    path, (height, width) = Path(path), size
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise OutputError(f"an output that ends in {', '.join(_WRITERS)}", str(path), "TIFF holds any size.")
    _check_name(path, overwrite)
    if not os.path.isdir(path.parent):
        raise OutputError("an existing folder for the output", str(path.parent), "Make it first.")
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
            f"up to {needed / 1e9:,.3g} GB of room for {path}", f"{free / 1e9:,.3g} GB", "Make room, or choose a disk."
        )


def make_folder(folder: Path) -> None:
    """Make a folder for results, with its parents, if it is absent.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"to be able to make the folder {folder}", str(error.strerror), "Choose another place."
        ) from error


def _check_name(path: Path, overwrite: bool) -> None:
    if os.path.isdir(path):
        raise OutputError("the name of a file to write", f"the folder {path}", "Name a file in it.")
    if os.path.lexists(path) and not overwrite:  # Path.exists() raises for a name that is too long
        raise OutputError("the name of a new file", f"{path}, which exists", "Choose another, or add --overwrite.")


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
    """Square tiles row by row, those at the right and lower edge smaller."""
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
    """By hand, because Pillow would need the whole image in memory; every row is stored as its difference to the row
    above (filter 2), which suits magnified images."""

    def chunk(kind: bytes, data: bytes) -> None:
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

    height, width = size
    file.write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    if icc is not None:
        chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if mpp is not None:
        chunk(b"pHYs", struct.pack(">IIB", round(1e6 / mpp[1]), round(1e6 / mpp[0]), 1))  # pixels per metre
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
        exif[0x011A], exif[0x011B], exif[0x0128] = 1e4 / mpp[1], 1e4 / mpp[0], 3  # x, y, centimetre
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0, icc_profile=icc, exif=exif)


_WRITERS: dict[str, Callable[[BinaryIO, Bands, Size, Mpp | None, bytes | None], None]] = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
}

#: File name endings that :func:`save_image` knows, lower case.
WRITABLE_SUFFIXES = tuple(_WRITERS)


# --- what the source says about itself --------------------------------------------------------------------------------


def source_icc(path: str | os.PathLike[str]) -> bytes | None:
    """The RGB colour profile in an image file that :func:`~monai_iste.data.io.read_rgb` reads, or None.

    A profile of another colour space (of a grey image, say) would not describe the RGB that was read, and is left out.
    """
    path, icc = Path(path), None
    if is_tiff(path):
        with tifffile.TiffFile(path) as tiff:
            tag = tiff.series[0].keyframe.tags.get("InterColorProfile")
            icc = None if tag is None else bytes(tag.value)
    elif path.suffix.lower() in (".png", ".jpg", ".jpeg"):
        with Image.open(path) as image:
            icc = image.info.get("icc_profile")
    return icc if icc and icc[16:20] == b"RGB " else None
