"""Reading of regions of TIFFs, segment by segment: tiles and strips of every codec and depth, as 8-bit RGB."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile

from monai_iste.errors import DataError, ISTEError
from monai_iste.io.byte_cache import ByteCache
from monai_iste.io.checks import MAX_PIXELS, MAX_TILE_PIXELS, check_size
from monai_iste.io.codestreams import JPEG, JPEG_2000, bare_jpeg_2000, check_jpeg_tables, check_segment
from monai_iste.io.orientation import page_orientation, stored_region, upright, upright_size
from monai_iste.io.pixel_size import PixelSize, first_plausible, vendor_mpp
from monai_iste.io.samples import Samples, jpeg_ycbcr_to_rgb, not_rgb, to_rgb8, ycbcr_to_rgb
from monai_iste.io.stated_pixel_size import tiff_mpp
from monai_iste.io.tiff_pages import main_image, open_tiff

_CACHE_BYTES = 2**27  # of decoded segments; a row of strips 100,000 pixels wide

_RGB_CODECS = (*JPEG, 34927, 34933, 34934, 50001, 50002, 52546)  # these convert YCbCr themselves
#: Aperio's JPEG 2000 whose samples are YCbCr, whatever is declared.
APERIO_YCBCR = 33003

_REC_601 = (0.299, 0.587, 0.114)
_JPEG_YCBCR = (_REC_601, (0.0, 255.0, 128.0, 255.0, 128.0, 255.0))

Size = tuple[int, int]


class TiffPixels:
    """TIFF whose regions are decoded as they are read; safe to read from several threads.

    Missing tiles and strips are white. The reduced versions of the image are its levels.

    Attributes:
        cache: keeps decoded segments; may be replaced by one that others use too.

    Raises:
        DataError: the image is not one of RGB, gray or a palette, it is cut short, or its segments are too large.
        ValueError: tifffile cannot decode it.
    """

    kind = "tiff"

    def __init__(self, path: Path) -> None:
        self._path, self._file_lock = path, Lock()
        self.cache = ByteCache(_CACHE_BYTES, keep_large=True)
        self._tiff = open_tiff(path, _multifile=False)
        try:
            main = main_image(self._tiff)
            if main.is_stack:
                raise not_rgb(path, "a stack of several pages or slices")
            self._page, self.note = main.page, main.note
            check_size(path, (self._page.imagelength, self._page.imagewidth))
            self.orientation = page_orientation(self._page)
            stored = [_Level(self, page) for page in (self._page, *_reduced_pages(self._tiff, self._page))]
            sizes = [upright_size(level.size, self.orientation) for level in stored]
        except BaseException:
            self._tiff.close()
            raise
        self._stored, self.levels = stored, tuple(sizes)
        # Pixels are addressed exactly: pixel i of a level is entered at i times a whole number.
        self.steps = tuple(float(max(1, round(math.sqrt(math.prod(sizes[0]) / math.prod(n))))) for n in sizes)

    def read(self, level: int, start: Size, size: Size) -> np.ndarray:
        if self._tiff.filehandle.closed:
            raise DataError(f"the slide {self._path} to be open", "one that was closed", "Read inside its with block.")
        step = int(self.steps[level])
        first = (start[0] // step, start[1] // step)
        region = stored_region(first, size, self.levels[level], self.orientation)
        try:
            return upright(self._stored[level].read(*region), self.orientation)
        except ISTEError:
            raise
        except Exception as error:  # any error of a codec
            raise DataError(
                f"readable pixels in {self._path}",
                f"an error in the {size[0]} x {size[1]} pixels from row {start[0]}, column {start[1]} of level 0 on, "
                f"at level {level} (damaged or unsupported: {type(error).__name__}: {' '.join(str(error).split())})",
                "Copy or export it again.",
            ) from error

    def pixel_size(self) -> PixelSize:
        return first_plausible(chain(vendor_mpp(self._path), tiff_mpp(self._tiff, self._page)))

    def icc(self) -> bytes | None:
        tag = self._page.tags.get("InterColorProfile")
        return None if tag is None or tag.value is None else bytes(tag.value)

    def close(self) -> None:
        self._tiff.close()
        self.cache.discard(lambda key: isinstance(key, tuple) and key[0] in self._stored)

    def read_bytes(self, offset: int, count: int) -> bytes:
        """Read a part of the file."""
        with self._file_lock:
            self._tiff.filehandle.seek(offset)
            return self._tiff.filehandle.read(count)


class _Level:
    """One page of a TIFF as it is stored, in segments: its tiles or strips."""

    def __init__(self, source: TiffPixels, page: tifffile.TiffPage) -> None:
        self._source, self._page, self._path = source, page, Path(source._path)
        self.size: Size = (page.imagelength, page.imagewidth)
        self.samples = declared_samples(page, self._path)
        if page.imagedepth > 1:
            raise not_rgb(self._path, "a stack of several pages or slices")
        if 0 in self.size:
            raise not_rgb(self._path, "an image without pixels")
        self._side = _segment_size(page, self._path)
        self._grid = math.ceil(self.size[0] / self._side[0]), math.ceil(self.size[1] / self._side[1])
        self._planes = page.samplesperpixel if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else 1
        self._offsets, self._counts = _segments(page, math.prod(self._grid) * self._planes, self._path)
        check_shared_tables(page, self._path)
        page.decode(None, 0)  # raises ValueError where tifffile knows no way to decode it
        self._ycbcr = _ycbcr(page)

    def read(self, start: Size, size: Size) -> np.ndarray:
        """Read a region (height, width, 3) uint8 from the pixel ``start`` on."""
        result = np.full((*size, 3), 255, np.uint8)
        (top, left), (height, width) = start, self._side
        for row in range(top // height, (top + size[0] - 1) // height + 1):
            for column in range(left // width, (left + size[1] - 1) // width + 1):
                pixels = self._segment(row * self._grid[1] + column)
                if pixels is None:
                    continue
                y, x = row * height, column * width
                bottom, right = min(top + size[0], y + len(pixels)), min(left + size[1], x + pixels.shape[1])
                rows, columns = slice(max(top, y), bottom), slice(max(left, x), right)
                result[rows.start - top : bottom - top, columns.start - left : right - left] = pixels[
                    rows.start - y : bottom - y, columns.start - x : right - x
                ]
        return result

    def _segment(self, number: int) -> np.ndarray | None:
        """Return a segment as :meth:`_decode_segment`, from the cache if it is there."""
        pixels: np.ndarray | None = self._source.cache.get((self, number))
        if pixels is None:
            pixels = self._decode_segment(number)
            if pixels is not None:
                self._source.cache.put((self, number), pixels)
        return pixels

    def _decode_segment(self, number: int) -> np.ndarray | None:
        """Decode a segment to (h, w, 3) uint8; None if it is not stored."""
        planes = [self._decoded(number + plane * math.prod(self._grid)) for plane in range(self._planes)]
        stored = [plane for plane in planes if plane is not None]
        if not stored:
            return None
        if len(stored) < len(planes):
            raise ValueError("some color planes of a segment are missing")
        pixels = stored[0] if len(stored) == 1 else np.concatenate(stored, axis=-1)
        if pixels.shape[-1] < self.samples.colors + bool(self.samples.alpha):
            raise ValueError(f"a segment has {pixels.shape[-1]} samples per pixel")
        if self._ycbcr == _JPEG_YCBCR and pixels.shape[-1] == 3 and pixels.dtype == np.uint8:
            pixels = jpeg_ycbcr_to_rgb(pixels)
        elif self._ycbcr is not None:
            pixels = ycbcr_to_rgb(pixels, self.samples.bits, *self._ycbcr)
        return to_rgb8(pixels, self.samples, self._path)

    def _decoded(self, index: int) -> np.ndarray | None:
        """Decode a stored segment to (h, w, samples), as it is declared."""
        page, count = self._page, self._counts[index]
        if count == 0 or self._offsets[index] == 0:
            return None
        data = self._source.read_bytes(self._offsets[index], count)
        place = divmod(index % math.prod(self._grid), self._grid[1])
        height, width = (min(side, n - at * side) for n, at, side in zip(self.size, place, self._side, strict=True))
        check_segment(data, page.compression, self._side, (height, width), page.bitspersample)
        if self._ycbcr is not None and page.compression in JPEG_2000:
            data = bare_jpeg_2000(data)  # or its decoder would convert what is declared as sYCC
        tables: dict[str, Any] = {}
        if page.compression in JPEG:
            tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        decoded = page.decode(data, index, **tables)[0]
        if decoded is None:
            return None
        declared = page.dtype or decoded.dtype
        if declared.kind in "uf" and (decoded.dtype.kind, decoded.itemsize) != (declared.kind, declared.itemsize):
            raise ValueError(f"a segment of {decoded.dtype} samples instead of {declared}")
        pixels: np.ndarray = decoded[0]
        return pixels


def declared_samples(page: tifffile.TiffPage, path: Path) -> Samples:
    """Read the meaning of a page's samples.

    Raises:
        DataError: it is not RGB, gray or a palette, or a depth that is not read.
    """
    photometric, count = page.photometric, page.samplesperpixel
    meaning = tifffile.PHOTOMETRIC
    if photometric not in (meaning.RGB, meaning.YCBCR, meaning.MINISBLACK, meaning.MINISWHITE, meaning.PALETTE):
        raise not_rgb(path, f"colors declared as {getattr(photometric, 'name', photometric)}")
    colors = 3 if photometric in (meaning.RGB, meaning.YCBCR) else 1
    extras = tuple(int(extra) for extra in page.extrasamples)
    if colors == 1 and count > 2:
        raise not_rgb(path, f"{count} channels that are not declared as RGB, which may be fluorescence")
    if not colors <= count <= colors + 1 or (colors == 1 and count == 2 and extras[:1] not in ((1,), (2,))):
        raise not_rgb(path, f"{count} channels, which may be fluorescence")
    alpha = {1: "associated", 2: "unassociated"}.get(extras[0], "") if extras and count > colors else ""
    dtype, bits = page.dtype, page.bitspersample
    if dtype is None or dtype.kind not in "bufi"[: -1 if dtype.kind == "i" else None] or page.sampleformat == 2:
        raise not_rgb(path, f"{bits} bits per sample as {dtype or 'an unknown type'}")
    if isinstance(bits, tuple):  # such as (5, 6, 5), which readers take out of words in different byte orders
        raise not_rgb(path, f"{bits} bits per sample")
    if dtype.kind == "u" and bits > 16:
        raise not_rgb(path, f"{dtype} values")
    if colors == 1 and photometric != meaning.PALETTE and (dtype.kind == "f" or bits > 8):
        raise not_rgb(path, f"{dtype} grayscale, which may be fluorescence")
    if colors == 1 and bits == 1 and photometric != meaning.PALETTE:
        raise not_rgb(path, "an image of one bit, black and white")
    inverted = photometric == meaning.MINISWHITE
    if alpha == "associated" and (inverted or photometric == meaning.PALETTE):
        raise not_rgb(path, "associated opacity of colors that are not brightness")
    palette = _palette(page, bits, path) if photometric == meaning.PALETTE else None
    return Samples(colors, bits, alpha, inverted, palette)


def check_shared_tables(page: tifffile.TiffPage, path: Path) -> None:
    """Raise DataError if the tables that all JPEG segments of a page share are damaged."""
    tables = page.jpegtables if page.compression in JPEG[1:] else None
    if tables is None:
        return
    try:
        check_jpeg_tables(tables, alone=True)
    except ValueError as error:
        raise DataError(f"readable pixels in {path}", str(error), "Copy or export it again.") from error


def _palette(page: tifffile.TiffPage, bits: int, path: Path) -> np.ndarray:
    """Read the colors of a palette, (2**bits, 3) uint8."""
    colors = page.colormap
    if colors is None or colors.shape != (3, 2**bits):
        raise not_rgb(path, "a palette without its colors")
    # Writers of 8-bit values in these 16-bit fields are as frequent as those that multiply by 256 or 257.
    return (colors if colors.max() < 256 else colors >> 8).T.astype(np.uint8)


def _ycbcr(page: tifffile.TiffPage) -> tuple[tuple[float, float, float], tuple[float, ...]] | None:
    """Read how YCbCr is to be converted; None where the samples are no YCbCr, or their codec converts it."""
    if page.compression == APERIO_YCBCR or (
        page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression in JPEG_2000
    ):
        return _JPEG_YCBCR
    if page.photometric != tifffile.PHOTOMETRIC.YCBCR or page.compression in _RGB_CODECS:
        return None
    luma = _rationals(page, "YCbCrCoefficients", 3) or _REC_601
    half, largest = 2 ** (page.bitspersample - 1), 2**page.bitspersample - 1
    reference = _rationals(page, "ReferenceBlackWhite", 6) or (0, largest, half, largest, half, largest)
    if luma[1] == 0 or any(reference[n] == reference[n + 1] for n in (0, 2, 4)):
        raise ValueError("its YCbCr is declared without a range")
    return (luma[0], luma[1], luma[2]), reference


def _rationals(page: tifffile.TiffPage, name: str, count: int) -> tuple[float, ...]:
    tag = page.tags.get(name)
    values = () if tag is None or not isinstance(tag.value, tuple) else tag.value
    if len(values) != 2 * count or 0 in values[1::2]:
        return ()
    return tuple(top / bottom for top, bottom in zip(values[::2], values[1::2], strict=True))


def _segment_size(page: tifffile.TiffPage, path: Path) -> Size:
    if page.is_tiled:
        size, limit = (page.tilelength, page.tilewidth), MAX_TILE_PIXELS
    else:
        size, limit = (min(page.rowsperstrip, page.imagelength), page.imagewidth), MAX_PIXELS
    if min(size) < 1 or math.prod(size) > limit:
        raise DataError(
            f"{'tiles' if page.is_tiled else 'strips'} of at most {limit:,} pixels in {path}",
            f"{'tiles' if page.is_tiled else 'strips'} of {size[0]} x {size[1]} (H x W)",
            "Convert it to tiles of 512 x 512.",
        )
    return size


def _segments(page: tifffile.TiffPage, number: int, path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the offsets and byte counts of all segments, which lie in the file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if min(len(offsets), len(counts)) < number:
        raise DataError(
            f"{number:,} tiles or strips in {path}", f"{min(len(offsets), len(counts)):,}", "Copy or export it again."
        )
    places = np.array([offsets[:number], counts[:number]], dtype=np.int64)
    if page.compression == 1 and not page.is_tiled:  # some writers state more bytes than there are
        rows = min(page.rowsperstrip, page.imagelength)
        samples = page.samplesperpixel if page.planarconfig == tifffile.PLANARCONFIG.CONTIG else 1
        places[1] = np.minimum(places[1], rows * -(-page.imagewidth * samples * page.bitspersample // 8))
    end, nbytes = int(places.sum(axis=0)[places[1] > 0].max(initial=0)), path.stat().st_size
    if end > nbytes:
        raise DataError(
            f"{end:,} bytes in {path}", f"a file that was cut short at {nbytes:,}", "Copy or export it again."
        )
    return tuple(places[0].tolist()), tuple(places[1].tolist())


def _reduced_pages(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """List the reduced versions of a page, from the largest to the smallest."""
    found: dict[Size, tifffile.TiffPage] = {}
    for other in _other_pages(tiff, page):
        size = (other.imagelength, other.imagewidth)
        if min(size) < 1:
            continue
        ratio = math.sqrt(page.imagelength * page.imagewidth / math.prod(size))
        # Sizes are rounded, and levels that were resampled as a whole may be stretched a little.
        fits = all(
            abs(whole / ratio - n) <= max(1.5, 0.05 * n)
            for n, whole in zip(size, (page.imagelength, page.imagewidth), strict=True)
        )
        same = (other.samplesperpixel, other.dtype) == (page.samplesperpixel, page.dtype)
        if ratio > 1 and fits and same and page_orientation(other) in (1, page_orientation(page)):
            found.setdefault(size, other)
    return [found[size] for size in sorted(found, reverse=True)]


def _other_pages(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tifffile.TiffPage]:
    """Yield the pages that may be reduced versions of a page: its SubIFDs, and what is marked so in the chain."""
    for level in page.pages or ():
        if isinstance(level, tifffile.TiffPage):
            yield level
    for other in tiff.pages:
        other = other.aspage() if isinstance(other, tifffile.TiffFrame) else other
        mark = other.tags.get("NewSubfileType")
        if other.offset != page.offset and mark is not None and int(mark.value) & 5 == 1:
            yield other
