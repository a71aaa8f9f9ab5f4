"""One way from a file to its pixels, for every consumer: which reader opens it, and the checks before that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import openslide
import tifffile
from PIL import Image

from monai_iste.errors import DataError, ISTEError
from monai_iste.io.byte_cache import ByteCache
from monai_iste.io.checks import check_counts, check_file, has_directory, too_many_pixels
from monai_iste.io.openslide_reader import OpenSlidePixels
from monai_iste.io.orientation import page_orientation
from monai_iste.io.pixel_size import PixelSize, is_tiff
from monai_iste.io.samples import not_rgb
from monai_iste.io.tiff_pages import main_image, open_tiff
from monai_iste.io.tiff_reader import APERIO_YCBCR, TiffPixels, check_shared_tables, declared_samples
from monai_iste.io.whole_image import (
    WholeImagePixels,
    as_data_error,
    decode_nifti,
    decode_pillow,
    read_nifti_header,
    read_pillow_header,
)

_PLAIN = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_NIFTI = (".nii", ".nii.gz")

#: File name suffixes of images, lower case.
IMAGE_SUFFIXES = (*_PLAIN, ".tif", ".tiff", ".svs", *_NIFTI)

#: File name endings of slides, lower case; DICOM, of which one slide is many files, is not among them.
SLIDE_ENDINGS = (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu", ".czi")

Size = tuple[int, int]


class Pixels(Protocol):
    """Interface of an opened file, addressed in pixels of level 0, upright.

    Attributes:
        kind: format, as in :class:`~monai_iste.io.image_reader.ImageInfo`.
        levels: (h, w) of each level, from the largest to the smallest.
        steps: distance between adjacent pixels of each level, in level-0 pixels.
        note: sentence for the user where not the first page of a TIFF is read.
        cache: keeps decoded pixels; may be replaced by one that others use too.
    """

    kind: str
    levels: tuple[Size, ...]
    steps: tuple[float, ...]
    note: str
    cache: ByteCache

    def read(self, level: int, start: Size, size: Size) -> np.ndarray:
        """Read ``size`` (height, width) of a level, from the level-0 pixel ``start`` (y, x) on.

        Shape:
            returns (height, width, 3) uint8, which may be a view.
        """

    def pixel_size(self) -> PixelSize:
        """Read the pixel size that the file states."""

    def icc(self) -> bytes | None:
        """Read the color profile."""

    def close(self) -> None:
        """Close the file; further calls do nothing."""


def open_pixels(path: Path) -> Pixels:
    """Open an image or a slide; nothing is decoded.

    * What OpenSlide knows as a scanner vendor's slide is read by OpenSlide. Aperio's slides that are not upright
      8-bit RGB, are YCbCr in JPEG 2000, or cannot be opened by it, are read as other TIFFs.
    * Other TIFFs are read by tifffile. What it cannot decode, such as old color encodings, is read by OpenSlide if it
      is tiled, else by Pillow.
    * PNG, JPEG, BMP and WebP are read by Pillow, NIfTI by nibabel.

    The content decides, not the name; only NIfTI is known by its name.

    Raises:
        DataError: the file is missing, empty, no regular file, truncated, too small for the declared size, or neither
            a slide nor an RGB image.
        TooManyPixels: it has more than are read.
    """
    check_file(path)
    try:
        return _open(path)
    except ISTEError:
        raise
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise too_many_pixels(path, "more, which Pillow does not decode", limit) from error
    except Exception as error:  # any error of a decoder
        raise as_data_error(error, path) from error


def _open(path: Path) -> Pixels:
    name, tiff = path.name.lower(), is_tiff(path)
    if tiff:
        check_counts(path)
    vendor = openslide.OpenSlide.detect_format(path) if tiff or not name.endswith(_PLAIN) else None
    if vendor not in (None, "generic-tiff"):
        return _open_vendor(path, vendor) if tiff else OpenSlidePixels(path, vendor)
    if vendor is None and not tiff and not name.endswith(IMAGE_SUFFIXES):
        raise DataError(
            f"a slide that OpenSlide reads, or an image ({', '.join(IMAGE_SUFFIXES)})",
            str(path),
            "Convert it to PNG or TIFF.",
        )
    if tiff:
        return _open_tiff(path, is_generic=vendor is not None)
    if name.endswith(_NIFTI):
        return WholeImagePixels(path, read_nifti_header, decode_nifti)
    return WholeImagePixels(path, read_pillow_header, decode_pillow)


def _open_vendor(path: Path, vendor: str) -> Pixels:
    with open_tiff(path, _multifile=False) as tiff:
        page = tiff.pages.first if vendor != "aperio" else main_image(tiff).page
        is_plain, orientation = _is_plain_rgb(page, path), page_orientation(page)
        check_shared_tables(page, path)
    if vendor != "aperio":
        if orientation != 1:
            raise not_rgb(path, f"a slide of {vendor} that is stored turned or mirrored (orientation {orientation})")
        return OpenSlidePixels(path, "tiff")
    if not is_plain or page.compression == APERIO_YCBCR:
        # OpenSlide would convert any TIFF to RGB, fluorescence too; JPEG's YCbCr is converted alike in all files.
        return TiffPixels(path)
    try:
        return OpenSlidePixels(path, "tiff")
    except DataError:
        return TiffPixels(path)


def _open_tiff(path: Path, is_generic: bool) -> Pixels:
    try:
        return TiffPixels(path)
    except DataError:
        raise
    except Exception:
        if not has_directory(path):
            raise
        others: list[Callable[[], Pixels]] = [
            partial(
                WholeImagePixels,
                path,
                partial(read_pillow_header, formats=("TIFF",)),
                partial(decode_pillow, formats=("TIFF",)),
            )
        ]
        if is_generic and _first_page_is_plain(path):
            others.insert(0, partial(OpenSlidePixels, path, "tiff"))
        for other in others:
            try:
                return other()
            except Exception:  # the first error says what is wrong with the file
                continue
        raise


def _first_page_is_plain(path: Path) -> bool:
    with open_tiff(path, _multifile=False) as tiff:
        main = main_image(tiff)
        return not main.note and not main.is_stack and _is_plain_rgb(main.page, path)


def _is_plain_rgb(page: tifffile.TiffPage, path: Path) -> bool:
    """Check whether a page is upright RGB of 8 bits without further samples, which every reader understands alike."""
    try:
        samples = declared_samples(page, path)
    except DataError:
        return False
    return samples.colors == 3 and samples.bits == 8 and page.samplesperpixel == 3 and page_orientation(page) == 1
