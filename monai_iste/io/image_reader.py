"""Reading of image files: the pixels as 8-bit RGB, and the header as :class:`ImageInfo`.

Images are held in memory; regions of whole slides are read by :mod:`monai_iste.slides`. Both open files by
:func:`~monai_iste.io.pixels.open_pixels`.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monai_iste.errors import DataError
from monai_iste.io.checks import check_memory
from monai_iste.io.pixel_size import Mpp, PixelSize
from monai_iste.io.pixels import Pixels, open_pixels

_BAND_PIXELS = 2**24  # read at once


def read_rgb(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode an image or a slide to 8-bit RGB.

    * Images are turned upright, as EXIF or TIFF's Orientation says. Color profiles are not applied.
    * RGB of 1 to 16 bits is scaled by its largest value, 2**bits - 1, and rounded. Float RGB must lie in [0, 1].
    * Gray of up to 8 bits is repeated in three channels, palettes are looked up.
    * Opacity is composited over white, the color of the background: once, whether colors are multiplied by it or not.
      A fourth sample without a declared meaning is dropped.
    * 16-bit or float gray, one-bit images, and anything of 2 or more than 4 channels are refused. They may be
      fluorescence or masks. So are CMYK and CIELab.
    * Several pages or slices of equal size are refused; of a pyramid, the full-resolution level is read.
    * NIfTI stores (x, y): its axes are swapped, so that rows are y. Its affine is not applied.

    Shape:
        returns (3, H, W), contiguous, rows from top to bottom.
    Units: uint8, 0 to 255.
    Raises:
        DataError: the file is missing, damaged or not an RGB image. The sentence names the file.
        TooManyPixels: it has more than :data:`~monai_iste.io.checks.MAX_PIXELS`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "gray.png"
        >>> Image.new("L", (4, 2), 7).save(file)
        >>> read_rgb(file).shape, int(read_rgb(file).max())
        ((3, 2, 4), 7)
    """
    with closing(_open_image(Path(path))) as pixels:
        height, width = pixels.levels[0]
        image = np.empty((3, height, width), np.uint8)
        rows = max(256, _BAND_PIXELS // width)
        for top in range(0, height, rows):
            band = pixels.read(0, (top, 0), (min(rows, height - top), width))
            image[:, top : top + rows] = band.transpose(2, 0, 1)
        return image


class ImageInfo(NamedTuple):
    """Header of an image file.

    Attributes:
        size: (H, W), upright.
        pixel_size: micrometers per pixel, and their source.
        icc: RGB color profile, or None. A profile of another color space (of a gray image, say) would not describe the
            RGB that :func:`read_rgb` returns, and is left out.
        kind: format of the file: "png", "jpeg", "bmp", "webp", "tiff", "nifti", or OpenSlide's name of the vendor.
        note: sentence for the user where not the first page is read (:func:`~monai_iste.io.tiff_pages.choose_page`).
    """

    size: tuple[int, int]
    pixel_size: PixelSize
    icc: bytes | None
    kind: str
    note: str = ""

    @property
    def mpp(self) -> Mpp | None:
        """Micrometers per pixel, (y, x); None if unknown."""
        return self.pixel_size.mpp


def probe(path: str | os.PathLike[str], input_mpp: float | None = None) -> ImageInfo:
    """Read the header of an image file, without its pixels.

    Args:
        input_mpp: micrometers per pixel given by the user, instead of the file's.
    Raises:
        DataError: as :func:`read_rgb`, as far as the header shows it.
        ConfigError: ``input_mpp`` is not above 0.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.new("RGB", (4, 2)).save(file)
        >>> info = probe(file)
        >>> info.size, info.mpp, info.kind
        ((2, 4), None, 'png')
    """
    with closing(_open_image(Path(path))) as pixels:
        pixel_size = pixels.pixel_size().overridden(input_mpp)
        return ImageInfo(pixels.levels[0], pixel_size, rgb_profile(pixels), pixels.kind, pixels.note)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read the declared size (H, W) of an image file.

    Raises:
        DataError: as :func:`read_rgb`, as far as the header shows it.
    """
    with closing(_open_image(Path(path))) as pixels:
        return pixels.levels[0]


def rgb_profile(pixels: Pixels) -> bytes | None:
    """Read the color profile of an opened file, if it is one of RGB."""
    icc = pixels.icc()
    return icc if icc and icc[16:20] == b"RGB " else None


def _open_image(path: Path) -> Pixels:
    pixels = open_pixels(path)
    try:
        check_memory(path, pixels.levels[0])
    except DataError:
        pixels.close()
        raise
    return pixels
