"""Tissue mask of a whole slide, feathered; it does not depend on the requested region."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter
from skimage.measure import label
from torch import Tensor

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.inferers import Region

# Spacing of the mask's samples: a single cell fills one, and noise and JPEG blocks are averaged out.
_SPACING_UM = 8.0
_SPACING_PX = 16.0  # where the pixel size is unknown: 8 um at 20x
_SPACING_RANGE = (8.0, 32.0)  # in pixels
_MAX_SAMPLES = 4_000_000
_DETAIL = 2  # a sample is read as 2 x 2 parts, whose spread measures texture
_BLOCK = 256  # side of the blocks that are read at once, in samples

# A sample is background if it exceeds none of these limits, relative to the slide's white.
_ABSORBED = 0.045  # absorption in the most absorbed channel
_CHROMA = 0.03  # difference between the most and the least absorbed channel
_TEXTURE = 0.035  # difference between the parts of the sample
_CERTAIN = 2.0  # a sample that exceeds a limit by this factor is tissue even if it is isolated
_MIN_GROUP = 16  # smallest group of samples that is tissue without a certain one
_MIN_HOLE = 64  # holes of fewer samples, such as a lumen, are filled

# Limits of background before the slide's white is known, in 8-bit levels.
_BACKGROUND_DARKEST, _BACKGROUND_CHROMA, _BACKGROUND_SPREAD, _BACKGROUND_NOISE = 150, 16, 7, 5.0
_MIN_BACKGROUND = 0.002
_PROBES, _PROBE_SIDE = 24, 32


class _Slide(Protocol):
    """Interface of the slide: the part of :class:`~monai_iste.slides.reader.Slide` that the mask needs."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def mpp(self) -> tuple[float, float] | None: ...
    def read(self, region: Region) -> np.ndarray: ...
    def read_at(self, size: tuple[int, int], region: Region) -> np.ndarray: ...


class TissueMask:
    """Weight in [0, 1] at every position of a slide: 1 on tissue, 0 on background, with a smooth transition.

    The mask holds samples ``q`` (8 bits) on a grid of n x m over the slide of h x w pixels. A position y (0 at the
    center of the first pixel) lies at ``t = (y + 0.5) * n / h - 0.5`` samples, clamped to [0, n - 1]; with ``i =
    floor(t)`` and ``f = t - i``, and likewise j and g along x::

        weight = ((1 - f) (1 - g) q[i, j] + (1 - f) g q[i, j + 1] + f (1 - g) q[i + 1, j] + f g q[i + 1, j + 1]) / 255

    in float64, element by element: the weight depends on the position alone.

    Args:
        samples: ``q``, see :meth:`to_array`.
        size: (h, w) of the slide's level 0.
    Shape:
        samples: (n, m) uint8
    Units: positions in level-0 pixels.
    Raises:
        ShapeError: the samples are not a non-empty uint8 array of two dimensions.

    Example:
        >>> mask = TissueMask(np.array([[0, 255]], np.uint8), (16, 32))
        >>> mask.weight(torch.zeros(1), torch.tensor([0.0, 11.5, 15.5, 31.0])).tolist()
        [[0.0, 0.25, 0.5, 1.0]]
        >>> mask.touches(0, 0, 16, 8), mask.touches(0, 0, 16, 9)
        (False, True)
    """

    def __init__(self, samples: np.ndarray, size: tuple[int, int]) -> None:
        if samples.ndim != 2 or samples.dtype != np.uint8 or not samples.size or min(size) < 1:
            raise ShapeError(
                "mask samples of shape (n, m), uint8, for a slide of at least 1 x 1",
                f"{samples.dtype} of shape {samples.shape} for {size[0]} x {size[1]}",
                "Give what to_array() returned.",
            )
        self._samples = np.ascontiguousarray(samples)
        self.size = size

    def weight(self, y: Tensor, x: Tensor) -> Tensor:
        """Compute the weight at every pair of positions.

        Shape:
            y: (H,); x: (W,); returns (H, W), float32, on the device of y
        """
        upper, lower, f = self._neighbors(y, 0)
        left, right, g = self._neighbors(x, 1)
        samples = torch.from_numpy(self._samples).to(y.device)
        f = f.unsqueeze(1)
        # Rows first: f is constant along a row, g along a column.
        rows = samples[upper].double() * (1 - f) + samples[lower].double() * f
        return ((rows[:, left] * (1 - g) + rows[:, right] * g) / 255).float()

    def touches(self, top: float, left: float, bottom: float, right: float) -> bool:
        """Check whether the weight is above 0 anywhere in the pixels ``top:bottom``, ``left:right``.

        The check is exact for the positions from ``top - 0.5`` to ``bottom - 0.5``, borders included.
        """
        rows, columns = (
            slice(math.floor(self._sample(a - 0.5, axis)), math.ceil(self._sample(b - 0.5, axis)) + 1)
            for axis, (a, b) in enumerate(((top, bottom), (left, right)))
        )
        return bool(self._samples[rows, columns].any())

    @property
    def fraction(self) -> float:
        """Fraction of the slide's area where the weight is above 0.

        Between four samples the weight is above 0 if one of theirs is; half a spacing lies beyond the outermost samples
        on each side.
        """
        positive = np.pad(self._samples > 0, 1, mode="edge")
        positive = positive[1:] | positive[:-1]
        positive = positive[:, 1:] | positive[:, :-1]
        height, width = (np.r_[0.5, np.ones(n - 1), 0.5] for n in self._samples.shape)
        return float(height @ positive @ width / self._samples.size)

    def to_array(self) -> np.ndarray:
        """Return the samples, (n, m) uint8, from which the mask can be restored with the slide's size."""
        return self._samples.copy()

    def _sample(self, position: Any, axis: int) -> Any:
        """Convert positions in pixels to positions in samples, numbers or float64 tensors."""
        count = self._samples.shape[axis]
        t = (position + 0.5) * count / self.size[axis] - 0.5
        return t.clamp(0, count - 1) if isinstance(t, Tensor) else min(max(t, 0), count - 1)

    def _neighbors(self, position: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        t = self._sample(position.double(), axis)
        first = t.floor()
        return first.long(), (first.long() + 1).clamp(max=self._samples.shape[axis] - 1), t - first


def tissue_mask(slide: _Slide, margin: float = 16, feather: float = 48) -> TissueMask:
    """Find the tissue of a slide from a reduced version of the whole.

    The grid depends on the slide alone: a sample every 8 um (16 pixels where the pixel size is unknown), within 8 to 32
    pixels, and coarser where that would be more than four million samples. Let ``c`` be a sample's mean color, ``s``
    the largest difference in a channel between its 2 x 2 parts, and ``white`` the :func:`background_color`. Then::

        r = c / white
        score = max( (1 - min r) / 0.045,  (max r - min r) / 0.03,  s / (0.035 white) )

    over the channels: background is bright, without color and without texture. A connected group of samples with a
    score above 1 is tissue if one of its scores is above 2, or if it has at least 16 samples. A single cell is enough,
    a speck of noise is not. Holes of fewer than 64 samples are filled. No threshold is taken from the histogram, which
    would split a slide that is all tissue. In doubt a sample is tissue: that costs time, the opposite would cost
    detail. Pen marks and dust count as tissue. Without any background everything is tissue, except pixels that were not
    scanned (exactly black or white).

    With ``d`` the distance of a sample from the center of the nearest tissue sample and ``spacing`` the distance of
    samples, both in level-0 pixels, and ``S(u) = u^2 (3 - 2 u)``, u clamped to [0, 1]::

        q = round(255 (1 - S((d - margin - 3 / sqrt(2) spacing) / feather)))

    so that the weight is 1 up to ``margin`` pixels around every tissue sample, interpolation included.

    Args:
        margin: pixels around tissue in which the weight is still 1.
        feather: pixels over which it falls to 0; at least two spacings of the samples.
    Raises:
        ConfigError: margin or feather is negative.
    """
    if margin < 0 or feather < 0:
        raise ConfigError(
            "margin and feather of at least 0 pixels", f"{margin} and {feather}", "The default is 16, 48."
        )
    found = _measure(slide)
    tissue = _tissue(found, _white(slide, found))
    spacing = [n / count for n, count in zip(slide.size, tissue.shape, strict=True)]
    if not tissue.any():
        return TissueMask(np.zeros(tissue.shape, np.uint8), slide.size)
    distance = distance_transform_edt(~tissue, sampling=spacing)
    beyond = distance - margin - 3 / math.sqrt(2) * max(spacing)
    u = np.clip(beyond / max(feather, 2 * max(spacing)), 0, 1)
    return TissueMask(np.round(255 * (1 - u * u * (3 - 2 * u))).astype(np.uint8), slide.size)


def background_color(slide: _Slide) -> np.ndarray | None:
    """Measure the background color of a slide, (3,) float32 in 8-bit levels; None if there is no background.

    Candidates are the samples of :func:`tissue_mask` that are bright, nearly gray and like their neighbors. The white
    is the mean of those around the brightest peak of the histogram of brightness that reaches a tenth of the highest
    peak. It is confirmed at full resolution, where even pale tissue has a texture: the median of the standard
    deviations of some probes is at most 5 levels.
    """
    return _white(slide, _measure(slide))


class _Measured(NamedTuple):
    """Measurements of the reduced slide per sample: mean color (n, m, 3) and spread of the parts (n, m), uint8."""

    color: np.ndarray
    spread: np.ndarray

    @property
    def blank(self) -> np.ndarray:
        """Samples that were not scanned, exactly black or white, (n, m) bool."""
        darkest, brightest = self.color.min(2), self.color.max(2)
        return (self.spread == 0) & ((brightest == 0) | (darkest == 255))


def _grid(slide: _Slide) -> tuple[int, int]:
    low, high = _SPACING_RANGE
    spacing = [_SPACING_PX] * 2 if slide.mpp is None else [min(max(_SPACING_UM / m, low), high) for m in slide.mpp]
    coarser = max(1.0, math.sqrt(math.prod(slide.size) / math.prod(spacing) / _MAX_SAMPLES))
    rows, columns = (math.ceil(n / s / coarser) for n, s in zip(slide.size, spacing, strict=True))
    return rows, columns


def _measure(slide: _Slide) -> _Measured:
    """Read the whole reduced slide once, block by block."""
    rows, columns = _grid(slide)
    fine = (rows * _DETAIL, columns * _DETAIL)
    found = _Measured(np.empty((rows, columns, 3), np.uint8), np.empty((rows, columns), np.uint8))
    for top in range(0, rows, _BLOCK):
        for left in range(0, columns, _BLOCK):
            height, width = min(_BLOCK, rows - top), min(_BLOCK, columns - left)
            pixels = slide.read_at(fine, Region(*(n * _DETAIL for n in (top, left, height, width))))
            parts = pixels.reshape(height, _DETAIL, width, _DETAIL, 3)
            here = Region(top, left, height, width).slices
            found.color[here] = parts.mean((1, 3)).round()
            found.spread[here] = (parts.max((1, 3)) - parts.min((1, 3))).max(2)
    return found


def _white(slide: _Slide, found: _Measured) -> np.ndarray | None:
    darkest, brightest = found.color.min(2), found.color.max(2)
    flat = maximum_filter(brightest, 3).astype(int) - minimum_filter(brightest, 3) <= _BACKGROUND_SPREAD
    flat &= (
        (found.spread <= _BACKGROUND_SPREAD)
        & (darkest >= _BACKGROUND_DARKEST)
        & (brightest - darkest <= _BACKGROUND_CHROMA)
    )
    flat &= ~found.blank
    where = np.argwhere(flat)
    if len(where) < max(1, _MIN_BACKGROUND * flat.size):
        return None
    colors = found.color[flat].astype(np.float32)
    brightness = colors.mean(1)
    counts = np.convolve(np.bincount(brightness.round().astype(int), minlength=256), np.ones(7), mode="same")
    flank = max(level for level in range(256) if counts[level] >= 0.1 * counts.max())
    summit = np.percentile(brightness[np.abs(brightness - flank + 3) <= 7], 50, method="lower")
    chosen = np.abs(brightness - summit) <= 3
    if _noise(slide, where[chosen], found.spread.shape) > _BACKGROUND_NOISE:
        return None
    white: np.ndarray = colors[chosen].mean(0)
    return white


def _noise(slide: _Slide, samples: np.ndarray, grid: tuple[int, ...]) -> float:
    """Measure the median standard deviation of the brightness at full resolution at some samples, in levels."""
    height, width = (min(_PROBE_SIDE, n) for n in slide.size)
    deviations = []
    for row, column in samples[np.linspace(0, len(samples) - 1, min(_PROBES, len(samples))).astype(int)]:
        top = min(int(row * slide.size[0] / grid[0]), slide.size[0] - height)
        left = min(int(column * slide.size[1] / grid[1]), slide.size[1] - width)
        deviations.append(slide.read(Region(top, left, height, width)).astype(np.float32).mean(2).std())
    return float(np.median(deviations))


def _tissue(found: _Measured, white: np.ndarray | None) -> np.ndarray:
    """Classify the samples by the rules of :func:`tissue_mask`; returns (n, m) bool."""
    if white is None:
        return ~found.blank
    relative = found.color / white
    least, most = relative.min(2), relative.max(2)
    score = np.maximum((1 - least) / _ABSORBED, (most - least) / _CHROMA)
    score = np.maximum(score, found.spread / (_TEXTURE * white.mean()))
    score[found.blank] = 0
    tissue = _large_groups(score > 1, _MIN_GROUP, score > _CERTAIN)
    return ~_large_groups(~tissue, _MIN_HOLE)


def _large_groups(mask: np.ndarray, min_size: int, certain: np.ndarray | None = None) -> np.ndarray:
    """Keep connected groups of at least ``min_size`` samples, or with a certain one."""
    groups = label(mask, connectivity=2)
    keep = np.bincount(groups.ravel()) >= min_size
    if certain is not None:
        keep[groups[certain & mask]] = True
    keep[0] = False
    kept: np.ndarray = keep[groups]
    return kept
