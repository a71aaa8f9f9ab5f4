"""Crops whose size follows from the scale: random crops for training, exact crops for evaluation."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, Transform
from torch import Tensor

from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError, ShapeError
from monai_iste.transforms.base import RandDictTransform
from monai_iste.transforms.io import BACKENDS, check_rgb, check_scale

# Background is bright and colorless. Scanners record it at 230 to 250 of 255, its channels within 10 of each other.
# The palest stroma is as bright in red, but eosin absorbs green. 210 and 20 leave room for dim or tinted lamps.
BACKGROUND_LEVEL = 210
BACKGROUND_SPREAD = 20

# Pixels inspected per axis, at most: 1024 samples estimate a fraction to within 0.02.
_GRID = 32


def tissue_fraction(image: np.ndarray | Tensor) -> float:
    """Estimate the fraction of an image that is not background, from at most 32 x 32 of its pixels.

    A pixel is background when its darkest channel is at least :data:`BACKGROUND_LEVEL` and its channels lie within
    :data:`BACKGROUND_SPREAD` of each other.
    Not specified in the paper; our choice: without it, many training crops would hold no tissue.

    Shape:
        image: (3, H, W)
    Units: uint8, 0 to 255; returns a fraction in [0, 1].
    Raises:
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> half = np.full((3, 8, 8), 240, np.uint8)
        >>> half[1, :, :4] = 150
        >>> tissue_fraction(half)
        0.5
    """
    check_rgb(image)
    rows, columns = (math.ceil(n / _GRID) for n in image.shape[1:])
    sample = np.asarray(image[:, ::rows, ::columns])
    darkest, brightest = sample.min(0), sample.max(0)
    return 1 - float(((darkest >= BACKGROUND_LEVEL) & (brightest - darkest <= BACKGROUND_SPREAD)).mean())


class RandArbitraryScaleCrop(RandomizableTransform):
    """Crop a random square of ``round(lr_size * m)`` pixels with m ~ U(scale_range): the training crop at scale m.

    Implements the sampling of Sec. IV of Duan et al., arXiv:2401.15613 (48m x 48m crops, m ~ U(1, 4)).
    Differs from the paper: a crop that is mostly background is drawn again elsewhere, at the same m, so that m stays
    uniform. After ``max_tries`` draws the crop with most tissue is returned. An image too small for the largest scale
    lowers the upper end of the range of m.
    Not specified in the paper; our choice: both.

    Args:
        lr_size: side of the low-resolution crop that the square is later reduced to.
        scale_range: smallest and largest m.
        min_tissue: fraction of the crop that must be tissue (:func:`tissue_fraction`).
        max_tries: maximum number of draws.
    Shape:
        (3, H, W) -> (3, n, n), a view; the effective scale is n / lr_size.
    Units: uint8, 0 to 255.
    Raises:
        ShapeError: the image is smaller than the crop at the smallest scale, or is not uint8 of shape (3, H, W).
        ConfigError: a parameter is out of range.

    Example:
        >>> crop = RandArbitraryScaleCrop(lr_size=8, scale_range=(2, 2)).set_random_state(0)
        >>> crop(np.zeros((3, 40, 30), np.uint8)).shape
        (3, 16, 16)
    """

    backend = BACKENDS

    def __init__(
        self,
        lr_size: int = 48,
        scale_range: tuple[float, float] = (1.0, 4.0),
        min_tissue: float = 0.2,
        max_tries: int = 10,
    ) -> None:
        super().__init__()
        low, high = scale_range
        if not (1 <= low <= high < math.inf):
            raise ConfigError("scale_range (low, high) with 1 <= low <= high", repr(scale_range), "Try (1, 4).")
        if lr_size < 1 or max_tries < 1 or not 0 <= min_tissue <= 1:
            raise ConfigError(
                "lr_size and max_tries of at least 1, min_tissue in [0, 1]",
                f"{lr_size}, {max_tries}, {min_tissue}",
                "Try 48, 10, 0.2.",
            )
        self.lr_size = lr_size
        self.scale_range = (low, high)
        self.min_tissue = min_tissue
        self.max_tries = max_tries
        self.window = (slice(0), slice(0))

    def randomize(self, data: np.ndarray | Tensor) -> None:
        """Draw :attr:`window`, the rows and columns of the next crop of the image ``data``."""
        self.window = self._place(data, self._draw_side(data))

    def _draw_side(self, image: np.ndarray | Tensor) -> int:
        """Draw the side of the crop, ``round(lr_size * m)``."""
        check_rgb(image)
        height, width = image.shape[1:]
        low, high = self.scale_range
        smallest = round(self.lr_size * low)
        if min(height, width) < smallest:
            raise ShapeError(
                f"an image of at least {smallest} x {smallest} pixels (lr_size x smallest scale)",
                f"{width} x {height}",
                "Use larger images, or lower lr_size.",
            )
        return round(self.lr_size * self.R.uniform(low, max(low, min(high, min(height, width) / self.lr_size))))

    def _place(self, image: np.ndarray | Tensor, side: int) -> tuple[slice, slice]:
        """Draw positions of a square until one has enough tissue; return the rows and columns of the best one."""
        height, width = image.shape[1:]
        best, chosen = -1.0, self.window
        for _ in range(self.max_tries):
            top, left = self.R.randint(height - side + 1), self.R.randint(width - side + 1)
            window = (slice(top, top + side), slice(left, left + side))
            tissue = tissue_fraction(image[:, *window])
            if tissue > best:
                chosen, best = window, tissue
            if tissue >= self.min_tissue:
                break
        return chosen

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> np.ndarray | Tensor:
        if randomize:
            self.randomize(image)
        return image[:, *self.window]


class RandArbitraryScaleCropd(RandDictTransform):
    """Dictionary version of :class:`RandArbitraryScaleCrop`; stores the effective scale in ``data["scale"]``, a float.

    The crop is drawn on the first key present and applied to all keys, so an image and its mask stay aligned.

    Args:
        keys: images of one size.
        lr_size, scale_range, min_tissue, max_tries: see :class:`RandArbitraryScaleCrop`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> crop = RandArbitraryScaleCropd("image", lr_size=8, scale_range=(2.3, 2.3)).set_random_state(0)
        >>> crop({"image": np.zeros((3, 40, 30), np.uint8)})["scale"]
        2.25
    """

    def __init__(
        self,
        keys: KeysCollection,
        lr_size: int = 48,
        scale_range: tuple[float, float] = (1.0, 4.0),
        min_tissue: float = 0.2,
        max_tries: int = 10,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = RandArbitraryScaleCrop(lr_size, scale_range, min_tissue, max_tries)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = super().__call__(data)
        for key in self.key_iterator(d):
            d["scale"] = d[key].shape[-1] / self.transform.lr_size
        return d


class ArbitraryScaleCrop(Transform):
    """Crop an image to a size that super-resolution at the given scale can produce.

    The center crop of at most ``max_size`` pixels a side is taken first. From its top left corner the largest H x W is
    kept for which H = round(h * scale) and W = round(w * scale) with whole numbers h and w: the size that a network
    returns for an h x w input.

    Args:
        max_size: largest side of the center crop; None uses the whole image.
    Shape:
        (3, H, W) -> (3, round(h * scale), round(w * scale)), a view.
    Units: uint8, 0 to 255.
    Raises:
        ScaleError: the scale is not a finite number of at least 1.
        ShapeError: the image is smaller than one low-resolution pixel, or is not uint8 of shape (3, H, W).

    Example:
        >>> ArbitraryScaleCrop()(np.zeros((3, 100, 64), np.uint8), 3.7).shape
        (3, 100, 63)
    """

    backend = BACKENDS

    def __init__(self, max_size: int | None = None) -> None:
        self.max_size = max_size

    def __call__(self, image: np.ndarray | Tensor, scale: float) -> np.ndarray | Tensor:  # type: ignore[override]
        check_rgb(image)
        check_scale(scale)
        if self.max_size is not None:
            top, left = (max(0, n - self.max_size) // 2 for n in image.shape[1:])
            image = image[:, top : top + self.max_size, left : left + self.max_size]
        # 1e-9 undoes floating-point rounding: 33 / 1.1 must give 30 low-resolution pixels, not 29.
        h, w = (math.floor(n / scale + 1e-9) for n in image.shape[1:])
        if min(h, w) < 1:
            raise ShapeError(
                f"an image of at least {math.ceil(scale)} pixels a side at scale {scale}",
                f"{image.shape[2]} x {image.shape[1]}",
                "Use larger images or a smaller scale.",
            )
        height, width = output_size((h, w), scale)
        return image[:, :height, :width]


class ArbitraryScaleCropd(MapTransform):
    """Dictionary version of :class:`ArbitraryScaleCrop`, at the scale ``data["scale"]``.

    Args:
        keys: images to crop.
        max_size: see :class:`ArbitraryScaleCrop`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> data = {"image": np.zeros((3, 20, 30), np.uint8), "scale": 3.0}
        >>> ArbitraryScaleCropd("image", max_size=10)(data)["image"].shape
        (3, 9, 9)
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, max_size: int | None = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.cropper = ArbitraryScaleCrop(max_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.cropper(d[key], float(d["scale"]))
        return d


RandArbitraryScaleCropD = RandArbitraryScaleCropDict = RandArbitraryScaleCropd
ArbitraryScaleCropD = ArbitraryScaleCropDict = ArbitraryScaleCropd
