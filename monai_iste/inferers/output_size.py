"""Size policy of all results: (H, W) from a scale, an exact size or a pixel size."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError, DataError, ScaleError
from monai_iste.inferers.tiling import Tiler
from monai_iste.io.pixel_size import Mpp, same_mpp

#: Largest width * height that :func:`monai_iste.upscale` returns: 1.5 GB as 8-bit RGB, 6 GB as float32.
MAX_OUTPUT_PIXELS = 500_000_000

# Largest width * height that one window of the image becomes: it is computed at once, in some 80 bytes a pixel.
_MAX_WINDOW_PIXELS = 2**25

_REDUCE = "To make an image smaller use a resampler, such as Pillow's Image.resize."

Size = tuple[int, int]


@dataclass(frozen=True)
class OutputSize:
    """Requested size of a result: exactly one of a scale, a size and a pixel size.

    Two pixel sizes that differ by at most 1 % are the same (:func:`~monai_iste.io.pixel_size.same_mpp`): a slide that
    states 0.2498 or 0.252 um is a 0.25 um slide. At ``mpp=0.25`` its size is unchanged, axis by axis.

    Args:
        scale: magnification of both axes.
        size: exact size (H, W); each axis then has a scale of its own.
        mpp: micrometers per pixel, one number or (y, x).
    Raises:
        ConfigError: not exactly one of them is given, the size is not two whole numbers above 0, or the pixel size is
            not above 0.
        ScaleError: the scale is not a number.

    Example:
        >>> OutputSize(scale=3.7).resolve((300, 260)), OutputSize(size=(301, 520)).resolve((300, 260))
        ((1110, 962), (301, 520))
        >>> OutputSize(mpp=0.25).resolve((1000, 800), (0.5, 0.5))
        (2000, 1600)
        >>> OutputSize(mpp=0.25).resolve((1000, 800), (0.252, 0.252))
        (1000, 800)
    """

    scale: float | None = None
    size: Size | None = None
    mpp: float | Mpp | None = None

    def __post_init__(self) -> None:
        require_one({"scale": self.scale, "size": self.size, "mpp": self.mpp})
        if self.scale is not None:
            object.__setattr__(self, "scale", _number(self.scale))
        if self.size is not None:
            object.__setattr__(self, "size", _whole(self.size))
        if self.mpp is not None and not all(math.isfinite(n) and n > 0 for n in self._target()):
            raise ConfigError("micrometers per pixel above 0", f"{self.mpp}", "20x is about 0.5, 40x 0.25.")

    def resolve(self, size: Size, mpp: Mpp | None = None, name: Any = "the image", remark: str = "none stated") -> Size:
        """Compute the size (H, W) of the result for an image of ``size`` (h, w); it may be smaller.

        Args:
            mpp: micrometers per pixel of the image, (y, x); None if unknown.
            name: name of the image in messages.
            remark: reason why ``mpp`` is None (:attr:`~monai_iste.io.pixel_size.PixelSize.remark`).
        Raises:
            DataError: a pixel size is requested and that of the image is unknown.
            ScaleError: the scale is not a finite number above 0, or the result has no pixels.
        """
        if self.scale is not None:
            return output_size(size, self.scale)
        height, width = (max(1, round(n)) for n in self._extent(size, mpp, name, remark))
        return height, width

    def resolve_upscaled(
        self,
        size: Size,
        mpp: Mpp | None = None,
        name: Any = "the image",
        limit: int = MAX_OUTPUT_PIXELS,
        remark: str = "none stated",
    ) -> Size:
        """Compute the size (H, W) of the result as :meth:`resolve`, and check that the network can produce it.

        Args:
            limit: largest H * W.
        Raises:
            ScaleError: the result is smaller than the image on an axis, larger than ``limit``, or one window of it is
                too large.
            DataError: as :meth:`resolve`.
        """
        extent = self._extent(size, mpp, name, remark)
        if any(0 < big < n for big, n in zip(extent, size, strict=True)):
            raise self._too_small(size, mpp)
        if all(n <= big for big, n in zip(extent, size, strict=True)) and self.scale != math.inf:
            _check_extent(size, extent, limit)
        return self.resolve(size, mpp, name, remark)

    def _target(self) -> Mpp:
        return self.mpp if isinstance(self.mpp, tuple) else (self.mpp, self.mpp)  # type: ignore[return-value]

    def _extent(self, size: Size, mpp: Mpp | None, name: Any, remark: str) -> tuple[float, float]:
        """Height and width of the result before rounding."""
        if self.scale is not None:
            return size[0] * self.scale, size[1] * self.scale
        if self.size is not None:
            return self.size
        if mpp is None:
            raise DataError(f"the pixel size of {name} in its file", remark, "Give it: --input-mpp 0.5.")
        height, width = (
            n if same_mpp(own, target) else n * own / target
            for n, own, target in zip(size, mpp, self._target(), strict=True)
        )
        return height, width

    def _too_small(self, size: Size, mpp: Mpp | None) -> ScaleError:
        if self.scale is not None:
            return ScaleError("a scale of at least 1", repr(self.scale), _REDUCE)
        if self.size is not None:
            height, width = self.size
            return ScaleError(f"a size of at least {size[0]} x {size[1]} (H x W)", f"{height} x {width}", _REDUCE)
        return ScaleError(
            f"mpp of at most {min(mpp or (0.0,)):.4g}, the input's", f"{self.mpp}", "Reduce with a resampler instead."
        )


def require_one(options: dict[str, Any]) -> None:
    """Raise ConfigError unless exactly one of the named options is given, that is, not None.

    Example:
        >>> require_one({"scale": 2.0, "size": None})
        >>> require_one({"scale": None, "size": None})
        Traceback (most recent call last):
        ...
        monai_iste.errors.ConfigError: Expected one of scale and size, got neither. Give the one you mean.
    """
    names, given = list(options), sum(value is not None for value in options.values())
    if given != 1:
        none, several = ("neither", "both") if len(names) == 2 else ("none", "several")
        raise ConfigError(
            f"one of {', '.join(names[:-1])} and {names[-1]}", several if given else none, "Give the one you mean."
        )


def _number(scale: Any) -> float:
    try:
        return float(scale)
    except (TypeError, ValueError) as error:
        raise ScaleError("a scale, such as 2 or 3.7", repr(scale), "Give one number.") from error


def _whole(size: Any) -> Size:
    with suppress(TypeError, ValueError):
        height, width = size
        if all(isinstance(n, Integral) and int(n) >= 1 for n in (height, width)):
            return int(height), int(width)
    raise ConfigError("a size (H, W) of at least 1 x 1", repr(size), "Give two whole numbers.")


def _check_extent(size: Size, output: tuple[float, float], limit: int) -> None:
    height, width = output
    if height * width > limit:
        raise ScaleError(
            f"an output of at most {limit:,} pixels",
            f"{height:,.0f} x {width:,.0f} (H x W; {3e-9 * height * width:,.1f} GB in 8 bits)",
            "Lower the scale, or super-resolve a part of the image.",
        )
    tiler = Tiler()
    side = tiler.window + tiler.overlap
    if math.prod(min(n, side) * m / n for n, m in zip(size, output, strict=True)) > _MAX_WINDOW_PIXELS:
        raise ScaleError(
            f"a magnification that makes at most {_MAX_WINDOW_PIXELS:,} pixels of {side} x {side}",
            f"x{math.sqrt(height * width / math.prod(size)):.4g}",
            "Lower the scale, or super-resolve in two steps.",
        )
