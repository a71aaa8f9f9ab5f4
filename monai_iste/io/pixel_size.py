"""Where the pixel size of an image comes from: whom a file is asked through, in which order, and what is believed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import openslide
import tifffile

from monai_iste.errors import ConfigError

#: Pixel sizes outside this range, in micrometers, are not a microscope's: 72 dpi means "unknown".
PLAUSIBLE_MPP = (0.05, 20.0)

#: The relative difference above which two pixel sizes contradict each other.
SAME_MPP = 0.01

#: Where a pixel size comes from that the user gave, and one that nobody gave.
OPTION, UNKNOWN = "--input-mpp", "unknown"

Mpp = tuple[float, float]


class PixelSize(NamedTuple):
    """Micrometers per pixel, (y, x), or None; where they were found; and what the file states if that contradicts."""

    mpp: Mpp | None
    source: str
    stated: Mpp | None = None


def find_mpp(
    path: str | os.PathLike[str], input_mpp: float | None = None, properties: Mapping[str, str] | None = None
) -> PixelSize:
    """The pixel size of an image or slide, and who says so; unknown is an answer, a guess is not.

    The file is asked in this order, and the first plausible answer counts (:data:`PLAUSIBLE_MPP`): the scanner's
    vendor, as OpenSlide reads it; the PhysicalSize of OME-TIFF; the resolution tags of TIFF in inches or centimeters.
    PNG and JPEG are not asked: their density is a printer's. The user's word counts above all of them.

    Args:
        input_mpp: the user's word, micrometers per pixel. Where the file contradicts it by more than 1 %, the result
            says what the file states, so that the user can be told.
        properties: OpenSlide's properties of the file, if they are at hand; otherwise it is opened.
    Raises:
        ConfigError: ``input_mpp`` is not a number above 0.

    Example:
        >>> find_mpp("a.png", 0.5)
        PixelSize(mpp=(0.5, 0.5), source='--input-mpp', stated=None)
    """
    low, high = PLAUSIBLE_MPP
    answers = (found for found in _answers(Path(path), properties) if all(low <= n <= high for n in found[0]))
    mpp, source = next(answers, (None, UNKNOWN))
    if input_mpp is None:
        return PixelSize(mpp, source)
    if not (math.isfinite(input_mpp) and input_mpp > 0):
        raise ConfigError("micrometers per pixel above 0", f"{input_mpp}", "20x is about 0.5, 40x 0.25.")
    contradicts = mpp is not None and any(abs(n / input_mpp - 1) > SAME_MPP for n in mpp)
    return PixelSize((input_mpp, input_mpp), OPTION, mpp if contradicts else None)


def source_mpp(path: str | os.PathLike[str]) -> Mpp | None:
    """Micrometers per pixel, (y, x), if the file states them, else None: :func:`find_mpp` without a user."""
    return find_mpp(path).mpp


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF or BigTIFF does, whatever it is called; False if it cannot be read."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return False


def _answers(path: Path, properties: Mapping[str, str] | None) -> Iterator[tuple[Mpp, str]]:
    if properties is None:
        properties = _openslide_properties(path)
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "generic-tiff")
    if vendor != "generic-tiff" and (found := _vendor_mpp(properties)):  # a generic TIFF's are its tags, read below
        yield found, vendor
    if is_tiff(path):
        with suppress(tifffile.TiffFileError, IndexError), tifffile.TiffFile(path) as tiff:  # a slide may be no TIFF
            tags = tiff.series[0].keyframe.tags
            if found := _ome_mpp(tiff.ome_metadata or ""):
                yield found, "OME"
            if found := _tag_mpp(tags):
                yield found, "TIFF tags"


def _openslide_properties(path: Path) -> Mapping[str, str]:
    try:
        with openslide.OpenSlide(path) as slide:
            return dict(slide.properties)
    except openslide.OpenSlideError:  # also where OpenSlide does not know the format
        return {}


def _vendor_mpp(properties: Mapping[str, str]) -> Mpp | None:
    try:
        return float(properties[openslide.PROPERTY_NAME_MPP_Y]), float(properties[openslide.PROPERTY_NAME_MPP_X])
    except (KeyError, ValueError):
        return None


def _ome_mpp(xml: str) -> Mpp | None:
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", xml)
    values = dict(re.findall(r'\bPhysicalSize(\w+)="([^"]*)"', pixels.group())) if pixels else {}
    units = {"\N{MICRO SIGN}m": 1, "\N{GREEK SMALL LETTER MU}m": 1, "um": 1, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
    try:
        y, x = (float(values[axis]) * units[values.get(f"{axis}Unit", "um")] for axis in "YX")
    except (KeyError, ValueError):
        return None
    return y, x


def _tag_mpp(tags: tifffile.TiffTags) -> Mpp | None:
    try:
        unit = {2: 25_400.0, 3: 10_000.0}[int(tags["ResolutionUnit"].value)]
        (top, y), (left, x) = (tags[f"{axis}Resolution"].value for axis in "YX")
        return unit * y / top, unit * x / left
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
