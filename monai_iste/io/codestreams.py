"""Sizes that compressed segments of a TIFF state in their own headers, which a decoder would allocate."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

from PIL import Image

_JPEG = (6, 7, 34892, 33007)
_JPEG_2000 = (33003, 33004, 33005, 34712)
_WEBP, _JPEG_XL = (50001,), (50002, 52546)

Size = tuple[int, int]


def coded_size(data: bytes, compression: int) -> Size | None:
    """Read (H, W) of a compressed segment from its header; None where its codec has none, or it cannot be read.

    Args:
        compression: TIFF's number of the codec: JPEG, JPEG 2000, WebP or JPEG XL.
    """
    with suppress(Exception):  # its decoder reports what is damaged
        if compression in _JPEG:
            return _pillow_size(data, "JPEG")
        if compression in _JPEG_2000:
            return _pillow_size(data, "JPEG2000")
        if compression in _WEBP:
            return _webp_size(data)
        if compression in _JPEG_XL:
            return _jpeg_xl_size(data)
    return None


def _pillow_size(data: bytes, kind: str) -> Size:
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            return image.size[1], image.size[0]
    except Image.DecompressionBombError:  # it does not say how many
        return 2**16, 2**16


def _webp_size(data: bytes) -> Size:
    kind, at = data[12:16], 20
    if kind == b"VP8X":
        return int.from_bytes(data[at + 7 : at + 10], "little") + 1, int.from_bytes(data[at + 4 : at + 7], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[at + 1 : at + 5])[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[at + 6 : at + 10])
    return height & 0x3FFF, width & 0x3FFF


def _jpeg_xl_size(data: bytes) -> Size:
    """Read the SizeHeader of a codestream, bare or in its container (ISO/IEC 18181-1)."""
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
    if ratio == 0:
        return height, side(small)
    top, bottom = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height, height * top // bottom
