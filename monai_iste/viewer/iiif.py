"""IIIF Image API 3.0 requests and ``info.json``, as text; no server and no pixels.

Implements compliance level 2 (https://iiif.io/api/image/3.0/compliance/) and upscaling. Choices where the specification
leaves room:

* Mirroring and rotations other than multiples of 90 degrees return 400 (section 4.3: "out of range or unsupported
  SHOULD result in a 400").
* Upscaling without ``^`` returns 400 (section 4.2). So does a size beyond maxWidth, maxHeight or maxArea, or without
  a pixel.
* A region is cropped to the image and returns 400 if nothing is left (section 4.1). ``square`` is centered.
* ``^max``, like every request, ends at :data:`~monai_iste.slides.plan.MAX_SCALE` times the slide's size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from monai_iste.errors import ISTEError
from monai_iste.slides.plan import MAX_SCALE
from monai_iste.viewer.viewport import MAX_AREA, MAX_SIDE, Viewport

CONTEXT = "http://iiif.io/api/image/3/context.json"
PROFILE = "http://iiif.io/api/image/3/level2.json"

#: Side of a tile in pixels.
TILE = 512

_QUALITIES = ("default", "color", "gray")

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})"
_INTEGER = r"([0-9]{1,9})"

Size = tuple[int, int]


class BadRequest(ISTEError, ValueError):
    """The address does not follow the IIIF Image API."""


class ImageRequest(NamedTuple):
    """Parsed image request.

    Attributes:
        region: (x, y, w, h) in pixels of the requested image.
        width, height: size of the result before rotation.
        rotation: clockwise degrees.
        quality: default (color) or gray.
        format: file name suffix.
        canonical: canonical form of the request (section 4.8), from the region on.
    """

    region: tuple[int, int, int, int]
    width: int
    height: int
    rotation: int
    quality: str
    format: str
    canonical: str

    def viewport(self, size: Size) -> Viewport:
        """Return the viewport of this request in an image of ``size`` (h, w).

        A tile uses the grid of its scale factor, also at the edges, where its own ratio differs. The tiles of one level
        are therefore parts of one image. Every other request uses the grid of its own ratio.
        """
        x, y, w, h = self.region
        for f in scale_factors(size):
            if x % f == y % f == 0 and (self.width, self.height) == (-(-w // f), -(-h // f)):
                return Viewport((-(-size[0] // f), -(-size[1] // f)), y // f, x // f, self.height, self.width)
        (grid_h, top), (grid_w, left) = (
            _grid_of_ratio(n, *axis) for n, axis in zip(size, ((y, h, self.height), (x, w, self.width)), strict=True)
        )
        return Viewport((grid_h, grid_w), top, left, self.height, self.width)


def parse_request(
    image_size: Size, native: Size, formats: Sequence[str], region: str, size: str, rotation: str, file: str
) -> ImageRequest:
    """Parse the last four parts of an image address.

    Args:
        image_size: (h, w) of the requested image.
        native: (h, w) of the slide, which may be smaller than a virtual image of it.
        formats: formats that can be written.
        region, size, rotation, file: parts of the address; ``file`` is quality.format.
    Raises:
        BadRequest: a part is malformed, the region lies outside the image, or the result is too large.

    Example:
        >>> parse_request((1000, 2000), (1000, 2000), ("jpg",), "1900,0,200,100", "^370,", "0", "default.jpg").canonical
        '1900,0,100,100/^370,370/0/default.jpg'
    """
    box = _parse_region(region, image_size)
    limit = _max_size(image_size, native, box)
    width, height = _parse_size(size, box[2:], limit)
    degrees = _parse_rotation(rotation)
    quality, format = _parse_file(file, formats)
    x, y, w, h = box
    region = "full" if box == (0, 0, image_size[1], image_size[0]) else f"{x},{y},{w},{h}"
    is_upscaled = width > w or height > h
    if (width, height) == _fit_size(box[2:], limit, False):
        size = "max"
    elif (width, height) == _fit_size(box[2:], limit, True):
        size = "^max"
    else:
        size = f"{'^' * is_upscaled}{width},{height}"
    return ImageRequest(box, width, height, degrees, quality, format, f"{region}/{size}/{degrees}/{quality}.{format}")


def image_info(uri: str, image_size: Size, native: Size, formats: Sequence[str]) -> dict[str, Any]:
    """Return the content of ``info.json`` (section 5).

    Args:
        uri: address of the image.
        image_size: (h, w) of the image.
        native: (h, w) of the slide, which may be smaller than a virtual image of it.
        formats: formats that can be written.

    Example:
        >>> image_info("http://localhost/iiif/a", (1000, 2000), (1000, 2000), ("jpg", "png"))["tiles"]
        [{'width': 512, 'height': 512, 'scaleFactors': [1, 2, 4]}]
    """
    factors = scale_factors(image_size)
    sizes = [(-(-image_size[1] // f), -(-image_size[0] // f)) for f in reversed(factors)]
    width, height = _max_size(image_size, native, (0, 0, image_size[1], image_size[0]))
    return {
        "@context": CONTEXT,
        "id": uri,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": image_size[1],
        "height": image_size[0],
        "maxWidth": width,
        "maxHeight": height,
        "maxArea": MAX_AREA,
        "sizes": [{"width": w, "height": h} for w, h in sizes if w <= width and h <= height and w * h <= MAX_AREA],
        "tiles": [{"width": TILE, "height": TILE, "scaleFactors": factors}],
        "extraQualities": ["color", "gray"],
        "extraFormats": [format for format in formats if format not in ("jpg", "png")],
        "extraFeatures": ["canonicalLinkHeader", "profileLinkHeader", "sizeUpscaling"],
    }


def scale_factors(size: Size) -> list[int]:
    """Return the powers of two up to the one at which the image is a single tile.

    Example:
        >>> scale_factors((1000, 2000)), scale_factors((9, 9))
        ([1, 2, 4], [1])
    """
    levels = max(0, math.ceil(math.log2(max(size) / TILE)))
    return [2**level for level in range(levels + 1)]


# --- parts of the address ---------------------------------------------------------------------------------------------


def _parse_region(text: str, size: Size) -> tuple[int, int, int, int]:
    height, width = size
    if text == "full":
        return 0, 0, width, height
    if text == "square":
        side = min(size)
        return (width - side) // 2, (height - side) // 2, side, side
    if found := re.fullmatch(",".join([_INTEGER] * 4), text):
        x, y, w, h = (int(n) for n in found.groups())
    elif found := re.fullmatch("pct:" + ",".join([_NUMBER] * 4), text):
        x, y, w, h = (
            round(Fraction(percent) * n / 100) for percent, n in zip(found.groups(), (width, height) * 2, strict=True)
        )
    else:
        raise BadRequest("a region: full, square, x,y,w,h or pct:x,y,w,h", repr(text[:100]), "See IIIF, section 4.1.")
    w, h = min(w, width - x), min(h, height - y)
    if min(w, h) < 1:
        raise BadRequest(f"a region inside {width} x {height} pixels", repr(text), "Ask for a part of the image.")
    return x, y, w, h


def _parse_size(text: str, region: tuple[int, ...], limit: Size) -> Size:
    upscale = text.startswith("^")
    form, (w, h) = text.removeprefix("^"), (region[0], region[1])
    is_bounded = False
    if form == "max":
        return _fit_size((w, h), limit, upscale)
    if found := re.fullmatch(f"{_INTEGER},", form):
        width = int(found[1])
        result = width, round(Fraction(h * width, w))
    elif found := re.fullmatch(f",{_INTEGER}", form):
        height = int(found[1])
        result = round(Fraction(w * height, h)), height
    elif found := re.fullmatch(f"pct:{_NUMBER}", form):
        result = round(w * Fraction(found[1]) / 100), round(h * Fraction(found[1]) / 100)
    elif found := re.fullmatch(f"{_INTEGER},{_INTEGER}", form):
        result = int(found[1]), int(found[2])
    elif found := re.fullmatch(f"!{_INTEGER},{_INTEGER}", form):
        is_bounded, bounds = True, (int(found[1]), int(found[2]))
        inner = min(bounds[0], limit[0]), min(bounds[1], limit[1])
        result = _fit_size((w, h), inner, upscale) if min(bounds) > 0 else bounds
    else:
        raise BadRequest("a size: max, w, ,h pct:n w,h or !w,h", repr(text[:100]), "See IIIF, section 4.2.")
    if min(result) < 1:
        raise BadRequest("a size of at least 1 x 1", f"{result[0]} x {result[1]}", "Ask for more.")
    if not upscale and not is_bounded and (result[0] > w or result[1] > h):
        raise BadRequest(
            f"a size of at most {w} x {h}, the region's", f"{result[0]} x {result[1]}", "To upscale put ^ before it."
        )
    if result[0] > limit[0] or result[1] > limit[1] or result[0] * result[1] > MAX_AREA:
        raise BadRequest(
            f"at most {limit[0]} x {limit[1]} pixels and {MAX_AREA:,} in all for this region",
            f"{result[0]} x {result[1]}",
            "Ask for a smaller image, or for tiles.",
        )
    return result


def _parse_rotation(text: str) -> int:
    if re.fullmatch(_NUMBER, text) is None or Fraction(text) not in (0, 90, 180, 270):
        raise BadRequest("a rotation of 0, 90, 180 or 270", repr(text[:100]), "Turn it in the browser.")
    return int(Fraction(text))


def _parse_file(text: str, formats: Sequence[str]) -> tuple[str, str]:
    quality, _, format = text.partition(".")
    if quality not in _QUALITIES or format not in formats:
        raise BadRequest(
            f"quality.format of {', '.join(_QUALITIES)} and {', '.join(formats)}", repr(text[:100]), "Try default.jpg."
        )
    return ("default" if quality == "color" else quality), format  # the default is in color


# --- sizes ------------------------------------------------------------------------------------------------------------


def _max_size(size: Size, native: Size, box: tuple[int, int, int, int]) -> Size:
    """Return the largest (width, height) of a region that the server renders and the largest scale permits."""
    width, height = (
        min(MAX_SIDE, max(1, math.floor(Fraction(MAX_SCALE) * part * own / whole)))
        for part, own, whole in zip(box[2:], native[::-1], size[::-1], strict=True)
    )
    return width, height


def _fit_size(region: tuple[int, ...], limit: Size, upscale: bool) -> Size:
    """Return the largest size within the limits at the region's aspect ratio; above the region only if ``upscale``."""
    w, h = region[0], region[1]
    ratio = min(Fraction(limit[0], w), Fraction(limit[1], h))
    ratio = ratio if upscale else min(ratio, Fraction(1))
    width, height = min(round(w * ratio), limit[0]), min(round(h * ratio), limit[1])
    if width * height > MAX_AREA:
        ratio_at_max_area = math.sqrt(MAX_AREA / (w * h))
        width, height = math.floor(w * ratio_at_max_area), math.floor(h * ratio_at_max_area)
    return max(1, width), max(1, height)


def _grid_of_ratio(length: int, start: int, extent: int, pixels: int) -> tuple[int, int]:
    """Return the length of the whole axis, and the first pixel, if ``extent`` of it becomes ``pixels``."""
    grid = max(pixels, round(Fraction(length * pixels, extent)))
    return grid, min(round(Fraction(start * grid, length)), grid - pixels)
