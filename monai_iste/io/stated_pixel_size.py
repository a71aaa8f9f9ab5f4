"""Pixel sizes as files state them: OME-XML, ImageJ's description, TIFF's tags, NIfTI's header.

A statement that cannot be understood carries the reason. Which statement is believed is decided in
:mod:`monai_iste.io.pixel_size`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import tifffile

from monai_iste.io.ome_xml import OmeImage, is_ome_xml, ome_images
from monai_iste.io.orientation import page_orientation, swaps_axes

Mpp = tuple[float, float]

_INCH = 25_400.0

# SI prefixes of the meter, as factors to micrometers.
_PREFIXES = {
    **{"Y": 1e30, "Z": 1e27, "E": 1e24, "P": 1e21, "T": 1e18, "G": 1e15, "M": 1e12, "k": 1e9, "h": 1e8, "da": 1e7},
    **{"": 1e6, "d": 1e5, "c": 1e4, "m": 1e3, "u": 1.0, "\N{GREEK SMALL LETTER MU}": 1.0, "n": 1e-3, "p": 1e-6},
    **{"f": 1e-9, "a": 1e-12, "z": 1e-15, "y": 1e-18},
}

#: Micrometers in the units of length of the OME schema. Its "pixel" and "reference frame" are no lengths.
MICROMETERS = {
    **{f"{prefix}m": factor for prefix, factor in _PREFIXES.items()},
    **{"\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": 1e-4, "thou": 25.4, "li": _INCH / 12, "in": _INCH},
    **{"ft": 12 * _INCH, "yd": 36 * _INCH, "mi": 63_360 * _INCH, "pt": _INCH / 72},
    **{"ua": 1.495978707e17, "ly": 9.4607304725808e21, "pc": 3.0856775814913673e22},
}

# Spellings of ImageJ, NIfTI and others, in lower case.
_WORDS = {"micron": 1.0, "microns": 1.0, "inch": _INCH, "inches": _INCH, '"': _INCH, "angstrom": 1e-4}
_WORDS |= {
    f"{word}met{ending}": _PREFIXES[prefix]
    for word, prefix in {"": "", "centi": "c", "milli": "m", "micro": "u", "nano": "n"}.items()
    for ending in ("er", "re", "ers", "res")
}

_NO_UNIT = ("", "pixel", "pixels")


class Stated(NamedTuple):
    """Pixel size that a file states.

    Attributes:
        mpp: micrometers per pixel, (y, x); None if they cannot be computed.
        source: "aperio" (the vendor), "OME", "ImageJ", "TIFF tags", ...
        text: what is stated, for messages; default: ``mpp``.
        doubt: reason not to believe it, as a clause; else empty.
    """

    mpp: Mpp | None
    source: str
    text: str = ""
    doubt: str = ""

    def __str__(self) -> str:
        return f"{_text(self)} ({self.source})"


def describe_mpp(mpp: Mpp | None) -> str:
    """Write a pixel size, with both axes if they differ visibly.

    Example:
        >>> describe_mpp((0.25, 0.25)), describe_mpp((0.25, 0.5)), describe_mpp(None)
        ('0.25 um/px', '0.25 x 0.5 um/px (y, x)', 'unknown um/px')
    """
    if mpp is None:
        return "unknown um/px"
    y, x = (f"{n:.4g}" for n in mpp)
    return f"{x} um/px" if y == x else f"{y} x {x} um/px (y, x)"


def micrometers(unit: str) -> float | None:
    """Return the length of a unit in micrometers; None for what is no length.

    Example:
        >>> micrometers("nm"), micrometers("Microns"), micrometers("pixel")
        (0.001, 1.0, None)
    """
    name = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda code: chr(int(code[1], 16)), unit)  # as ImageJ escapes them
    name = unicodedata.normalize("NFKC", name).strip()  # the micro sign becomes mu
    name = name.removeprefix("\N{LATIN CAPITAL LETTER A WITH CIRCUMFLEX}")  # UTF-8 that was read as Latin-1
    return MICROMETERS.get(name) or _WORDS.get(name.lower())


class AxisLength(NamedTuple):
    """Length of a pixel along one axis, as it is stated: a number and its unit."""

    number: str
    unit: str

    def length(self) -> float | None:
        try:
            value = float(self.number) * (micrometers(self.unit) or math.nan)
        except ValueError:
            return None
        return value if 0 < value < math.inf else None

    def doubt(self) -> str:
        return (
            f"{self.unit!r} is no unit of length"
            if micrometers(self.unit) is None
            else f"{self.number!r} is no number above 0"
        )


def state_axes(axes: Sequence[AxisLength | None], source: str) -> Iterator[Stated]:
    """Yield the statement of two axes, (y, x), of which one may be missing: pixels are square then."""
    stated = [axis for axis in axes if axis is not None]
    if not stated:
        return
    y, x = stated[0], stated[-1]
    lengths = y.length(), x.length()
    if lengths[0] is not None and lengths[1] is not None:
        yield Stated((lengths[0], lengths[1]), source)
        return
    wrong = y if lengths[0] is None else x
    yield Stated(None, source, f"{wrong.number[:40]} {wrong.unit[:40]}".strip() + " per pixel", wrong.doubt())


# --- TIFF -------------------------------------------------------------------------------------------------------------


def tiff_mpp(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[Stated]:
    """Yield the pixel sizes that an opened TIFF states of a page: in OME-XML, in ImageJ's description, in its tags.

    They are those of the upright image.
    """
    turned = swaps_axes(page_orientation(page))
    for stated in _stored_mpp(tiff, page):
        yield stated._replace(mpp=stated.mpp[::-1]) if turned and stated.mpp is not None else stated


def _stored_mpp(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[Stated]:
    first = tiff.pages.first
    for description in dict.fromkeys((first.description, page.description)):
        if is_ome_xml(description):
            number = page.index if isinstance(page.index, int) else page.index[0]
            yield from ome_mpp(description, number, (page.imagelength, page.imagewidth), tiff.filename)
        elif description.lstrip().startswith("ImageJ="):
            yield from _imagej_mpp(description, page.tags)
    yield from _tag_mpp(page.tags)


def _imagej_mpp(description: str, tags: tifffile.TiffTags) -> Iterator[Stated]:
    """Yield ImageJ's pixel size: the unit stands in the description, pixels per unit in the tags."""
    lines = (line.partition("=") for line in description.splitlines())
    properties = {key.strip(): value.strip() for key, _, value in lines}
    unit = properties.get("unit", "")
    units = properties.get("yunit", unit), properties.get("xunit", unit)
    axes = [
        None if per is None or unit.lower() in _NO_UNIT else AxisLength(f"{1 / per:.8g}" if per else "0", unit)
        for unit, per in zip(units, _pixels_per_unit(tags), strict=True)
    ]
    yield from state_axes(axes, "ImageJ")


def _tag_mpp(tags: tifffile.TiffTags) -> Iterator[Stated]:
    code = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2  # the default of TIFF 6.0
    if code == 1:  # the tags state a ratio, no size
        return
    unit = {2: "in", 3: "cm"}.get(code, f"unit {code}") if isinstance(code, int) else "unit unknown"
    axes = [
        None if per is None else AxisLength(f"{1 / per:.12g}" if per else "0", unit) for per in _pixels_per_unit(tags)
    ]
    yield from state_axes(axes, "TIFF tags")


def _pixels_per_unit(tags: tifffile.TiffTags) -> list[float | None]:
    """Read YResolution and XResolution; None for each that is missing, 0 for one that is no number."""
    found: list[float | None] = []
    for name in ("YResolution", "XResolution"):
        value = tags[name].value if name in tags else None
        try:
            above, below = value if isinstance(value, tuple) else (value, 1)
            found.append(None if value is None else above / below)
        except (TypeError, ValueError, ZeroDivisionError):
            found.append(0.0)
    return found


# --- OME-XML ----------------------------------------------------------------------------------------------------------


def ome_mpp(xml: str, number: int, size: tuple[int, int], filename: str) -> Iterator[Stated]:
    """Yield the pixel size that OME-XML states of one page.

    Of several images, the one counts that has the page's size and names the page.

    Args:
        number: number of the page in the file, from 0.
        size: (h, w) of the page as stored.
        filename: name of the file (:func:`~monai_iste.io.ome_xml.ome_images`).
    """
    try:
        images = ome_images(xml, filename)
    except ValueError as error:
        yield Stated(None, "OME", "its XML", str(error))
        return
    fitting = [image for image in images if image.has_size(size)]
    named = [image for image in fitting if image.has_page(number)]
    found = list(dict.fromkeys(found for image in named or fitting for found in _image_mpp(image)))
    if len(found) == 1:
        yield found[0]
    elif found:
        yield Stated(None, "OME", " and ".join(map(_text, found[:3])), "its images do not say which of them this is")
    elif not fitting:
        other = next(((image, found) for image in images for found in _image_mpp(image)), None)
        if other is not None:
            (height, width), found_there = other[0].size, other[1]
            doubt = f"it is of an image of {height} x {width} (H x W), and this one has {size[0]} x {size[1]}"
            yield Stated(None, "OME", _text(found_there), doubt)


def _image_mpp(image: OmeImage) -> Iterator[Stated]:
    yield from state_axes([None if length is None else AxisLength(*length) for length in image.lengths], "OME")


def _text(stated: Stated) -> str:
    return stated.text or describe_mpp(stated.mpp)


# --- other formats ----------------------------------------------------------------------------------------------------


def density_mpp(density: Any, kind: str) -> Iterator[Stated]:
    """Yield what PNG, JPEG and BMP state, (x, y) dots per inch, which is not believed."""
    try:
        x, y = (_INCH / float(dots) for dots in density)
    except (TypeError, ValueError, ZeroDivisionError):
        return
    if 0 < x < math.inf and 0 < y < math.inf:
        yield Stated((y, x), kind.upper(), doubt="this format mostly states a printer's resolution")


def nifti_mpp(header: Any) -> Iterator[Stated]:
    """Yield the pixel size of a NIfTI header, whose axes are (x, y)."""
    x, y = (str(float(zoom)) for zoom in header.get_zooms()[:2])
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:  # a code that NIfTI does not have
        unit = "unknown"
    if (unit, x, y) != ("unknown", "1.0", "1.0"):  # which is what a header without a pixel size has
        yield from state_axes([AxisLength(y, unit), AxisLength(x, unit)], "NIfTI")
