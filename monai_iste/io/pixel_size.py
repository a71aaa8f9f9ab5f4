"""Pixel sizes: which of a file's statements is believed, and when two of them are the same.

Pixel sizes are in micrometers per pixel ("mpp"): about 0.25 at 40x, 0.5 at 20x, 1.0 at 10x.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openslide

from monai_iste.errors import ConfigError, ISTEError, ScaleError
from monai_iste.io.stated_pixel_size import AxisLength, Mpp, Stated, describe_mpp, state_axes, tiff_mpp
from monai_iste.io.tiff_pages import main_image, open_tiff

#: Pixel sizes outside this range, in micrometers, are not a microscope's: 72 dpi means "unknown".
PLAUSIBLE_MPP = (0.05, 20.0)

#: Largest relative difference between two pixel sizes that count as the same (:func:`same_mpp`).
MPP_TOLERANCE = 0.01

#: Sources of a pixel size that the user gave, and of one that is not known.
OPTION, UNKNOWN = "--input-mpp", "unknown"

#: Metadata of a MetaTensor: micrometers per pixel, (y, x) or one number.
MPP_KEY = "mpp"

#: Metadata of a MetaTensor: the spacing of its affine for which :data:`MPP_KEY` was written, (y, x).
MPP_SPACING_KEY = "mpp_spacing"


class PixelSize(NamedTuple):
    """Pixel size of an image, and its source.

    Attributes:
        mpp: micrometers per pixel, (y, x); None if unknown.
        source: vendor ("aperio"), "OME", "ImageJ", "TIFF tags", "NIfTI", "--input-mpp" or "unknown".
        stated: pixel size in the file if it contradicts the user's; else None.
        not_believed: first pixel size that the file states and that is not believed, with the reason; else None.
    """

    mpp: Mpp | None
    source: str
    stated: Mpp | None = None
    not_believed: str | None = None

    @property
    def remark(self) -> str:
        """Reason why the file's pixel size is unknown: none is stated, or the one that is not believed."""
        return self.not_believed or "none stated"

    def __str__(self) -> str:
        if self.mpp is None:
            return f"unknown um/px: {self.remark}"
        return f"{describe_mpp(self.mpp)} ({self.source})"

    def overridden(self, input_mpp: float | None) -> PixelSize:
        """Replace the file's pixel size by the user's, if there is one.

        If the file contradicts it by more than 1 %, ``stated`` keeps the file's, so that the user can be warned.

        Raises:
            ConfigError: ``input_mpp`` is not a number above 0.

        Example:
            >>> PixelSize((0.25, 0.25), "aperio").overridden(0.5)
            PixelSize(mpp=(0.5, 0.5), source='--input-mpp', stated=(0.25, 0.25), not_believed=None)
        """
        if input_mpp is None:
            return self
        if not (math.isfinite(input_mpp) and input_mpp > 0):
            raise ConfigError("micrometers per pixel above 0", f"{input_mpp}", "20x is about 0.5, 40x 0.25.")
        agrees = self.mpp is None or all(same_mpp(n, input_mpp) for n in self.mpp)
        return PixelSize((input_mpp, input_mpp), OPTION, None if agrees else self.mpp, self.not_believed)


def same_mpp(mpp: float, other: float) -> bool:
    """Check whether two pixel sizes differ by at most 1 %, which is less than scanners are calibrated to.

    Example:
        >>> same_mpp(0.2498, 0.25), same_mpp(0.252, 0.25), same_mpp(0.26, 0.25)
        (True, True, False)
    """
    return abs(mpp / other - 1) <= MPP_TOLERANCE


def mpp_pair(mpp: Any, error: type[ISTEError] = ConfigError) -> Mpp:
    """Convert a pixel size to (y, x), from one number or from two (also as a tensor, as collating makes of it).

    Args:
        error: raised for a bad value: a ConfigError for settings, a DataError for data.
    Units: micrometers per pixel.
    Raises:
        ConfigError: not one or two finite numbers above 0 and up to 20.

    Example:
        >>> mpp_pair(0.5), mpp_pair([0.5, 0.25])
        ((0.5, 0.5), (0.5, 0.25))
    """
    try:
        values = [float(value) for value in np.asarray(mpp, dtype=np.float64).reshape(-1)]
    except (TypeError, ValueError):
        values = []
    limit = PLAUSIBLE_MPP[1]
    if len(values) not in (1, 2) or not all(0 < value <= limit for value in values):
        raise error(
            f"one pixel size or two (y, x), above 0 and up to {limit:g} micrometers",
            repr(mpp),
            "40x is about 0.25, 20x 0.5, 10x 1.0.",
        )
    return values[0], values[-1]


def check_mpp(name: str, value: float | None) -> float | None:
    """Return an optional pixel size that a user gave.

    Args:
        name: name of the option in the message.
    Raises:
        ScaleError: it is not between 0.001 and 1000 micrometers.
    """
    if value is not None and not 1e-3 <= value <= 1e3:
        raise ScaleError(f"{name} between 0.001 and 1000 micrometers per pixel", repr(value), "Try 0.25, as at 40x.")
    return value


def find_mpp(
    path: str | os.PathLike[str], input_mpp: float | None = None, properties: Mapping[str, str] | None = None
) -> PixelSize:
    """Find the pixel size of a slide or TIFF; never a guess.

    The sources are read in this order, and the first plausible value counts (:data:`PLAUSIBLE_MPP`):

    1. ``input_mpp``, given by the user;
    2. the scanner's vendor, as OpenSlide reads it;
    3. the PhysicalSize of OME-XML, in any unit of its schema;
    4. ImageJ's unit, with TIFF's resolution tags;
    5. TIFF's resolution tags, in inches or centimeters.

    A statement of one axis counts for both.

    Args:
        input_mpp: micrometers per pixel given by the user (:meth:`PixelSize.overridden`).
        properties: OpenSlide's properties of the file, if it is open already.
    Raises:
        ConfigError: ``input_mpp`` is not a number above 0.

    Example:
        >>> find_mpp("a.png", 0.5)
        PixelSize(mpp=(0.5, 0.5), source='--input-mpp', stated=None, not_believed=None)
    """
    return first_plausible(_stated(Path(path), properties)).overridden(input_mpp)


def first_plausible(stated: Iterable[Stated]) -> PixelSize:
    """Choose the first pixel size that is stated without contradiction and lies within :data:`PLAUSIBLE_MPP`.

    Example:
        >>> first_plausible([Stated((400.0, 400.0), "OME"), Stated((0.5, 0.5), "TIFF tags")]).not_believed
        '400 um/px (OME), not believed because it is not between 0.05 and 20 um'
    """
    low, high = PLAUSIBLE_MPP
    not_believed = None
    for statement in stated:
        doubt = statement.doubt
        if not doubt and not all(low <= n <= high for n in statement.mpp or ()):  # also true of NaN
            doubt = f"it is not between {low:g} and {high:g} um"
        if statement.mpp is not None and not doubt:
            return PixelSize(statement.mpp, statement.source, not_believed=not_believed)
        not_believed = not_believed or " ".join(f"{statement}, not believed because {doubt}".split())
    return PixelSize(None, UNKNOWN, not_believed=not_believed)


def is_tiff(path: Path) -> bool:
    """Check whether a file begins as TIFF or BigTIFF does, for any name; False if it cannot be read."""
    with suppress(OSError):
        if not path.is_file():  # a pipe would be waited for
            return False
        with open(path, "rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return False


def vendor_mpp(path: Path, properties: Mapping[str, str] | None = None) -> Iterator[Stated]:
    """Yield the pixel size that the scanner's vendor states, if OpenSlide knows the format."""
    if properties is None:
        properties = _openslide_properties(path)
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "generic-tiff")
    if vendor == "generic-tiff":  # its properties are the tags of the TIFF
        return
    names = (openslide.PROPERTY_NAME_MPP_Y, openslide.PROPERTY_NAME_MPP_X)
    axes = [AxisLength(properties[name], "um") if name in properties else None for name in names]
    yield from state_axes(axes, vendor)


def _stated(path: Path, properties: Mapping[str, str] | None) -> Iterator[Stated]:
    yield from vendor_mpp(path, properties)
    if is_tiff(path):
        yield from _tiff_stated(path)


def _tiff_stated(path: Path) -> list[Stated]:
    try:
        with open_tiff(path) as tiff:
            return list(tiff_mpp(tiff, main_image(tiff).page))
    except Exception as error:  # a damaged header raises various errors; a slide of a scanner may be no whole TIFF
        return [Stated(None, "TIFF", "its header", f"it is damaged ({type(error).__name__}: {error})")]


def _openslide_properties(path: Path) -> Mapping[str, str]:
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
        return {}
    try:
        with openslide.OpenSlide(path) as slide:
            return dict(slide.properties)
    except openslide.OpenSlideError:  # also where OpenSlide does not know the format
        return {}
