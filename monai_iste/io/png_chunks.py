"""Chunks of a PNG that Pillow does not read, or reads wrongly: late EXIF, the transparent color, missing rows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

_SIGNATURE_BYTES, _BLOCK = 8, 2**20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the types of color
# First row and column of each pass of an interlaced image, and the distances between its rows and columns.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def find_chunk(file: IO[bytes], wanted: bytes) -> bytes:
    """Read the first chunk of a kind; empty if there is none. The file's position is kept."""
    position = file.tell()
    try:
        return next((file.read(length) for kind, length in _chunks(file) if kind == wanted), b"")
    finally:
        file.seek(position)


def has_all_rows(file: IO[bytes]) -> bool:
    """Check whether the compressed data of a PNG hold as many rows as its header states."""
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", find_chunk(file, b"IHDR")[:13])
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    missing = 0
    for top, left, rows, columns in passes:
        h, w = -((top - height) // rows), -((left - width) // columns)
        missing += h * (1 + (w * bits * _CHANNELS[color] + 7) // 8) if h > 0 and w > 0 else 0
    unpacker = zlib.decompressobj()
    for kind, length in _chunks(file):
        if kind == b"IDAT" and missing > 0:
            data = file.read(length)
            while data and missing > 0 and not unpacker.eof:
                missing -= len(unpacker.decompress(data, _BLOCK))
                data = unpacker.unconsumed_tail
    return missing - len(unpacker.flush()) <= 0


def transparent_color(value: Any, bits: int) -> Any:
    """Convert the transparent gray or RGB of a PNG of up to 8 bits to the values that Pillow shows.

    Bits above those of the image do not count, and Pillow shows 2 and 4 bits of gray as 8.

    Example:
        >>> transparent_color(1, 2), transparent_color((256, 1, 2), 8)
        (85, (0, 1, 2))
    """
    largest = 2**bits - 1
    if isinstance(value, tuple):
        return tuple(n & largest for n in value)
    return (value & largest) * 255 // largest if isinstance(value, int) else value


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield kind and length of each chunk, with the file at the chunk's data."""
    at = _SIGNATURE_BYTES
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        at += 12 + length
