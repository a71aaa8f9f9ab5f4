"""How large a result is: by a scale, by an exact size, or by a pixel size."""

from __future__ import annotations

import math
from contextlib import suppress
from numbers import Integral
from typing import Any

from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError, DataError, ScaleError
from monai_iste.inferers import ArbitraryScaleInferer

#: Largest width * height that :func:`upscale` returns: 1.5 GB as 8-bit RGB, 6 GB as float32.
MAX_OUTPUT_PIXELS = 500_000_000


# Largest width * height that one window of the image becomes: it is computed at once, in some 80 bytes a pixel.
_MAX_WINDOW_PIXELS = 2**25


_REDUCE = "To make an image smaller use a resampler, such as Pillow's Image.resize."


def magnified_size(
    size: tuple[int, int],
    scale: float | None = None,
    target: tuple[int, int] | None = None,
    limit: int = MAX_OUTPUT_PIXELS,
) -> tuple[int, int]:
    """The size (H, W) that an image of ``size`` (h, w) is magnified to, by a scale or to a given size.

    Raises:
        ConfigError: not exactly one of scale and target. ScaleError: the result would be smaller than the image, larger
            than ``limit`` pixels, or one window of it too large; or the scale is not a finite number above 0.

    Example:
        >>> magnified_size((300, 260), 3.7), magnified_size((300, 260), target=(301, 520))
        ((1110, 962), (301, 520))
    """
    if (scale is None) == (target is None):
        raise ConfigError("one of scale and size", "both" if scale is not None else "neither", "Give the one you mean.")
    if scale is not None:
        try:
            scale = float(scale)
        except (TypeError, ValueError) as error:
            raise ScaleError("a scale, such as 2 or 3.7", repr(scale), "Give one number.") from error
        if 0 < scale < 1:
            raise ScaleError("a scale of at least 1", repr(scale), _REDUCE)
        if 1 <= scale < math.inf:
            _check_extent(size, (size[0] * scale, size[1] * scale), limit)
        return output_size(size, scale)
    height, width = exact_size(target)
    if height < size[0] or width < size[1]:
        raise ScaleError(f"a size of at least {size[0]} x {size[1]} (H x W)", f"{height} x {width}", _REDUCE)
    _check_extent(size, (height, width), limit)
    return height, width


def exact_size(size: Any) -> tuple[int, int]:
    """A size (H, W) that a user gives.

    Raises:
        ConfigError: not two whole numbers above 0.

    Example:
        >>> exact_size([41, 30])
        (41, 30)
    """
    with suppress(TypeError, ValueError):
        height, width = size
        if all(isinstance(n, Integral) and int(n) >= 1 for n in (height, width)):
            return int(height), int(width)
    raise ConfigError("a size (H, W) of at least 1 x 1", repr(size), "Give two whole numbers.")


def magnified_to_mpp(
    path: Any, size: tuple[int, int], mpp: tuple[float, float] | None, wanted: float
) -> tuple[int, int]:
    """The size (H, W) that an image of ``size`` and ``mpp`` is magnified to at ``wanted`` micrometers per pixel.

    Args:
        path: the image's, for the messages.
        mpp: micrometers per pixel of the image, (y, x); None if they are unknown.
    Raises:
        DataError: they are unknown. ScaleError: ``wanted`` is coarser than the image.

    Example:
        >>> magnified_to_mpp("a.svs", (100, 200), (0.5, 0.5), 0.3)
        (167, 333)
    """
    if mpp is None:
        raise DataError(
            f"the pixel size of {path} in its file", "none or an implausible one", "Give it: --input-mpp 0.5."
        )
    if wanted > min(mpp):
        raise ScaleError(
            f"--mpp of at most {min(mpp):.4g}, the input's", f"{wanted:g}", "Reduce with a resampler instead."
        )
    return round(size[0] * mpp[0] / wanted), round(size[1] * mpp[1] / wanted)


def _check_extent(size: tuple[int, int], output: tuple[float, float], limit: int) -> None:
    height, width = output
    if height * width > limit:
        raise ScaleError(
            f"an output of at most {limit:,} pixels",
            f"{height:,.0f} x {width:,.0f} (H x W; {3e-9 * height * width:,.1f} GB in 8 bits)",
            "Lower the scale, or magnify a part of the image.",
        )
    inferer = ArbitraryScaleInferer()
    side = inferer.window + inferer.overlap
    if math.prod(min(n, side) * m / n for n, m in zip(size, output, strict=True)) > _MAX_WINDOW_PIXELS:
        raise ScaleError(
            f"a magnification that makes at most {_MAX_WINDOW_PIXELS:,} pixels of {side} x {side}",
            f"x{math.sqrt(height * width / math.prod(size)):.4g}",
            "Lower the scale, or magnify in two steps.",
        )
