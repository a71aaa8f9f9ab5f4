"""Traits of an input that decide whether weights were trained for it: sharpness and compression.

Both are measured in at most 16 windows of 64 x 64 pixels, spread over the image, that are not flat. The result depends
on the image alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from monai_iste.inferers.tiling import Region
from monai_iste.networks.learned_range import InputTraits, LearnedRange

_SIDE = 64
_GRID = 8  # windows that are looked at, per axis
_WINDOWS = 16  # windows that are measured
_FLAT = 6.0  # standard deviation of a window in 8-bit levels, below which it is background
_BLOCK = 8


def measure_traits(
    read: Callable[[Region], np.ndarray], size: tuple[int, int], mpp: tuple[float, float] | None = None
) -> InputTraits:
    """Measure the traits of an image of ``size`` (h, w).

    Sharpness is the median over windows, blockiness that of all windows together. Both are None where every window is
    flat or the image is smaller than 32 x 32.

    Args:
        read: returns a region as (height, width, 3) uint8.
        mpp: micrometers per pixel, (y, x).

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
        >>> traits = measure_traits(lambda region: noise[region.slices], (200, 300), (0.5, 0.5))
        >>> traits.mpp, round(traits.sharpness, 1), round(traits.blockiness, 1)
        (0.5, 0.8, 1.0)
    """
    windows = list(_textured(read, size))
    mean_mpp = None if mpp is None else float(np.sqrt(mpp[0] * mpp[1]))
    if not windows:
        return InputTraits(mean_mpp)
    return InputTraits(mean_mpp, float(np.median([_fine_energy(pixels) for pixels in windows])), _blockiness(windows))


def _textured(read: Callable[[Region], np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield windows (h, w), gray, float64, that are not flat; those far apart first."""
    height, width = (min(_SIDE, n) // _BLOCK * _BLOCK for n in size)
    if min(height, width) < _SIDE // 2:
        return
    tops, lefts = (
        sorted({round(k * (n - side) / (_GRID - 1)) // _BLOCK * _BLOCK for k in range(_GRID)})
        for n, side in zip(size, (height, width), strict=True)
    )
    places = [(top, left) for top in tops for left in lefts]
    found = 0
    for k in range(len(places)):
        top, left = places[k * _stride(len(places)) % len(places)]
        pixels = read(Region(top, left, height, width)).mean(-1)
        if pixels.std() >= _FLAT:
            yield pixels
            found += 1
            if found == _WINDOWS:
                return


def _stride(count: int) -> int:
    """Step through ``count`` places that visits each once, in no order of rows: about 0.6 of them, and coprime."""
    step = max(1, round(0.6 * count))
    while np.gcd(step, count) != 1:
        step += 1
    return step


def _fine_energy(pixels: np.ndarray) -> float:
    """Fraction of the spectral energy of a window above half the Nyquist frequency, its mean left out.

    With P the power spectrum of the window times a Hann window, and r the radial frequency in cycles per pixel::

        sum of P where r > 1/4 / sum of P
    """
    h, w = pixels.shape
    taper = np.outer(np.hanning(h), np.hanning(w))
    flat = pixels - (pixels * taper).sum() / taper.sum()
    power = np.abs(np.fft.fft2(flat * taper)) ** 2
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w))
    return float(power[radius > 0.25].sum() / max(power.sum(), 1e-12))


def _blockiness(windows: list[np.ndarray]) -> float:
    """Largest mean step across one of the eight positions in a block, divided by their median; the mean of both axes.

    The position is not assumed: a tile that is cut from a slide begins anywhere in a block. A median below a tenth of a
    level, of pixels that were repeated, counts as a tenth.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.zeros(_BLOCK)
        for pixels in windows:
            lines = np.abs(np.diff(pixels, axis=axis)).mean(1 - axis)
            steps += [lines[k::_BLOCK].mean() for k in range(_BLOCK)]
        ratios.append(steps.max() / max(float(np.median(steps)), 0.1 * len(windows)))
    return float(np.mean(ratios))


def describe_departure(
    learned: LearnedRange | None,
    read: Callable[[Region], np.ndarray],
    size: tuple[int, int],
    mpp: tuple[float, float] | None = None,
) -> str:
    """Return a sentence if an image is far outside what weights learned, else an empty string.

    Args:
        learned: range of the weights (:func:`monai_iste.networks.presets.learned_range`); None if unknown.
        read, size, mpp: see :func:`measure_traits`.
    """
    departure = "" if learned is None else learned.describe_departure(measure_traits(read, size, mpp))
    return f"outside what the weights learned: {departure}; compare with bicubic interpolation" if departure else ""
