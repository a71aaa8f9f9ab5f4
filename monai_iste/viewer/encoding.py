"""Pixels as files for a browser: encoded, rotated, with their provenance, or as a transparent map."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import numpy as np
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from monai_iste.errors import ConfigError
from monai_iste.io.image_writer import FINEST_MPP
from monai_iste.io.pixel_size import Mpp
from monai_iste.slides.consistency import FULL_RANGE
from monai_iste.slides.resampling import Size
from monai_iste.viewer.viewport import Frame

#: Formats that this installation writes, and their media types.
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png"} | ({"webp": "image/webp"} if features.check("webp") else {})

_OPTIONS = {
    "jpg": ("JPEG", {"quality": 90, "subsampling": 0}),
    "png": ("PNG", {"compress_level": 1}),
    "webp": ("WEBP", {"quality": 90, "method": 1}),
}

# Green, the one color that no stain of H&E has; opacity says how much.
_COLOR, _MOST_OPAQUE = (0, 150, 90), 220


def encode(pixels: np.ndarray, format: str, quality: str = "default", rotation: int = 0) -> bytes:
    """An image file.

    Args:
        format: a key of :data:`MEDIA_TYPES`.
        quality: IIIF's: default, color or gray.
        rotation: clockwise, a multiple of 90 degrees.
    Shape:
        pixels: (H, W, 3) uint8.
    Raises:
        ConfigError: no such format.

    Example:
        >>> picture = encode(np.zeros((4, 6, 3), np.uint8), "png", "gray", 90)
        >>> (opened := Image.open(io.BytesIO(picture))).size, opened.mode
        ((4, 6), 'L')
    """
    if format not in MEDIA_TYPES:
        raise ConfigError(f"a format: {', '.join(MEDIA_TYPES)}", repr(format[:100]), "Choose one of these.")
    picture = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, -rotation // 90)))
    name, options = _OPTIONS[format]
    file = io.BytesIO()
    (picture.convert("L") if quality == "gray" else picture).save(file, name, **options)
    return file.getvalue()


def export_png(
    pixels: np.ndarray, frame: Frame, native: Size, mpp: Mpp | None, icc: bytes | None, provenance: Mapping[str, object]
) -> bytes:
    """A picture to keep: PNG with its pixel size, the slide's color profile, and how it was made.

    The text chunk ``Description`` has a sentence, ``Provenance`` the details as JSON.

    Args:
        native: (h, w) of the slide.
        mpp: its micrometers per pixel, (y, x), if known.
        provenance: plain values.
    """
    text = PngInfo()
    text.add_text("Software", "monai_iste")
    inferred = provenance.get("inferred") is True
    text.add_text(
        "Description",
        "Magnified pixels are inferred, not measured. Not for diagnosis."
        if inferred
        else "A view of a slide. Not for diagnosis.",
    )
    text.add_text("Provenance", json.dumps(provenance))
    options = {}
    if mpp is not None:
        own = [m / s for m, s in zip(mpp, frame.scale(native), strict=True)]
        if min(own) >= FINEST_MPP:
            options["dpi"] = (25_400 / own[1], 25_400 / own[0])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=text, icc_profile=icc, **options)
    return file.getvalue()


def overlay_png(levels: np.ndarray, origin: tuple[int, int], side: int, frame: Frame, native: Size) -> bytes:
    """A consistency map to be laid over a frame: transparent where result and slide agree, green where they do not.

    Opacity rises in proportion to the difference, up to :data:`~monai_iste.slides.consistency.FULL_RANGE` levels. Where
    there is no slide, or no map, it is transparent.

    Args:
        origin: the slide's pixel (y, x) at which the map begins.
        side: of its squares, in the slide's pixels.
    Shape:
        levels: (n, m), in 8-bit levels.
    """
    rgba = np.zeros((frame.height, frame.width, 4), np.uint8)
    inside = frame.inside()
    if inside is not None and levels.size:
        rows, columns = (
            ((2 * np.arange(start, start + length) + 1) * n // (2 * big) - first) // side
            for start, length, n, big, first in zip(inside[:2], inside[2:], native, frame.size, origin, strict=True)
        )
        opacity = (levels / FULL_RANGE).clip(0, 1) * _MOST_OPAQUE
        top, left = inside.top - frame.top, inside.left - frame.left
        part = rgba[top : top + inside.height, left : left + inside.width]
        part[..., :3] = _COLOR
        part[..., 3] = opacity.round().astype(np.uint8)[rows[:, None], columns]
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG", compress_level=1)
    return file.getvalue()
