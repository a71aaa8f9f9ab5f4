"""Headers of compressed segments of a TIFF: sizes and depths that contradict the TIFF, damaged tables, missing ends."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from contextlib import suppress
from mmap import mmap
from typing import NamedTuple

import numpy as np

JPEG = (6, 7, 34892, 33007)
JPEG_2000 = (33003, 33004, 33005, 34712)
_PNG, _WEBP, _JPEG_XL, _LERC = (34933,), (50001,), (50002, 52546), (34887,)

_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of JPEG that begin with depth and size
_ALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a length
_CODESTREAM = b"\xff\x4f\xff\x51"  # how one of JPEG 2000 begins
_END = b"\xff\xd9"
_FIRST_SCAN, _QUANTIZATION, _HUFFMAN = 0xDA, 0xDB, 0xC4  # markers of JPEG
_MAX_DC = 16  # largest category of a difference, which lossless JPEG has
_TAIL = 4096  # bytes at the end of a segment, which may be padded

Size = tuple[int, int]


class Coded(NamedTuple):
    """Header of a compressed segment.

    Attributes:
        size: (H, W).
        bits: bits of each sample; 0 if the header does not tell.
    """

    size: Size
    bits: int = 0


def check_segment(data: bytes, compression: int, side: Size, inside: Size, bits: int) -> None:
    """Check a compressed segment before it is decoded. Its codec may not notice, and would show other pixels.

    Args:
        compression: TIFF's number of the codec.
        side: (H, W) of segments as the TIFF declares them.
        inside: (H, W) of the part of this one that lies in the image; some writers store no more.
        bits: bits of each sample, as the TIFF declares them.
    Raises:
        ValueError: its header states another size or depth, or it is a JPEG with damaged tables or without an end.
    """
    if compression in JPEG[1:]:
        check_jpeg_tables(data)
    coded = read_coded(data, compression)
    if coded is None:
        return
    height, width = coded.size
    too_large = math.prod(coded.size) > 4 * max(math.prod(side), 2**16)
    if too_large or width not in (side[1], inside[1]) or (width != side[1] and height > side[0]):
        raise ValueError(f"a segment of {height} x {width} pixels instead of {side[0]} x {side[1]}")
    if coded.bits not in (0, bits):
        raise ValueError(f"a segment of {coded.bits} bits per sample instead of {bits}")
    if compression in JPEG[1:] and _END not in data[-_TAIL:]:
        raise ValueError("a JPEG that is cut short")


def check_jpeg_tables(data: bytes | mmap, alone: bool = False) -> None:
    """Check the tables before the first scan of a JPEG. Decoders use damaged ones without a word.

    Args:
        alone: whether these are TIFF's tables of all segments, without an image. Then nothing else may lie among them.
    Raises:
        ValueError: a table is cut short, or states what no table does; the message is a clause.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (_FIRST_SCAN, _END[1]):
            return
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : at + 2 + length]
        if length != len(content) + 2:
            raise ValueError("tables of JPEG that are cut short")
        check = {_QUANTIZATION: _quantization_size, _HUFFMAN: _huffman_size}.get(marker)
        while check and content:
            content = content[check(content) :]
        at += 2 + length
    if alone and data[at : at + 2] not in (b"", _END):
        raise ValueError("tables of JPEG with other bytes among them")


def _quantization_size(data: bytes) -> int:
    """Return the number of bytes of a table of quantization, whose 64 steps are above 0."""
    wide, number = divmod(data[0], 16)
    size = 1 + 64 * (1 + wide)
    if wide > 1 or number > 3 or len(data) < size or not np.frombuffer(data[1:size], (">u1", ">u2")[wide]).all():
        raise ValueError("a damaged table of quantization of JPEG")
    return size


def _huffman_size(data: bytes) -> int:
    """Return the number of bytes of a Huffman table: how many codes have 1 to 16 bits, and their different values."""
    kind, number = divmod(data[0], 16)
    counts = data[1:17]
    values = data[17 : 17 + sum(counts)]
    codes = sum(count << 15 - bits for bits, count in enumerate(counts))  # of 16 bits, which begin with one of these
    largest = max(values, default=0) if kind == 0 else 0
    is_whole = len(counts) == 16 and len(values) == sum(counts) == len(set(values))
    if kind > 1 or number > 3 or not is_whole or codes > 2**16 or largest > _MAX_DC:
        raise ValueError("a damaged Huffman table of JPEG")
    return 17 + len(values)


def read_coded(data: bytes, compression: int) -> Coded | None:
    """Read the header of a compressed segment; None where its codec has none, or it cannot be read."""
    with suppress(Exception):  # its decoder reports what is damaged
        return next((read(data) for codecs, read in _READERS.items() if compression in codecs), None)
    return None


def bare_jpeg_2000(data: bytes) -> bytes:
    """Return the codestream of a JPEG 2000 file, whose boxes may state what its samples mean."""
    return data[max(0, data.find(_CODESTREAM)) :] if data[4:8] == b"jP  " else data


def _read_jpeg(data: bytes) -> Coded:
    at = 2
    while True:
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise ValueError("no marker")
        if marker in _FRAMES:
            bits, height, width = struct.unpack(">BHH", data[at + 4 : at + 9])
            return Coded((height, width), bits)
        if marker == 0xFF:  # a filler
            at += 1
        else:
            at += 2 if marker in _ALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _read_jpeg_2000(data: bytes) -> Coded:
    """Read SIZ of a codestream, bare or in a JP2 file (ISO/IEC 15444-1)."""
    at = data.index(_CODESTREAM) + 8
    right, bottom, left, top = struct.unpack(">4I", data[at : at + 16])
    return Coded((bottom - top, right - left), (data[at + 34] & 0x7F) + 1)


def _read_png(data: bytes) -> Coded:
    width, height, bits = struct.unpack(">IIB", data[16:25])
    return Coded((height, width), bits)


def _read_webp(data: bytes) -> Coded:
    kind, at = data[12:16], 20
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at + n : at + n + 3], "little") + 1 for n in (4, 7))
    elif kind == b"VP8L":
        bits = struct.unpack("<I", data[at + 1 : at + 5])[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (n & 0x3FFF for n in struct.unpack("<HH", data[at + 6 : at + 10]))
    return Coded((height, width), 8)


def _read_lerc(data: bytes) -> Coded:
    """Read the header of Lerc2, which has a checksum from version 3 on, and a number of samples from version 4 on."""
    version = struct.unpack("<i", data[6:10])[0] if data.startswith(b"Lerc2 ") else 0
    if not 1 <= version <= 9:
        raise ValueError("another version, or compressed once more")
    at = 14 if version >= 3 else 10
    height, width = struct.unpack("<ii", data[at : at + 8])
    kind = data[at + (24 if version >= 4 else 20)]  # int8, uint8, int16, ..., uint32, float, double
    return Coded((height, width), (8, 8, 16, 16, 32, 32, 32, 64)[kind])


def _read_jpeg_xl(data: bytes) -> Coded:
    """Read SizeHeader and BitDepth of a codestream, bare or in its container (ISO/IEC 18181-1)."""
    if data[:2] != b"\xff\x0a":
        data = data[data.index(b"\xff\x0a") :]
    bits, at = int.from_bytes(data[2:18], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value, at = bits >> at & (1 << count) - 1, at + count
        return value

    def side(small: int) -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height, ratio = side(small), take(3)
    top, bottom = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    width = height * top // bottom if ratio else side(small)
    if take(1):  # all is as usual
        return Coded((height, width), 8)
    if take(1):  # fields come first whose length varies
        return Coded((height, width))
    depths = (32, 16, 24, 0) if take(1) else (8, 10, 12, 0)
    return Coded((height, width), depths[take(2)] or 1 + take(6))


_READERS: dict[tuple[int, ...], Callable[[bytes], Coded]] = {
    JPEG: _read_jpeg,
    JPEG_2000: _read_jpeg_2000,
    _PNG: _read_png,
    _WEBP: _read_webp,
    _JPEG_XL: _read_jpeg_xl,
    _LERC: _read_lerc,
}
