"""Reading of regions of whole slides, at any pixel size."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np

from monai_iste.errors import DataError, ShapeError
from monai_iste.inferers import Region
from monai_iste.inferers.output_size import OutputSize
from monai_iste.io.byte_cache import ByteCache
from monai_iste.io.image_reader import rgb_profile
from monai_iste.io.pixel_size import Mpp, PixelSize
from monai_iste.io.pixels import open_pixels
from monai_iste.slides.resampling import LevelPixels, Size, best_level, level_extent, resample_region
from monai_iste.slides.source import Source


class Slide:
    """Whole slide or plain image that is read by regions; opening it decodes nothing.

    * Every consumer of this library opens files by :func:`~monai_iste.io.pixels.open_pixels`, so that pixels are those
      of :func:`~monai_iste.io.read_rgb`.
    * Slides of scanner vendors (SVS, NDPI, MRXS, DICOM, ...) are read by OpenSlide, other TIFFs by tifffile. Where a
      slide has no pixels, its background color is returned, white if it states none.
    * PNG, JPEG, BMP, WebP and NIfTI have one level, which is decoded at the first reading and kept in memory.

    A slide may be read from several threads. After OpenSlide has failed once, it refuses every further call; open the
    slide again.

    Args:
        path: file of the slide; for formats with several files, the one to pass to OpenSlide.
        input_mpp: micrometers per pixel given by the user, instead of the file's.
    Attributes:
        path: file of the slide.
        source: identity of its content.
        size: (h, w) of level 0, upright.
        levels: (h, w) of each level, from the largest to the smallest.
        mpp: micrometers per pixel of level 0, (y, x); None if unknown or implausible.
        pixel_size: ``mpp`` with its source, and what the file states beside it
            (:class:`~monai_iste.io.pixel_size.PixelSize`).
        icc: RGB color profile, or None. It is not applied to the pixels.
        note: sentence for the user where not the first page of a TIFF is read; else empty.
    Shape:
        pixels are (height, width, 3).
    Units: uint8, 0 to 255; positions in pixels, rows from top to bottom.
    Raises:
        DataError: the file is missing, damaged, truncated, too large, too small for the declared size, or not RGB.
        ConfigError: ``input_mpp`` is not above 0.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.new("RGB", (60, 40), "pink").save(file)
        >>> with Slide(file, input_mpp=0.5) as slide:
        ...     slide.read(Region(0, 0, 8, 9)).shape
        ...     size = slide.size_at(0.7)
        ...     size, slide.read_at(size, Region(9, 0, 20, 43)).shape
        (8, 9, 3)
        ((29, 43), (20, 43, 3))
    """

    def __init__(self, path: str | os.PathLike[str], input_mpp: float | None = None) -> None:
        self.path = Path(path)
        self.source = Source(self.path)  # before the file is opened: a later change is then noticed
        self._pixels = open_pixels(self.path)
        try:
            self.levels: tuple[Size, ...] = self._pixels.levels
            self.size: Size = self.levels[0]
            self.pixel_size: PixelSize = self._pixels.pixel_size().overridden(input_mpp)
            self.mpp: Mpp | None = self.pixel_size.mpp
            self.icc: bytes | None = rgb_profile(self._pixels)
            self.note: str = self._pixels.note
        except BaseException:
            self.close()
            raise

    def share_cache(self, cache: ByteCache) -> None:
        """Keep decoded pixels in a cache that others use too."""
        self._pixels.cache = cache

    @property
    def mpp_source(self) -> str:
        """Source of ``mpp``: the vendor ("aperio"), "OME", "ImageJ", "TIFF tags", "--input-mpp", "unknown", ..."""
        return self.pixel_size.source

    @property
    def stated_mpp(self) -> Mpp | None:
        """Pixel size that the file states, if it contradicts ``input_mpp`` by more than 1 %; else None."""
        return self.pixel_size.stated

    def read(self, region: Region, level: int = 0) -> np.ndarray:
        """Read a region of a level, in that level's pixels.

        OpenSlide addresses levels in level-0 pixels. Regions of a level of rounded size (a quarter of 1001 pixels, 250)
        are therefore off by up to half a level-0 pixel. :meth:`read_at` accounts for that.

        Shape:
            returns (height, width, 3), contiguous.
        Raises:
            ShapeError: the region is not inside the level, or there is no such level.
            DataError: it cannot be decoded; the message names the file and the region, or says that the file changed.
        """
        if not 0 <= level < len(self.levels):
            raise ShapeError(
                f"a level from 0 to {len(self.levels) - 1} of {self.path}", f"{level}", "Its levels have them all."
            )
        _check_inside(region, self.levels[level], f"level {level} of {self.path}")
        step = self._pixels.steps[level]
        start = round(region.top * step), round(region.left * step)
        return np.array(self._read(level, start, (region.height, region.width)), order="C")  # always a copy

    def read_at(self, size: Size, region: Region) -> np.ndarray:
        """Read a region of the whole slide resampled to ``size``; the pixels do not depend on the region.

        The smallest level that is large enough is reduced by Lanczos's filter, with exact pixel centers; see
        :func:`~monai_iste.slides.resampling.resample_region`.

        Args:
            size: (H, W) of the resampled slide, see :meth:`size_at`. It may be larger than level 0.
            region: in pixels of the resampled slide.
        Shape:
            returns (height, width, 3), contiguous.
        Raises:
            ShapeError: the region is not inside ``size``.
            DataError: as :meth:`read`.
        """
        if min(size) < 1:
            raise ShapeError("a size (H, W) of at least 1 x 1", f"{size[0]} x {size[1]}", "Ask size_at for one.")
        _check_inside(region, size, f"{self.path} at {size[0]} x {size[1]}")
        level = best_level(self.levels, size)
        if level == 0 and tuple(size) == self.size:
            return self.read(region)
        pixels = LevelPixels(
            self.levels[level],
            level_extent(self.levels[level], self.size),
            self._pixels.steps[level],
            partial(self._read, level),
        )
        return resample_region(pixels, size, region)

    def _read(self, level: int, start: tuple[int, int], size: Size) -> np.ndarray:
        """Read pixels; of a file that was changed meanwhile, say so: how it is damaged does not matter then."""
        try:
            return self._pixels.read(level, start, size)
        except DataError as error:
            if self.source.is_changed():
                raise self.source.changed() from error
            raise

    def size_at(self, mpp: float) -> Size:
        """Compute the size (H, W) of the slide at a pixel size (:class:`~monai_iste.inferers.output_size.OutputSize`).

        Raises:
            DataError: the slide's own pixel size is unknown.
            ConfigError: ``mpp`` is not above 0.
        """
        return OutputSize(mpp=mpp).resolve(self.size, self.mpp, self.path, self.pixel_size.remark)

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        self._pixels.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_inside(region: Region, size: Size, what: str) -> None:
    top, left, height, width = region
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise ShapeError(
            f"a region (top, left, height, width) inside {what}, {size[0]} x {size[1]} pixels",
            str(tuple(region)),
            "Ask for a part of it.",
        )
