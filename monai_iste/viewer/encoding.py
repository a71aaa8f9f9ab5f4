"""Image files for the browser: views, exports with provenance, and consistency overlays."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import numpy as np
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from monai_iste.errors import check_choice
from monai_iste.io.image_writer import FINEST_MPP
from monai_iste.io.pixel_size import Mpp
from monai_iste.slides.consistency import FULL_RANGE
from monai_iste.slides.resampling import Size
from monai_iste.viewer.caption import NARROWEST, add_caption, scale_bar
from monai_iste.viewer.viewport import Viewport

#: Formats that this installation writes, and their media types.
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png"} | ({"webp": "image/webp"} if features.check("webp") else {})

_SAVE_OPTIONS = {
    "jpg": ("JPEG", {"quality": 90, "subsampling": 0}),
    "png": ("PNG", {"compress_level": 1}),
    "webp": ("WEBP", {"quality": 90, "method": 1}),
}

# Green, because no H&E stain has it. The opacity encodes the excess, and ends at half, so that tissue stays visible.
_OVERLAY_COLOR, _OVERLAY_MAX_ALPHA = (0, 150, 90), 128

_MAX_BAR = 0.25  # longest scale bar of an exported picture, as a fraction of its width


def encode_image(pixels: np.ndarray, format: str, quality: str = "default", rotation: int = 0) -> bytes:
    """Encode pixels as an image file.

    Args:
        format: a key of :data:`MEDIA_TYPES`.
        quality: IIIF quality: default, color or gray.
        rotation: clockwise degrees, a multiple of 90.
    Shape:
        pixels: (H, W, 3) uint8.
    Raises:
        ConfigError: the format is unknown.

    Example:
        >>> data = encode_image(np.zeros((4, 6, 3), np.uint8), "png", "gray", 90)
        >>> (image := Image.open(io.BytesIO(data))).size, image.mode
        ((4, 6), 'L')
    """
    check_choice("a format", format, MEDIA_TYPES)
    image = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, -rotation // 90)))
    name, options = _SAVE_OPTIONS[format]
    file = io.BytesIO()
    (image.convert("L") if quality == "gray" else image).save(file, name, **options)
    return file.getvalue()


def encode_export(
    pixels: np.ndarray,
    viewport: Viewport,
    native: Size,
    mpp: Mpp | None,
    icc: bytes | None,
    provenance: Mapping[str, object],
) -> bytes:
    """Encode pixels as a PNG with pixel size, color profile and provenance, and a caption below.

    The text chunk ``Description`` holds a sentence, ``Provenance`` the details as JSON. The caption has a scale bar and
    says how the pixels were made, so that a copy without the chunks still does.

    Args:
        native: (h, w) of the slide.
        mpp: micrometers per pixel of the slide, (y, x), or None.
        icc: color profile of the slide, or None.
        provenance: values that JSON can hold.
    Shape:
        pixels: (height, width, 3) uint8, of the viewport; the picture has them above the caption.
    """
    scale = viewport.scale(native)[1]
    bar = scale_bar(None if mpp is None else mpp[1] / scale, scale, _MAX_BAR * max(pixels.shape[1], NARROWEST))
    text = PngInfo()
    text.add_text("Software", "monai_iste")
    inferred = provenance.get("inferred") is True
    text.add_text(
        "Description",
        "Super-resolved pixels are inferred, not measured. Not for diagnosis."
        if inferred
        else "A view of a slide. Not for diagnosis.",
    )
    text.add_text("Provenance", json.dumps(provenance))
    options = {}
    if mpp is not None:
        output_mpp = [m / s for m, s in zip(mpp, viewport.scale(native), strict=True)]
        if min(output_mpp) >= FINEST_MPP:
            options["dpi"] = (25_400 / output_mpp[1], 25_400 / output_mpp[0])
    file = io.BytesIO()
    captioned = add_caption(pixels, bar, _notice(provenance, scale))
    Image.fromarray(captioned).save(file, "PNG", pnginfo=text, icc_profile=icc, **options)
    return file.getvalue()


def _notice(provenance: Mapping[str, object], scale: float) -> str:
    """Say how the pixels of a picture were made."""
    if provenance.get("inferred") is True:
        return f"Inferred: {provenance.get('preset', 'network')} x{scale:.4g}, not measured. Not for diagnosis."
    method = {"bicubic": "Bicubic interpolation", "native": "Pixels of the slide, enlarged"}
    return f"{method.get(str(provenance.get('method')), 'View of a slide')} x{scale:.4g}. Not for diagnosis."


def encode_overlay(excess: np.ndarray, origin: tuple[int, int], block: int, viewport: Viewport, native: Size) -> bytes:
    """Encode a consistency map as a PNG overlay of a viewport.

    The overlay is transparent where the result agrees with the slide as well as interpolation does, and green where it
    differs more. Opacity is proportional to the excess, and ends at one half for
    :data:`~monai_iste.slides.consistency.FULL_RANGE` levels. Outside the slide or the map it is transparent.

    Args:
        origin: slide pixel (y, x) of the map's corner.
        block: side of a map block in slide pixels.
        native: (h, w) of the slide.
    Shape:
        excess: (n, m), in 8-bit levels.
    """
    rgba = np.zeros((viewport.height, viewport.width, 4), np.uint8)
    region = viewport.region_on_slide()
    if region is not None and excess.size:
        rows, columns = (
            ((2 * np.arange(start, start + length) + 1) * n // (2 * big) - first) // block
            for start, length, n, big, first in zip(region[:2], region[2:], native, viewport.size, origin, strict=True)
        )
        alpha = (excess / FULL_RANGE).clip(0, 1) * _OVERLAY_MAX_ALPHA
        top, left = region.top - viewport.top, region.left - viewport.left
        part = rgba[top : top + region.height, left : left + region.width]
        part[..., :3] = _OVERLAY_COLOR
        part[..., 3] = alpha.round().astype(np.uint8)[rows[:, None], columns]
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG", compress_level=1)
    return file.getvalue()
