"""Damaged image files: seeded mutants of PNG, JPEG, TIFF, OME-TIFF and SVS, by bytes and by the fields of headers."""

import io
import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from random import Random

import numpy as np
import tifffile
from PIL import Image, ImageCms
from slide_files import picture

logging.getLogger("tifffile").setLevel(logging.CRITICAL)

FORMATS = ("png", "jpg", "tif", "ome.tif", "svs")

IMAGE = picture(150, 210)
APERIO = "Aperio Image Library v11.2.1 \r\n210x150 [0,0 210x150] (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.499"
EXTREMES = (0, 1, 2, 3, 5, 255, 2**15, 2**16 - 1, 2**16, 10**6, 10**9, 2**31 - 1, 2**31, 2**32 - 1)


def originals(ending: str) -> list[bytes]:
    """Whole files of a format, small and varied."""
    return [_saved(write) for write in _WRITERS[ending]]


def mutants(ending: str, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield ``count`` damaged files of a format; the same for the same seed."""
    random, files = Random(f"{ending} {seed}"), originals(ending)
    fields = {"png": _change_png, "jpg": _change_jpeg}.get(ending, _change_tiff)
    ways = [_flip_bits, _overwrite, _cut, _remove, _repeat, fields, fields, fields]
    for number in range(count):
        content = bytearray(random.choice(files))
        for _ in range(random.choice((1, 1, 2, 4))):
            content = random.choice(ways if number % 4 else [fields])(content, random) or content
        yield bytes(content)


# --- by bytes ---------------------------------------------------------------------------------------------------------


def _place(content: bytearray, random: Random) -> int:
    """Choose a position, half of them among the first 400 bytes, where headers are."""
    return random.randrange(min(400, len(content)) if random.random() < 0.5 else len(content))


def _flip_bits(content: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 3, 20))):
        content[_place(content, random)] ^= 1 << random.randrange(8)
    return content


def _overwrite(content: bytearray, random: Random) -> bytearray:
    start, length = _place(content, random), random.choice((1, 4, 64, 1000))
    fill = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    content[start : start + length] = fill[: len(content) - start]
    return content


def _cut(content: bytearray, random: Random) -> bytearray:
    return content[: 1 + _place(content, random)]


def _remove(content: bytearray, random: Random) -> bytearray:
    start = _place(content, random)
    del content[start : start + random.choice((1, 2, 50, 500))]
    return content or bytearray(1)


def _repeat(content: bytearray, random: Random) -> bytearray:
    start = _place(content, random)
    content[start:start] = content[start : start + random.choice((1, 2, 50, 500))]
    return content


# --- by fields --------------------------------------------------------------------------------------------------------


def _change_png(content: bytearray, random: Random) -> bytearray | None:
    """Change a field of a chunk, with a checksum that is right again, or the length of a chunk."""
    chunks, start = [], 8
    while start + 12 <= len(content):
        chunks.append(start)
        start += 12 + int.from_bytes(content[start : start + 4], "big")
    if not chunks:
        return None
    start = random.choice([chunks[0], *chunks])
    length = int.from_bytes(content[start : start + 4], "big")
    if random.random() < 0.2 or length < 1 or start + 12 + length > len(content):
        content[start : start + 4] = struct.pack(">I", random.choice(EXTREMES))
        return content
    place = start + 8 + random.randrange(length)
    width = random.choice((1, 4))
    content[place : place + width] = (random.choice(EXTREMES) % 256**width).to_bytes(width, "big")
    content[start + 8 + length : start + 12 + length] = struct.pack(
        ">I", zlib.crc32(content[start + 4 : start + 8 + length])
    )
    return content


def _change_jpeg(content: bytearray, random: Random) -> bytearray | None:
    """Change bytes of a marker's segment: sizes, tables, Exif."""
    starts = [n for n in range(len(content) - 12) if content[n] == 0xFF and 0xC0 <= content[n + 1] <= 0xFE]
    if not starts:
        return None
    place = random.choice(starts) + random.randrange(1, 12)
    width = random.choice((1, 2))
    content[place : place + width] = (random.choice(EXTREMES) % 256**width).to_bytes(width, "big")
    return content


def _change_tiff(content: bytearray, random: Random) -> bytearray | None:
    """Change tag, type, count or value of an entry of a directory, the link to the next one, or text of the file."""
    if random.random() < 0.2:
        return _change_text(content, random)
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            pages = list(tiff.pages)
            entries = [tag.offset for page in pages for tag in page.tags]
            entry = random.choice(entries)
            if random.random() < 0.1:
                entry = random.choice(pages).offset - 8  # the count of entries
    except Exception:
        return None
    where, width = random.choice(((0, 2), (2, 2), (4, 4), (4, 4), (8, 4), (8, 4), (8, 2)))
    value = random.choice((*EXTREMES, *range(1, 20), len(content), len(content) - 1, random.randrange(2**32)))
    place = max(0, entry + where)
    content[place : place + width] = (value % 256**width).to_bytes(width, "little")
    return content


def _change_text(content: bytearray, random: Random) -> bytearray | None:
    """Change a number, a quote or a bracket in XML or in a description."""
    places = [
        n
        for n in range(len(content) - 40)
        if 48 <= content[n] < 58 and content[n + 1 : n + 2] in (b'"', b"x", b"|", b".")
    ]
    if not places:
        return None
    place = random.choice(places)
    content[place : place + 1] = random.choice(
        (b"0", b"-1", b"9" * 12, b"1e308", b"nan", b"<", b'"', b"&", b"\xff", b"")
    )
    return content


# --- whole files ------------------------------------------------------------------------------------------------------


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _pillow(mode: str, kind: str, **options: object) -> Callable[[io.BytesIO], object]:
    return lambda file: Image.fromarray(IMAGE).convert(mode).save(file, kind, **options)


def _deep_png(file: io.BytesIO) -> None:
    from imagecodecs import png_encode

    file.write(png_encode(IMAGE.astype(np.uint16) * 257))


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = 6, 20_000.0, 20_000.0, 3
    return exif


def _tiff(
    *levels: np.ndarray, ome: bool = False, bigtiff: bool = False, **options: object
) -> Callable[[io.BytesIO], object]:
    settings = {"photometric": "rgb", "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"} | options

    def write(file: io.BytesIO) -> None:
        with tifffile.TiffWriter(file, ome=ome, bigtiff=bigtiff) as tiff:
            meta = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} if ome else None
            for number, level in enumerate(levels):
                extra = {"subifds": len(levels) - 1} if ome and number == 0 and len(levels) > 1 else {}
                tiff.write(
                    level, metadata=meta if number == 0 else None, subfiletype=int(number > 0), **settings, **extra
                )

    return write


def _svs(file: io.BytesIO) -> None:
    tiles = {"tile": (64, 64), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(IMAGE, description=APERIO, **tiles)
        tiff.write(IMAGE[::2, ::2], photometric="rgb", compression="jpeg", metadata=None, description=APERIO)
        tiff.write(IMAGE[::4, ::4], description=APERIO, **tiles)
        for name, kind in (("label", 1), ("macro", 9)):
            settings = {"photometric": "rgb", "metadata": None, "subfiletype": kind}
            tiff.write(IMAGE[:40, :50], description=f"Aperio Image Library v11.2.1 \r\n{name} 50x40", **settings)


_HALVES = (IMAGE, IMAGE[::2, ::2])
_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_WRITERS = {
    "png": [
        _pillow("RGB", "PNG", icc_profile=_ICC, dpi=(72, 72)),
        _pillow("RGBA", "PNG"),
        _pillow("P", "PNG", transparency=3),
        _pillow("1", "PNG"),
        _deep_png,
    ],
    "jpg": [
        _pillow("RGB", "JPEG", icc_profile=_ICC, exif=_exif()),
        _pillow("L", "JPEG"),
        _pillow("CMYK", "JPEG"),
        _pillow("RGB", "JPEG", progressive=True),
    ],
    "tif": [
        _tiff(IMAGE),
        _tiff(IMAGE, compression="zlib", predictor=True, rowsperstrip=16),
        _tiff(*_HALVES, compression="jpeg", tile=(64, 64)),
        _tiff(IMAGE, compression="lzw", tile=(32, 48), bigtiff=True),
        _tiff(IMAGE.astype(np.uint16) * 257, compression="zstd", tile=(64, 64)),
        _tiff(np.ascontiguousarray(IMAGE.transpose(2, 0, 1)), planarconfig="separate"),
        _tiff(IMAGE[..., 0], photometric="minisblack", description="ImageJ=1.54f\nunit=micron\n"),
        _pillow("P", "TIFF", compression="packbits"),
    ],
    "ome.tif": [
        _tiff(IMAGE, ome=True),
        _tiff(*_HALVES, ome=True, tile=(64, 64), compression="jpeg"),
        _tiff(*_HALVES, ome=True, tile=(64, 64), compression="zlib"),
        _tiff(IMAGE, ome=True, bigtiff=True, tile=(64, 64)),
    ],
    "svs": [_svs],
}
