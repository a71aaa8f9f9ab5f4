"""Images that OME-XML describes, in the schema of any year."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

_MICROMETER = "\N{MICRO SIGN}m"  # the default unit of the schema
_ALL_PAGES = 2**62

#: Side of an image that does not state it.
UNSTATED = 0


@dataclass(frozen=True)
class OmeImage:
    """One image of OME-XML, as it is stated.

    Attributes:
        name: its name, or empty.
        size: SizeY and SizeX; :data:`UNSTATED` where they are missing, -1 where they are no whole numbers.
        lengths: PhysicalSizeY and PhysicalSizeX, each as a number and its unit; None where it is missing.
        pages: pages of the file that hold it: the first one, and their count.
    """

    name: str
    size: tuple[int, int]
    lengths: tuple[tuple[str, str] | None, tuple[str, str] | None]
    pages: tuple[tuple[int, int], ...]

    def has_page(self, number: int) -> bool:
        """Check whether it states that a page, counted from 0, holds it."""
        return any(first <= number < first + count for first, count in self.pages)

    def has_size(self, size: tuple[int, int]) -> bool:
        """Check whether its size, as far as it is stated, is (h, w), as stored or turned upright."""
        return any(
            all(stated in (UNSTATED, n) for stated, n in zip(self.size, axes, strict=True))
            for axes in (size, size[::-1])
        )


def is_ome_xml(text: str) -> bool:
    """Check whether a description is OME-XML.

    Example:
        >>> is_ome_xml('<ome:OME xmlns:ome="...">'), is_ome_xml("<svg>")
        (True, False)
    """
    return re.search(r"<(?:[\w.-]+:)?OME[\s>/]", text) is not None


def ome_images(xml: str, filename: str) -> list[OmeImage]:
    """Parse OME-XML; entities are not expanded, nothing else is opened.

    Args:
        filename: name of the file, by which TiffData may refer to it; pages of other files do not count.
    Raises:
        ValueError: it is not well-formed, or declares entities; the message is a clause.
    """
    try:
        root = fromstring(xml.strip().removeprefix("\ufeff"))
    except DefusedXmlException as error:
        raise ValueError("it declares entities") from error
    except (ParseError, ValueError) as error:
        raise ValueError(f"it is no well-formed XML ({error})") from error
    images = [image for image in root.iter() if _name(image) == "Image"]
    own = root.get("UUID", "")
    return [_image(image, child, own, filename) for image in images for child in image if _name(child) == "Pixels"]


def _image(image: Element, pixels: Element, own: str, filename: str) -> OmeImage:
    data = [child for child in pixels if _name(child) == "TiffData" and _is_here(child, own, filename)]
    return OmeImage(
        image.get("Name", ""),
        (_whole(pixels, "SizeY", UNSTATED), _whole(pixels, "SizeX", UNSTATED)),
        (_length(image, pixels, "Y"), _length(image, pixels, "X")),
        tuple((_whole(child, "IFD", 0), _planes(child)) for child in data),
    )


def _name(element: Element) -> str:
    """Return the name of an element without its namespace, which differs from year to year."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _length(image: Element, pixels: Element, axis: str) -> tuple[str, str] | None:
    number, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", _MICROMETER)
    if number is None:
        number, unit = image.get(f"PixelSize{axis}"), _MICROMETER  # the schema of 2003
    return None if number is None else (number.strip(), unit.strip())


def _is_here(data: Element, own: str, filename: str) -> bool:
    """Check whether TiffData refers to this file: to no other by name or UUID."""
    files = [child for child in data if _name(child) == "UUID"]
    return not files or any((own and (f.text or "").strip() == own) or f.get("FileName") == filename for f in files)


def _planes(data: Element) -> int:
    """Count the pages of TiffData: NumPlanes before 2008; one if there is a first page, else all of them."""
    return _whole(data, "PlaneCount", _whole(data, "NumPlanes", 1 if "IFD" in data.attrib else _ALL_PAGES))


def _whole(element: Element, key: str, default: int) -> int:
    """Return an attribute that is a whole number; -1 for anything else."""
    value = element.get(key, str(default))
    return int(value) if re.fullmatch(r"\s*[0-9]{1,19}\s*", value) else -1
