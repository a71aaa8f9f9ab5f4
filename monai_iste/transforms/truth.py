"""Random variants of the ground truth: other magnifications, compression and optics than the training tiles have.

Label and low-resolution image are both made from the variant, so that the network reproduces a soft or compressed
truth instead of sharpening it.

Not specified in the paper; our choice: all of it, including the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from PIL import ImageFilter
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.base import RandDictTransform
from monai_iste.transforms.crop import RandArbitraryScaleCrop
from monai_iste.transforms.degradation import degrade, from_pillow, to_pillow
from monai_iste.transforms.io import BACKENDS, check_rgb, check_scale, plain_tensor
from monai_iste.transforms.random_degradation import DegradationSpec, check_range, degrade_with

# A Gaussian of a smaller sigma, in pixels, changes hardly any 8-bit level and is skipped.
_LEAST_SIGMA = 0.1


class RandTruthCrop(RandArbitraryScaleCrop):
    """Crop a random square of ``round(lr_size * m)`` pixels, sometimes at a lower magnification or after JPEG.

    A tile has one of three kinds of ground truth:

    * reduced: with probability ``reduce_prob`` a crop that is f times as large is reduced by f, as a weaker objective
      would show it. The reduction is Pillow's bicubic filter with antialiasing.
    * as it is: with probability ``jpeg_prob`` behind JPEG.
    * native: a tile at the scanner's own resolution, which is never reduced, and with probability
      ``native_jpeg_prob`` behind JPEG. Its pixels are already soft or compressed; the network learns to leave them so.

    Args:
        lr_size, scale_range, min_tissue, max_tries: see :class:`~monai_iste.transforms.RandArbitraryScaleCrop`.
        reduce_prob: probability of a lower magnification.
        reduce_range: smallest and largest f, uniform; limited by the image.
        jpeg_prob: probability of JPEG, 4:2:0, for a tile that is neither reduced nor native.
        jpeg_quality: range of its quality, whole numbers, both ends included, uniform.
        native_jpeg_prob, native_jpeg_quality: the same for native tiles.
    Shape:
        (3, H, W) -> (3, n, n); the effective scale is n / lr_size. The drawn values are :attr:`factor` (f) and
        :attr:`spec` (JPEG).
    Units: uint8, 0 to 255.
    Raises:
        ShapeError: the image is smaller than the crop at the smallest scale, or is not uint8 of shape (3, H, W).
        ConfigError: a parameter is out of range.

    Example:
        >>> crop = RandTruthCrop(lr_size=8, scale_range=(2, 2), reduce_prob=1).set_random_state(0)
        >>> crop(np.zeros((3, 40, 30), np.uint8)).shape, 1.3 <= crop.factor <= 30 / 16
        (torch.Size([3, 16, 16]), True)
    """

    def __init__(
        self,
        lr_size: int = 48,
        scale_range: tuple[float, float] = (1.0, 4.0),
        min_tissue: float = 0.5,
        max_tries: int = 4,
        reduce_prob: float = 0.3,
        reduce_range: tuple[float, float] = (1.3, 3.0),
        jpeg_prob: float = 0.2,
        jpeg_quality: tuple[int, int] = (85, 96),
        native_jpeg_prob: float = 0.6,
        native_jpeg_quality: tuple[int, int] = (80, 96),
    ) -> None:
        super().__init__(lr_size, scale_range, min_tissue, max_tries)
        _check_probs(reduce_prob=reduce_prob, jpeg_prob=jpeg_prob, native_jpeg_prob=native_jpeg_prob)
        check_range("reduce_range", reduce_range, 1, math.inf)
        check_range("jpeg_quality", jpeg_quality, 1, 100)
        check_range("native_jpeg_quality", native_jpeg_quality, 1, 100)
        self.reduce_prob, self.reduce_range = reduce_prob, reduce_range
        self.jpeg = {False: (jpeg_prob, jpeg_quality), True: (native_jpeg_prob, native_jpeg_quality)}
        self.side, self.factor, self.spec = 0, 1.0, DegradationSpec(blur=0)

    def randomize(self, data: np.ndarray | Tensor, native: bool = False) -> None:
        """Draw the side and :attr:`factor` of the next crop, its :attr:`window` and its JPEG :attr:`spec`."""
        self.side = self._draw_side(data)
        prob, (lowest, highest) = self.jpeg[native]
        reduce_draw, jpeg_draw = self.R.uniform(size=2)
        factor, quality = self.R.uniform(*self.reduce_range), int(self.R.randint(lowest, highest + 1))
        down, right = (int(part) for part in self.R.randint(16, size=2))
        limit = min(data.shape[1:]) / self.side
        self.factor = float(min(factor, limit)) if reduce_draw < self.reduce_prob and not native else 1.0
        compressed = self.factor == 1 and jpeg_draw < prob
        self.spec = DegradationSpec(blur=0, quality=quality if compressed else None, phase=(down, right))
        self.window = self._place(data, min(math.ceil(self.side * self.factor), *data.shape[1:]))

    def __call__(self, image: np.ndarray | Tensor, native: bool = False, randomize: bool = True) -> Tensor:  # type: ignore[override]
        if randomize:
            self.randomize(image, native)
        crop, size = image[:, *self.window], (self.side, self.side)
        if self.factor > 1:
            crop = degrade(crop, size, "bicubic")
        return plain_tensor(crop) if self.spec.quality is None else degrade_with(crop, size, self.spec)


class RandTruthCropd(RandDictTransform):
    """Dictionary version of :class:`RandTruthCrop`; stores the effective scale in ``data["scale"]``, a float.

    The crop is drawn on the first key present and applied to all keys, which must be RGB images of one size.

    Args:
        keys: images of one size.
        lr_size, scale_range, min_tissue, max_tries, reduce_prob, reduce_range, jpeg_prob, jpeg_quality,
            native_jpeg_prob, native_jpeg_quality: see :class:`RandTruthCrop`.
        native_key: entry that is true for native tiles; an item without it is not native
            (:func:`monai_iste.data.training_datalists`).
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> crop = RandTruthCropd("image", lr_size=8, scale_range=(2.3, 2.3)).set_random_state(0)
        >>> crop({"image": np.zeros((3, 40, 30), np.uint8), "native": True})["scale"]
        2.25
    """

    def __init__(
        self,
        keys: KeysCollection,
        lr_size: int = 48,
        scale_range: tuple[float, float] = (1.0, 4.0),
        min_tissue: float = 0.5,
        max_tries: int = 4,
        reduce_prob: float = 0.3,
        reduce_range: tuple[float, float] = (1.3, 3.0),
        jpeg_prob: float = 0.2,
        jpeg_quality: tuple[int, int] = (85, 96),
        native_jpeg_prob: float = 0.6,
        native_jpeg_quality: tuple[int, int] = (80, 96),
        native_key: str = "native",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.native_key = native_key
        self.transform = RandTruthCrop(
            lr_size,
            scale_range,
            min_tissue,
            max_tries,
            reduce_prob,
            reduce_range,
            jpeg_prob,
            jpeg_quality,
            native_jpeg_prob,
            native_jpeg_quality,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d, randomize = dict(data), True
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], bool(d.get(self.native_key, False)), randomize)
            d["scale"] = d[key].shape[-1] / self.transform.lr_size
            randomize = False
        return d


RandTruthCropD = RandTruthCropDict = RandTruthCropd


class RandSoftness(RandomizableTransform):
    """Blur the ground truth by a random Gaussian: the optics of another scanner, or an empty magnification.

    Scanners differ in sharpness more than tissues do. A network that knows one softness takes every softer image for a
    blurred one and sharpens it too much.

    Args:
        prob: probability of other optics.
        sigma: range of their sigma in pixels of the truth, uniform.
        empty_prob: probability of an empty magnification: the truth holds nothing beyond the pixels of its
            low-resolution image, and the network learns to add nothing.
        empty_sigma: range of the sigma in that case, in low-resolution pixels, uniform. A Gaussian of 0.45 pixels
            leaves 37 % of a wave of the low-resolution image's Nyquist frequency.
    Shape:
        (3, H, W) -> (3, H, W); the drawn sigma in pixels of the truth is :attr:`sigma`, 0 without a blur.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a parameter is out of range.
        ScaleError: the scale is not a finite number of at least 1.
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> soften = RandSoftness(prob=0, empty_prob=1, empty_sigma=(0.4, 0.4)).set_random_state(0)
        >>> soften(np.zeros((3, 8, 8), np.uint8), 5.0).shape, soften.sigma
        (torch.Size([3, 8, 8]), 2.0)
    """

    backend = BACKENDS

    def __init__(
        self,
        prob: float = 0.55,
        sigma: tuple[float, float] = (0.0, 1.3),
        empty_prob: float = 0.07,
        empty_sigma: tuple[float, float] = (0.225, 0.45),
    ) -> None:
        super().__init__()
        _check_probs(prob=prob, empty_prob=empty_prob, both=prob + empty_prob)
        check_range("sigma", sigma, 0, math.inf)
        check_range("empty_sigma", empty_sigma, 0, math.inf)
        self.optics_prob, self.optics_sigma = prob, sigma
        self.empty_prob, self.empty_sigma = empty_prob, empty_sigma
        self.sigma = 0.0

    def randomize(self, data: float) -> None:
        """Draw :attr:`sigma` for the scale ``data``; every call consumes the same number of random numbers."""
        kind, optics, empty = self.R.uniform(), self.R.uniform(*self.optics_sigma), self.R.uniform(*self.empty_sigma)
        sigma = (
            optics if kind < self.optics_prob else empty * data if kind < self.optics_prob + self.empty_prob else 0.0
        )
        self.sigma = float(sigma) if sigma > _LEAST_SIGMA else 0.0

    def __call__(self, image: np.ndarray | Tensor, scale: float = 1.0, randomize: bool = True) -> Tensor:
        check_rgb(image)
        check_scale(scale)
        if randomize:
            self.randomize(scale)
        pixels = plain_tensor(image)
        return from_pillow(to_pillow(pixels).filter(ImageFilter.GaussianBlur(self.sigma))) if self.sigma else pixels


class RandSoftnessd(RandDictTransform):
    """Dictionary version of :class:`RandSoftness`, at the scale ``data[scale_key]``; all keys get the same blur.

    Args:
        keys: images to blur.
        prob, sigma, empty_prob, empty_sigma: see :class:`RandSoftness`.
        scale_key: key of the scale.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> soften = RandSoftnessd("image").set_random_state(0)
        >>> soften({"image": np.zeros((3, 20, 20), np.uint8), "scale": 2.0})["image"].shape
        torch.Size([3, 20, 20])
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.55,
        sigma: tuple[float, float] = (0.0, 1.3),
        empty_prob: float = 0.07,
        empty_sigma: tuple[float, float] = (0.225, 0.45),
        scale_key: str = "scale",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale_key = scale_key
        self.transform = RandSoftness(prob, sigma, empty_prob, empty_sigma)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d, randomize = dict(data), True
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], float(d[self.scale_key]), randomize)
            randomize = False
        return d


RandSoftnessD = RandSoftnessDict = RandSoftnessd


def _check_probs(**probs: float) -> None:
    if not all(0 <= prob <= 1 for prob in probs.values()):
        received = ", ".join(f"{name} {prob:g}" for name, prob in probs.items())
        raise ConfigError("probabilities in [0, 1]", received, "0 is never, 1 is always.")
