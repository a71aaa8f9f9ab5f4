"""Choice of the page of a TIFF that holds the image: the first may be a label, a thumbnail or a reduced version."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from monai_iste.io.ome_xml import is_ome_xml, ome_images

# A later page of at least so many times the pixels is the image, and the first one a small version of it. Half the size
# is a quarter of the pixels, or a little more where odd sizes are rounded up.
_SMALL = 3

_EXTRAS = re.compile(r"\s*(label|macro|thumbnail|overview)\b", re.IGNORECASE)


class MainImage(NamedTuple):
    """Image of a TIFF, in full resolution.

    Attributes:
        page: its page.
        levels: the page as a series, and the series of its reduced versions.
        is_stack: whether there are other images of the same size, as in a stack of slices.
        note: sentence for the user where it is not in the first page; else empty.
    """

    page: tifffile.TiffPage
    levels: list[tifffile.TiffPageSeries]
    is_stack: bool
    note: str


def open_tiff(path: Path, **options: Any) -> tifffile.TiffFile:
    """Open a TIFF, whatever its name.

    tifffile expects the layout of Hamamatsu's slides in every file named ``.ndpi``, and finds no page in other TIFFs.
    """
    tiff = tifffile.TiffFile(path, **options)
    if path.suffix.lower() == ".ndpi" and not tiff.pages:
        tiff.close()
        return tifffile.TiffFile(path, is_ndpi=False, **options)
    return tiff


def main_image(tiff: tifffile.TiffFile) -> MainImage:
    """Find the image of an opened TIFF (:func:`choose_page`).

    Raises:
        ValueError: it holds no page.
    """
    names = _ome_names(tiff)
    # Pages are grouped by what they are. OME-XML may describe other files, missing pages or billions of them.
    tiff.is_ome = False
    if not tiff.series:
        raise ValueError("it holds no page")
    candidates = [(series, page) for series in tiff.series for page in _full_pages(series)]
    marks = [page_mark(page, names.get(page.index, series.name)) for series, page in candidates]
    number, note = choose_page([page for _, page in candidates], marks)
    chosen, page = candidates[number]
    marked = sum(bool(mark) for (series, other), mark in zip(candidates, marks, strict=True) if series is chosen)
    planes = math.prod(chosen.shape) // math.prod(page.shape) - (marked if not marks[number] else 0)
    equal = any(
        series is not chosen and not mark and series.shape == chosen.shape
        for (series, _), mark in zip(candidates, marks, strict=True)
    )
    return MainImage(page, chosen.levels, planes > 1 or equal, note)


def _ome_names(tiff: tifffile.TiffFile) -> dict[Any, str]:
    """Read the names of the images of OME-XML, by the number of their first page."""
    description = tiff.pages.first.description if len(tiff.pages) else ""
    if not is_ome_xml(description):
        return {}
    try:
        images = ome_images(description, tiff.filename)
    except ValueError:
        return {}
    return {image.pages[0][0]: image.name for image in images if image.pages}


def _full_pages(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage]:
    """List the pages of a series that have a directory of their own; in a stack of planes, only the first."""
    pages = [page for page in series.pages if isinstance(page, tifffile.TiffPage)]
    return pages if series.kind == "generic" and pages else [series.keyframe]


def choose_page(pages: Sequence[tifffile.TiffPage], marks: Sequence[str]) -> tuple[int, str]:
    """Choose the page that holds the image.

    That is the first page, unless it is marked (:func:`page_mark`), or a later page has at least three times its
    pixels. Then it is the largest page that is not marked. Where every page is marked, all are compared.

    Args:
        pages: candidates, at least one: the full resolutions of images that are stored side by side.
        marks: their marks.
    Returns:
        the position among the candidates, and a sentence for the user where it is not the first.
    """
    candidates = [number for number, mark in enumerate(marks) if not mark] or list(range(len(pages)))
    sizes = [page.imagelength * page.imagewidth for page in pages]
    largest = max(candidates, key=lambda number: sizes[number])
    if largest == 0 or (0 in candidates and sizes[largest] < _SMALL * sizes[0]):
        return 0, ""
    (h, w), (height, width) = ((pages[n].imagelength, pages[n].imagewidth) for n in (0, largest))
    reason = marks[0] if marks[0] and not marks[largest] else "smaller"
    return (
        largest,
        f"the image of {height} x {width} (H x W) behind the first one is read; that of {h} x {w} is {reason}",
    )


def page_mark(page: tifffile.TiffPage, name: str = "") -> str:
    """Describe what a page is marked as: a mask or a reduced version (NewSubfileType, SubfileType), or by its name.

    Args:
        name: its name in OME-XML. Its description counts as well.
    Returns:
        such as ``"named label"``; empty for an image.
    """
    new, old = (_number(page, tag) for tag in ("NewSubfileType", "SubfileType"))
    if new & 4:
        return "marked as a mask"
    lines = page.description[:400].splitlines()[:2]  # Aperio's names stand in the second line
    if found := next(filter(None, map(_EXTRAS.match, (name, *lines))), None):
        return f"named {found[1].lower()}"
    return "marked as reduced" if new & 1 or old == 2 else ""


def _number(page: tifffile.TiffPage, tag: str) -> int:
    value = page.tags[tag].value if tag in page.tags else 0
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0
