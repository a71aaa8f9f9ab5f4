"""Checks of an input before anything of it is allocated: its kind, the size it claims, the counts in its headers."""

from __future__ import annotations

import math
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from monai_iste.errors import DataError
from monai_iste.io.samples import not_rgb

#: Largest width * height of an image in memory: a file of a few bytes can claim terabytes. (Pillow stops earlier, at
#: 179 million, for what it decodes: PNG, JPEG, BMP and WebP.)
MAX_PIXELS = 400_000_000

#: Largest width * height that a slide may declare; a slide of 26 x 76 mm at 0.12 um/px has 137 gigapixels.
MAX_SLIDE_PIXELS = 150_000_000_000

#: Largest tile of a TIFF, which is decoded as a whole: 8192 x 8192, 270 MB. Scanners write tiles of up to 2048.
MAX_TILE_PIXELS = 2**26

# Largest number of pixels per byte of a file. The best compression is zstd on one color, 128 KiB in 4 bytes: 11,000 RGB
# or 33,000 gray pixels a byte (deflate: 344, JPEG: 500). A tile of 512 x 512 that is not stored at all still has 6
# bytes in the directory of its TIFF: 43,690. So empty background passes, and a few bytes that claim terabytes do not.
_MAX_PIXELS_PER_BYTE = 50_000

# Of one TIFF. A slide of 150 gigapixels in tiles of 256 has 2,300,000 tiles. Directories are read whole.
_MAX_DIRECTORIES, _MAX_VALUES, _MAX_BYTES = 10_000, 5_000_000, 2**28

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_DESCRIPTION, _SUB_DIRECTORIES, _HAMAMATSU = 270, 330, 65_420
_SEGMENTS = (273, 279, 324, 325)  # offsets and byte counts of strips and tiles

Size = tuple[int, int]


class TooManyPixels(DataError):
    """Image that is too large to be decoded as a whole; parts of it may still be read."""


def check_file(path: Path) -> None:
    """Check that a path is a regular file with content that may be read.

    Raises:
        DataError: it is missing, a folder, a pipe, a device, or empty, or may not be read.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("a slide or an image file", f"{path}, which does not exist", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"a file that may be read, {path}", str(error), "Check the path.") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError("a slide or an image file", f"the folder {path}", "Name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise DataError("a slide or an image file", f"{path}, which is a pipe or a device", "Name a regular file.")
    if status.st_size == 0:
        raise DataError("a slide or an image file", f"{path}, which is empty", "Copy or export it again.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"a file that may be read, {path}", error.strerror or str(error), "Ask its owner.") from error


def check_size(path: Path, size: Size) -> None:
    """Check that a file may have as many pixels as its header claims.

    Raises:
        TooManyPixels: more than :data:`MAX_SLIDE_PIXELS`.
        DataError: more than its bytes can hold.
    """
    pixels, nbytes = math.prod(size), path.stat().st_size
    check_slide_size(path, size)
    if pixels > _MAX_PIXELS_PER_BYTE * nbytes:
        raise DataError(
            f"at most {_MAX_PIXELS_PER_BYTE:,} pixels for each of the {nbytes:,} bytes of {path}",
            _claim(size),
            "It is damaged or made to fill the memory; copy it again if it should be whole.",
        )


def check_slide_size(path: Path, size: Size) -> None:
    """Raise TooManyPixels for more than :data:`MAX_SLIDE_PIXELS`; slides of several files are checked by this alone."""
    if math.prod(size) > MAX_SLIDE_PIXELS:
        raise TooManyPixels(f"at most {MAX_SLIDE_PIXELS:,} pixels in {path}", _claim(size), "Cut it into parts.")


def check_memory(path: Path, size: Size) -> None:
    """Raise TooManyPixels for more than :data:`MAX_PIXELS`, which are not decoded as a whole."""
    if math.prod(size) > MAX_PIXELS:
        raise too_many_pixels(path, _claim(size))


def too_many_pixels(path: Path, received: str, limit: int = 0) -> TooManyPixels:
    """Make the error for an image that is too large to be decoded as a whole."""
    return TooManyPixels(
        f"at most {limit or MAX_PIXELS:,} pixels in {path}", received, "Crop it, or cut it into tiles, before training."
    )


def _claim(size: Size) -> str:
    return f"a header that claims {size[0]} x {size[1]} (H x W)"


# --- counts in the headers of TIFF ------------------------------------------------------------------------------------


class _Format(NamedTuple):
    """Layout of directories: byte order, and the codes and sizes of counts, entries and offsets."""

    order: str
    number: str
    entry: str
    offset: str

    @property
    def inline(self) -> int:
        return struct.calcsize(self.offset)


def check_counts(path: Path) -> None:
    """Check the counts in all directories of a TIFF, and in its OME-XML.

    What is damaged otherwise is left to the reader of the file.

    Raises:
        DataError: a value is larger than the file or than any reader should allocate, there are too many directories,
            or OME-XML states a stack.
    """
    nbytes, segments, number = path.stat().st_size, 0, 0
    with open(path, "rb") as file:
        for entries in _directories(file, path):
            number += 1
            for tag, count, size, value in entries:
                if count * size > min(nbytes, _MAX_BYTES) or (tag in _SEGMENTS and count > _MAX_VALUES):
                    limit = min(nbytes // size, _MAX_BYTES // size, _MAX_VALUES if tag in _SEGMENTS else _MAX_BYTES)
                    raise _too_many(path, f"{limit:,} numbers in each tag", f"{count:,} in the tag {tag}")
                segments += count if tag in _SEGMENTS else 0
                if tag == _DESCRIPTION and number == 1 and count * size > 100:
                    _check_ome(path, _read_at(file, value, count * size))
            if segments > 4 * _MAX_VALUES:
                raise _too_many(path, f"{2 * _MAX_VALUES:,} tiles or strips", f"{segments // 2:,} of them")


def has_directory(path: Path) -> bool:
    """Check whether the first directory of a TIFF lies in the file as a whole. Pillow reads on where it ends early."""
    with open(path, "rb") as file:
        return bool(next(_directories(file, path), []))


def _too_many(path: Path, expected: str, received: str) -> DataError:
    return DataError(
        f"at most {expected} in {path}", received, "It is damaged or made to fill the memory; copy it again."
    )


def _directories(file: BinaryIO, path: Path) -> Iterator[list[tuple[int, int, int, int]]]:
    """Yield the entries of each directory, (tag, count, bytes of one value, offset or value), until one is damaged."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    layout = _Format(
        order, *((order + "Q", order + "HHQQ", order + "Q") if big else (order + "H", order + "HHII", order + "I"))
    )
    waiting = [struct.unpack(layout.offset, head[8:16] if big else head[4:8])[0]]
    seen: set[int] = set()
    while waiting:
        offset = waiting.pop()
        if offset in seen or offset < 8:
            continue
        if len(seen) == _MAX_DIRECTORIES:
            raise _too_many(path, f"{_MAX_DIRECTORIES:,} directories", "more")
        seen.add(offset)
        entries, following = _read_directory(file, layout, offset)
        if any(tag == _HAMAMATSU for tag, *_ in entries):  # its offsets have 64 bits, which are not told from 32
            following = 0
        waiting.append(following)
        for tag, count, size, value in entries:
            if tag == _SUB_DIRECTORIES and 0 < count <= _MAX_DIRECTORIES and size in (4, 8):
                waiting += [value] if count * size <= layout.inline else _read_offsets(file, order, value, count, size)
        yield entries


def _read_directory(file: BinaryIO, layout: _Format, offset: int) -> tuple[list[tuple[int, int, int, int]], int]:
    number = struct.calcsize(layout.number)
    head = _read_at(file, offset, number)
    if len(head) < number:
        return [], 0
    count, each = struct.unpack(layout.number, head)[0], struct.calcsize(layout.entry)
    data = _read_at(file, offset + number, count * each + layout.inline) if count <= 4096 else b""
    if len(data) < count * each or not data:
        return [], 0
    entries = [
        (tag, values, _TYPE_BYTES[kind], value)
        for tag, kind, values, value in struct.iter_unpack(layout.entry, data[: count * each])
        if kind in _TYPE_BYTES
    ]
    following = data[count * each :]
    return entries, struct.unpack(layout.offset, following)[0] if len(following) == layout.inline else 0


def _read_offsets(file: BinaryIO, order: str, offset: int, count: int, size: int) -> list[int]:
    data = _read_at(file, offset, count * size)
    return list(
        struct.unpack(f"{order}{len(data) // size}{'Q' if size == 8 else 'I'}", data[: len(data) // size * size])
    )


def _read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(min(offset, 2**62))
    return file.read(count)


def _check_ome(path: Path, text: bytes) -> None:
    """Refuse OME-XML that states several planes of the largest image, which is a stack whatever pages the file has."""
    text = text.strip(b"\0 \r\n\t")
    if not text.endswith(b"OME>"):
        return
    try:
        root = fromstring(text)
    except (DefusedXmlException, ParseError, ValueError, LookupError):  # readers go without it
        return
    images = [element for element in root.iter() if str(element.tag).rpartition("}")[2] == "Pixels"]
    largest = max(images, key=lambda image: _whole(image, "SizeX") * _whole(image, "SizeY"), default=None)
    if largest is not None and _whole(largest, "SizeZ") * _whole(largest, "SizeT") > 1:
        raise not_rgb(path, "a stack of several pages or slices, as its OME-XML states")


def _whole(element: Element, name: str) -> int:
    try:
        return max(1, int(element.get(name, "1")))
    except ValueError:
        return 1
