"""The IIIF Image API 3.0 as text: what a request asks for, and what an image says of itself. No server, no pixels.

Everything of compliance level 2 (https://iiif.io/api/image/3.0/compliance/), and upscaling. ResponseBuilder to what the
specification leaves open:

* a rotation other than a multiple of 90, and mirroring, are refused with 400 (section 4.3: "out of range or
  unsupported SHOULD result in a 400");
* upscaling without ``^`` is 400 (section 4.2), and so is what exceeds maxWidth, maxHeight or maxArea, or would have no
  pixel;
* a region is cut at the image's edge, 400 if nothing is left (section 4.1); ``square`` is the middle;
* ``^max`` ends at a magnification of :data:`~monai_iste.slides.plan.MAX_SCALE` of the slide, as all requests do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from monai_iste.errors import ISTEError
from monai_iste.slides.plan import MAX_SCALE
from monai_iste.viewer.viewport import MAX_AREA, MAX_SIDE, Frame

CONTEXT = "http://iiif.io/api/image/3/context.json"


PROFILE = "http://iiif.io/api/image/3/level2.json"

#: Side of a tile.
TILE = 512

_QUALITIES = ("default", "color", "gray")


_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})"


_WHOLE = r"([0-9]{1,9})"

Size = tuple[int, int]


class BadRequest(ISTEError, ValueError):
    """An address that is none of this API's."""


class ImageRequest(NamedTuple):
    """An image request in whole numbers.

    Attributes:
        region: (x, y, w, h) in pixels of the image that was asked for.
        width, height: of the result before it is rotated.
        rotation: clockwise degrees. quality: default (which is color) or gray. format: a file name's ending.
        canonical: the canonical form (section 4.8), from the region on.
    """

    region: tuple[int, int, int, int]
    width: int
    height: int
    rotation: int
    quality: str
    format: str
    canonical: str

    def frame(self, size: Size) -> Frame:
        """The frame of the slide for this part of an image of ``size`` (h, w).

        A tile goes to the grid of its scale factor, at the edges too, where its own ratio is another one; so the tiles
        of one level are parts of one picture. Everything else goes to the grid of its own ratio.
        """
        x, y, w, h = self.region
        for f in scale_factors(size):
            if x % f == y % f == 0 and (self.width, self.height) == (-(-w // f), -(-h // f)):
                return Frame((-(-size[0] // f), -(-size[1] // f)), y // f, x // f, self.height, self.width)
        (grid_h, top), (grid_w, left) = (
            _own_grid(n, *axis) for n, axis in zip(size, ((y, h, self.height), (x, w, self.width)), strict=True)
        )
        return Frame((grid_h, grid_w), top, left, self.height, self.width)


def parse(
    size: Size, native: Size, formats: Sequence[str], region: str, wanted: str, rotation: str, file: str
) -> ImageRequest:
    """What an address asks of an image.

    Args:
        size: (h, w) of the image. native: of the slide, of which it may be a magnification.
        formats: which can be written.
        region, wanted, rotation, file: the parts of the address: region, size, rotation, quality.format.
    Raises:
        BadRequest: it is malformed, outside the image, or too large.

    Example:
        >>> parse((1000, 2000), (1000, 2000), ("jpg",), "1900,0,200,100", "^370,", "0", "default.jpg").canonical
        '1900,0,100,100/^370,370/0/default.jpg'
    """
    box = _region(region, size)
    limit = _limit(size, native, box)
    width, height = _size(wanted, box[2:], limit)
    degrees = _rotation(rotation)
    quality, format = _file(file, formats)
    full = box == (0, 0, size[1], size[0])
    x, y, w, h = box
    place = "full" if full else f"{x},{y},{w},{h}"
    upscaled = width > w or height > h
    if (width, height) == _largest(box[2:], limit, False):
        extent = "max"
    elif (width, height) == _largest(box[2:], limit, True):
        extent = "^max"
    else:
        extent = f"{'^' * upscaled}{width},{height}"
    return ImageRequest(box, width, height, degrees, quality, format, f"{place}/{extent}/{degrees}/{quality}.{format}")


def information(uri: str, size: Size, native: Size, formats: Sequence[str]) -> dict[str, Any]:
    """``info.json`` (section 5).

    Args:
        uri: the image's, without an ending. size: its (h, w); native: the slide's, of which it may be a magnification.

    Example:
        >>> information("http://localhost/iiif/a", (1000, 2000), (1000, 2000), ("jpg", "png"))["tiles"]
        [{'width': 512, 'height': 512, 'scaleFactors': [1, 2, 4]}]
    """
    factors = scale_factors(size)
    sizes = [(-(-size[1] // f), -(-size[0] // f)) for f in reversed(factors)]
    width, height = _limit(size, native, (0, 0, size[1], size[0]))
    return {
        "@context": CONTEXT,
        "id": uri,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": size[1],
        "height": size[0],
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
    """Powers of two, up to the one at which the image is a single tile.

    Example:
        >>> scale_factors((1000, 2000)), scale_factors((9, 9))
        ([1, 2, 4], [1])
    """
    levels = max(0, math.ceil(math.log2(max(size) / TILE)))
    return [2**level for level in range(levels + 1)]


# --- one part of the address each -------------------------------------------------------------------------------------


def _region(text: str, size: Size) -> tuple[int, int, int, int]:
    height, width = size
    if text == "full":
        return 0, 0, width, height
    if text == "square":
        side = min(size)
        return (width - side) // 2, (height - side) // 2, side, side
    if found := re.fullmatch(",".join([_WHOLE] * 4), text):
        x, y, w, h = (int(n) for n in found.groups())
    elif found := re.fullmatch("pct:" + ",".join([_NUMBER] * 4), text):
        x, y, w, h = (
            round(Fraction(share) * n / 100) for share, n in zip(found.groups(), (width, height) * 2, strict=True)
        )
    else:
        raise BadRequest("a region: full, square, x,y,w,h or pct:x,y,w,h", repr(text[:100]), "See IIIF, section 4.1.")
    w, h = min(w, width - x), min(h, height - y)
    if min(w, h) < 1:
        raise BadRequest(f"a region inside {width} x {height} pixels", repr(text), "Ask for a part of the image.")
    return x, y, w, h


def _size(text: str, region: tuple[int, ...], limit: Size) -> Size:
    upscale = text.startswith("^")
    form, (w, h) = text.removeprefix("^"), (region[0], region[1])
    confined = False
    if form == "max":
        return _largest((w, h), limit, upscale)
    if found := re.fullmatch(f"{_WHOLE},", form):
        wide = int(found[1])
        result = wide, round(Fraction(h * wide, w))
    elif found := re.fullmatch(f",{_WHOLE}", form):
        high = int(found[1])
        result = round(Fraction(w * high, h)), high
    elif found := re.fullmatch(f"pct:{_NUMBER}", form):
        result = round(w * Fraction(found[1]) / 100), round(h * Fraction(found[1]) / 100)
    elif found := re.fullmatch(f"{_WHOLE},{_WHOLE}", form):
        result = int(found[1]), int(found[2])
    elif found := re.fullmatch(f"!{_WHOLE},{_WHOLE}", form):
        confined, most = True, (int(found[1]), int(found[2]))
        inner = min(most[0], limit[0]), min(most[1], limit[1])
        result = _largest((w, h), inner, upscale) if min(most) > 0 else most
    else:
        raise BadRequest("a size: max, w, ,h pct:n w,h or !w,h", repr(text[:100]), "See IIIF, section 4.2.")
    if min(result) < 1:
        raise BadRequest("a size of at least 1 x 1", f"{result[0]} x {result[1]}", "Ask for more.")
    if not upscale and not confined and (result[0] > w or result[1] > h):
        raise BadRequest(
            f"a size of at most {w} x {h}, the region's", f"{result[0]} x {result[1]}", "To magnify put ^ before it."
        )
    if result[0] > limit[0] or result[1] > limit[1] or result[0] * result[1] > MAX_AREA:
        raise BadRequest(
            f"at most {limit[0]} x {limit[1]} pixels and {MAX_AREA:,} in all for this region",
            f"{result[0]} x {result[1]}",
            "Ask for a smaller picture, or for tiles.",
        )
    return result


def _rotation(text: str) -> int:
    if re.fullmatch(_NUMBER, text) is None or Fraction(text) not in (0, 90, 180, 270):
        raise BadRequest("a rotation of 0, 90, 180 or 270", repr(text[:100]), "Turn it in the browser.")
    return int(Fraction(text))


def _file(text: str, formats: Sequence[str]) -> tuple[str, str]:
    quality, _, format = text.partition(".")
    if quality not in _QUALITIES or format not in formats:
        raise BadRequest(
            f"quality.format of {', '.join(_QUALITIES)} and {', '.join(formats)}", repr(text[:100]), "Try default.jpg."
        )
    return ("default" if quality == "color" else quality), format  # the default is in color


# --- sizes ------------------------------------------------------------------------------------------------------------


def _limit(size: Size, native: Size, box: tuple[int, int, int, int]) -> Size:
    """Largest (width, height) of a region: what the server sends, and how far a slide is magnified."""
    width, height = (
        min(MAX_SIDE, max(1, math.floor(Fraction(MAX_SCALE) * part * own / whole)))
        for part, own, whole in zip(box[2:], native[::-1], size[::-1], strict=True)
    )
    return width, height


def _largest(region: tuple[int, ...], limit: Size, upscale: bool) -> Size:
    """The largest size in proportion within the limits, and not larger than the region unless it may be upscaled."""
    w, h = region[0], region[1]
    ratio = min(Fraction(limit[0], w), Fraction(limit[1], h))
    ratio = ratio if upscale else min(ratio, Fraction(1))
    width, height = min(round(w * ratio), limit[0]), min(round(h * ratio), limit[1])
    if width * height > MAX_AREA:
        share = math.sqrt(MAX_AREA / (w * h))
        width, height = math.floor(w * share), math.floor(h * share)
    return max(1, width), max(1, height)


def _own_grid(length: int, start: int, extent: int, pixels: int) -> tuple[int, int]:
    """Along one axis: how many pixels the whole image gets where ``extent`` of it becomes ``pixels``, and which of them
    is the first."""
    grid = max(pixels, round(Fraction(length * pixels, extent)))
    return grid, min(round(Fraction(start * grid, length)), grid - pixels)
