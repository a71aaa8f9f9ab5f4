"""Caption below an exported picture: a scale bar, and how its pixels were made."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GROUND, _INK = (20, 20, 20), (255, 255, 255)
_FONTS = (13, 30)  # smallest and largest size of the letters
_LETTERS = 75  # of the smallest size would fit beside each other: wider pictures get larger ones

#: Width of a caption in pixels; a narrower picture has a margin at its right.
NARROWEST = 200


class ScaleBar(NamedTuple):
    """Scale bar.

    Attributes:
        length: in pixels of the picture.
        label: the length that it shows, such as 20 um; in ASCII, because Pillow's own font has no other characters.
    """

    length: float
    label: str


def scale_bar(pixel_size: float | None, scale: float, room: float) -> ScaleBar:
    """Return the longest scale bar of 1, 2, 5, 10, 20, ... micrometers that fits.

    Args:
        pixel_size: micrometers per pixel of the picture; None if unknown: the bar is then in pixels of the slide.
        scale: pixels of the picture per pixel of the slide.
        room: longest bar, in pixels of the picture.

    Example:
        >>> scale_bar(0.25, 2, 160), scale_bar(None, 4, 160), scale_bar(16, 0.1, 160).label
        (ScaleBar(length=80.0, label='20 um'), ScaleBar(length=80.0, label='20 px of the slide'), '2 mm')
    """
    unit = 1 / scale if pixel_size is None else pixel_size
    power = 10.0 ** math.floor(math.log10(room * unit))
    value = max(digit * power for digit in (1, 2, 5) if digit * power <= room * unit * (1 + 1e-9))
    return ScaleBar(value / unit, f"{value:g} px of the slide" if pixel_size is None else _length_in_words(value))


def _length_in_words(micrometers: float) -> str:
    if micrometers >= 1000:
        return f"{micrometers / 1000:g} mm"
    return f"{micrometers:g} um" if micrometers >= 1 else f"{micrometers * 1000:g} nm"


def add_caption(pixels: np.ndarray, bar: ScaleBar, notice: str) -> np.ndarray:
    """Add a caption below a picture, whose pixels stay as they are.

    Args:
        notice: a sentence, in ASCII.
    Shape:
        pixels: (H, W, 3) uint8; returns (H + rows of the caption, W or more, 3) uint8.

    Example:
        >>> white = np.full((30, 300, 3), 255, np.uint8)
        >>> found = add_caption(white, ScaleBar(80, "20 um"), "Not for diagnosis.")
        >>> found.shape[1], bool((found[:30] == 255).all()), bool((found[30:].max((0, 2)) == 255).any())
        (300, True, True)
    """
    height, width = max(1, pixels.shape[0]), max(NARROWEST, pixels.shape[1])
    size = min(max(width // _LETTERS, _FONTS[0]), _FONTS[1])
    font = ImageFont.load_default(size)
    edge, row = size // 2, size + size // 2
    bar_width = math.ceil(bar.length) + edge + math.ceil(font.getlength(bar.label))
    beside = width - 3 * edge - bar_width - 2 * size
    is_beside = font.getlength(notice) <= beside
    lines = [notice] if is_beside else _wrap(notice, font, width - 2 * edge)
    rows = 1 if is_beside else 1 + len(lines)
    strip = Image.new("RGB", (width, rows * row + edge), _GROUND)
    draw = ImageDraw.Draw(strip)
    baseline = edge // 2 + row - edge
    stroke = max(2, size // 6)
    right = edge + round(bar.length) - 1
    draw.rectangle((edge, baseline - stroke + 1, right, baseline), _INK)
    for x in (edge, right - stroke + 1):
        draw.rectangle((x, baseline - size // 2, x + stroke - 1, baseline), _INK)
    draw.text((right + 1 + edge, baseline), bar.label, _INK, font, "ls")
    for i, line in enumerate(lines):
        place = (width - edge, baseline) if is_beside else (edge, baseline + (i + 1) * row)
        draw.text(place, line, _INK, font, "rs" if is_beside else "ls")
    sheet = np.full((height + strip.height, width, 3), 255, np.uint8)
    sheet[:height, : pixels.shape[1]] = pixels
    sheet[height:] = np.asarray(strip)
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """Break a text into lines of at most ``width`` pixels, between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
