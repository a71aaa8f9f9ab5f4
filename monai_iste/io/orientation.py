"""Orientation of stored images (EXIF and TIFF, 1 to 8), and how they are turned upright."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

#: Tag of the orientation, in TIFF and in EXIF.
ORIENTATION_TAG = 274

# Orientation: whether rows and columns run backwards, after the axes were swapped for 5 to 8.
_REVERSED = {
    1: (False, False),
    2: (False, True),
    3: (True, True),
    4: (True, False),
    5: (False, False),
    6: (False, True),
    7: (True, True),
    8: (True, False),
}

Size = tuple[int, int]


def valid_orientation(value: Any) -> int:
    """Return a stored orientation; 1, which is upright, for what is none of 1 to 8.

    Some writers store it as a byte instead of a number.

    Example:
        >>> [valid_orientation(value) for value in (6, b"\\6", 0, 9, None)]
        [6, 6, 1, 1, 1]
    """
    value = value[0] if isinstance(value, bytes) and len(value) == 1 else value
    return int(value) if isinstance(value, int) and value in _REVERSED else 1


def page_orientation(page: tifffile.TiffPage) -> int:
    """Read the orientation of a page of a TIFF, 1 to 8."""
    tag = page.tags.get(ORIENTATION_TAG)
    return valid_orientation(None if tag is None else tag.value)


def swaps_axes(orientation: int) -> bool:
    """Check whether rows of the upright image are columns of the stored one."""
    return orientation >= 5


def upright_size(size: Size, orientation: int) -> Size:
    """Compute the upright size (H, W) of a stored one, or the stored size of an upright one.

    Example:
        >>> upright_size((20, 30), 6), upright_size((20, 30), 3)
        ((30, 20), (20, 30))
    """
    return (size[1], size[0]) if swaps_axes(orientation) else size


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a stored image upright, as a view.

    Shape:
        pixels: (h, w, ...); returns (h, w, ...) or (w, h, ...).

    Example:
        >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()  # turned by 90 degrees, clockwise
        [[3, 1], [4, 2]]
    """
    if swaps_axes(orientation):
        pixels = pixels.swapaxes(0, 1)
    rows, columns = (slice(None, None, -1 if backwards else 1) for backwards in _REVERSED[orientation])
    return pixels[rows, columns]


def stored_region(start: Size, size: Size, whole: Size, orientation: int) -> tuple[Size, Size]:
    """Compute the stored region of an upright one.

    Args:
        start, size: position (y, x) and (height, width) in the upright image.
        whole: (H, W) of the upright image.
    Returns:
        position and size in the stored image; :func:`upright` turns its pixels.

    Example:
        >>> stored_region((0, 1), (2, 3), (20, 30), 6)
        ((26, 0), (3, 2))
    """
    first, second = (
        n - at - length if backwards else at
        for at, length, n, backwards in zip(start, size, whole, _REVERSED[orientation], strict=True)
    )
    return ((second, first), (size[1], size[0])) if swaps_axes(orientation) else ((first, second), size)
