"""Meaning of the samples of a pixel, as a file declares it, and their conversion to 8-bit RGB."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from monai_iste.errors import DataError

_BLOCK_PIXELS = 2**22  # converted at once, so that intermediate values do not take the memory of a large image


class Samples(NamedTuple):
    """Declared meaning of the samples of a pixel.

    Attributes:
        colors: samples of color: 3 for RGB, 1 for gray and for palettes.
        bits: bits of each unsigned integer; floating-point samples lie in [0, 1].
        alpha: opacity in the sample after those of color: "" for none, "unassociated", or "associated" where the
            colors are multiplied by it already. Further samples have no declared meaning and are dropped.
        inverted: whether 0 is white.
        palette: (2**bits, 3) uint8.
    """

    colors: int
    bits: int = 8
    alpha: str = ""
    inverted: bool = False
    palette: np.ndarray | None = None


def to_rgb8(pixels: np.ndarray, samples: Samples, path: Path) -> np.ndarray:
    """Convert samples to 8-bit RGB: scaled by their largest value, and composited once over white.

    Args:
        path: file that they come from, for the message.
    Shape:
        pixels: (h, w, C), C at least ``samples.colors``, and one more with opacity; returns (h, w, 3), uint8. It may
        be a view.
    Raises:
        DataError: floating-point values lie outside [0, 1], or whole numbers have more bits than are declared.

    Example:
        >>> to_rgb8(np.full((1, 1, 3), 4095, np.uint16), Samples(3, bits=12), Path("a.tif")).tolist()
        [[[255, 255, 255]]]
    """
    if samples == Samples(3) and pixels.dtype == np.uint8:
        return pixels[..., :3]
    result = np.empty((*pixels.shape[:2], 3), np.uint8)
    step = max(1, _BLOCK_PIXELS // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), step):
        result[top : top + step] = _convert(pixels[top : top + step], samples, path)
    return result


def _convert(pixels: np.ndarray, samples: Samples, path: Path) -> np.ndarray:
    alpha = pixels[..., samples.colors : samples.colors + 1] if samples.alpha else None
    colors = pixels[..., : samples.colors]
    bits = samples.bits
    if samples.palette is not None:
        colors = samples.palette[colors[..., 0]]
        if alpha is not None:
            alpha = _scaled(alpha.astype(np.uint32), bits)
        bits = 8
    if colors.dtype.kind == "f":
        return _convert_floats(colors, alpha, samples, path)
    largest = 2**bits - 1
    if bits not in (8, 16) and pixels.max() > largest:
        raise not_rgb(path, f"values above {largest}, the largest of {bits} bits")
    wide = colors.astype(np.uint32)  # holds (2**16 - 1)**2 and half of 2**16 more
    if samples.inverted:
        wide = largest - wide
    if alpha is not None:
        opacity = alpha.astype(np.uint32)
        if samples.alpha == "associated":
            wide = np.minimum(wide + (largest - opacity), largest)
        else:
            wide = (wide * opacity + largest * (largest - opacity) + largest // 2) // largest
    return _scaled(wide, bits)


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """Scale unsigned integers of some bits to 8, rounded."""
    largest = 2**bits - 1
    return (values if bits == 8 else (values * 255 + largest // 2) // largest).astype(np.uint8)


def _convert_floats(colors: np.ndarray, alpha: np.ndarray | None, samples: Samples, path: Path) -> np.ndarray:
    for values in (colors, alpha):
        if values is not None and not (values.min() >= 0 and values.max() <= 1):  # also true of NaN
            raise not_rgb(path, f"{values.dtype} values outside [0, 1]")
    wide = _at_least_float32(colors)
    if samples.inverted:
        wide = 1 - wide
    if alpha is not None:
        opacity = _at_least_float32(alpha)
        wide = np.minimum(wide + (1 - opacity), 1) if samples.alpha == "associated" else wide * opacity + (1 - opacity)
    return np.round(wide * 255).astype(np.uint8)


def _at_least_float32(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) if values.dtype.itemsize < 4 else values


def over_background(rgba: np.ndarray, background: np.ndarray | int = 255) -> np.ndarray:
    """Composite 8-bit RGBA of unassociated opacity over a color; a view where nothing is transparent.

    Args:
        background: color (3,), or one number for gray.
    Shape:
        rgba: (h, w, 4); returns (h, w, 3), uint8.

    Example:
        >>> over_background(np.array([[[0, 0, 0, 51]]], np.uint8)).tolist()
        [[[204, 204, 204]]]
    """
    opacity = rgba[..., 3:]
    if opacity.size == 0 or opacity.min() == 255:
        return rgba[..., :3]
    opacity = opacity.astype(np.uint16)  # 255 * 255 + 127 fits
    return ((rgba[..., :3] * opacity + background * (255 - opacity) + 127) // 255).astype(np.uint8)


def jpeg_ycbcr_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Convert 8-bit YCbCr of JPEG's full range to RGB, by Pillow.

    Shape:
        pixels: (h, w, 3); returns the same.
    """
    image = Image.frombytes("YCbCr", pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())
    return np.asarray(image.convert("RGB"))


def ycbcr_to_rgb(
    pixels: np.ndarray, bits: int, luma: tuple[float, float, float], reference: tuple[float, ...]
) -> np.ndarray:
    """Convert YCbCr samples to RGB, as section 21 of TIFF 6.0 states it; further samples are kept.

    Args:
        luma: shares of red, green and blue in Y.
        reference: values of black and white of Y, then of Cb, then of Cr.
    Shape:
        pixels: (h, w, C), C at least 3; returns the same.
    """
    largest = 2**bits - 1
    black_y, white_y, zero_b, top_b, zero_r, top_r = reference
    y, cb, cr = (pixels[..., n].astype(np.float32) for n in range(3))
    y = (y - black_y) * largest / (white_y - black_y)
    cb, cr = (cb - zero_b) * (largest // 2) / (top_b - zero_b), (cr - zero_r) * (largest // 2) / (top_r - zero_r)
    red = y + cr * (2 - 2 * luma[0])
    blue = y + cb * (2 - 2 * luma[2])
    green = (y - luma[2] * blue - luma[0] * red) / luma[1]
    result = pixels.copy()
    result[..., :3] = np.clip(np.round(np.stack([red, green, blue], axis=-1)), 0, largest)
    return result


def not_rgb(path: Path, received: str) -> DataError:
    """Make the error for a file that holds something else than one RGB image."""
    return DataError(f"one RGB image in {path}", received, "Export it as 8-bit RGB, in PNG or TIFF.")
