"""Augmentations for slides of other laboratories and scanners: stain and brightness, JPEG, magnification.

All are applied before the degradation, so that label and low-resolution image agree.

Not specified in the paper; our choice: all of them, including their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.base import RandDictTransform
from monai_iste.transforms.degradation import degrade, lr_size_at
from monai_iste.transforms.io import BACKENDS, check_rgb, plain_tensor
from monai_iste.transforms.random_degradation import DegradationSpec, degrade_with

# Optical density of every 8-bit level. Adding 1 keeps the density of black finite and that of white exactly 0.
_DENSITY = -torch.log((torch.arange(256, dtype=torch.float64) + 1) / 256)


def adjust_stains(
    image: np.ndarray | Tensor,
    gain: Sequence[float] | np.ndarray = (1.0, 1.0, 1.0),
    offset: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    brightness: float = 1.0,
) -> Tensor:
    """Change the amounts of hematoxylin, eosin and DAB in an image, and its brightness.

    With ``I`` the 8-bit levels of a pixel and ``B`` the densities of the stains per channel (rows of scikit-image's
    ``rgb_from_hed``)::

        D  = -ln((I + 1) / 256)                  optical density (r, g, b); 0 for white
        c  = D B^-1                              amounts of (hematoxylin, eosin, DAB)
        c' = gain * c + offset
        I' = 256 * brightness * exp(-c' B) - 1   rounded, clipped to 0 and 255

    Gains do not change white. The default arguments reproduce every color exactly. An H&E slide contains no DAB; its
    DAB component is the part of the color that the two other stains do not explain.

    The densities of the stains are those of Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 23
    (2001), as in scikit-image. Negative amounts are kept, unlike in scikit-image's ``rgb2hed``.

    Args:
        gain: factors of the amounts of hematoxylin, eosin and DAB.
        offset: additions to the three amounts, in optical density (natural logarithm); they tint background too.
        brightness: factor of the light.
    Shape:
        (3, H, W) -> (3, H, W)
    Units: uint8, 0 to 255, in and out.
    Raises:
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> adjust_stains(np.full((3, 2, 2), 255, np.uint8), gain=(2, 0.5, 3)).unique().tolist()
        [255]
    """
    check_rgb(image)
    pixels = plain_tensor(image)
    change = hed_from_rgb @ np.diag(gain) @ rgb_from_hed
    shift = torch.from_numpy(np.asarray(offset) @ rgb_from_hed - math.log(brightness))
    density = torch.einsum("chw,cd->dhw", _DENSITY[pixels.long()], torch.from_numpy(change))
    levels = 256 * torch.exp(-density - shift[:, None, None]) - 1
    return levels.round().clamp(0, 255).byte()


class RandStainJitter(RandomizableTransform):
    """Apply :func:`adjust_stains` with random gains U(1 - s, 1 + s), offsets U(-o, o) and brightness U(1 - b, 1 + b).

    Between laboratories, the thickness of sections, the stain and the lamp differ far more than within a few hundred
    training tiles.

    Args:
        prob: probability of a change.
        gain: s, drawn independently for each of the three stains.
        offset: o in optical density; 0.02 changes background by five of 255 levels.
        brightness: b, the range of the factor of the light.
    Shape:
        (3, H, W) -> (3, H, W); the drawn values are :attr:`gains`, :attr:`offsets` and :attr:`light`.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a parameter is out of range.
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> jitter = RandStainJitter(prob=1).set_random_state(0)
        >>> jitter(np.full((3, 1, 1), 128, np.uint8)).flatten().tolist()
        [127, 127, 130]
    """

    backend = BACKENDS

    def __init__(self, prob: float = 0.5, gain: float = 0.2, offset: float = 0.02, brightness: float = 0.05) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError("a prob in [0, 1]", repr(prob), "0 is never, 1 is always.")
        if not (0 <= gain < 1 and 0 <= offset < math.inf and 0 <= brightness < 1):
            raise ConfigError(
                "gain and brightness in [0, 1), offset of at least 0",
                f"{gain}, {brightness}, {offset}",
                "Try 0.2, 0.05, 0.02.",
            )
        super().__init__(prob)
        self.gain, self.offset, self.brightness = gain, offset, brightness
        self.gains, self.offsets, self.light = np.ones(3), np.zeros(3), 1.0

    def randomize(self, data: Any = None) -> None:
        """Draw :attr:`gains`, :attr:`offsets` and :attr:`light`."""
        super().randomize(None)
        drawn = self.R.uniform(-1, 1, size=7)
        self.gains, self.offsets = 1 + self.gain * drawn[:3], self.offset * drawn[3:6]
        self.light = float(1 + self.brightness * drawn[6])

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> Tensor:
        check_rgb(image)
        if randomize:
            self.randomize()
        if not self._do_transform:
            return plain_tensor(image)
        return adjust_stains(image, self.gains, self.offsets, self.light)


class RandStainJitterd(RandDictTransform):
    """Dictionary version of :class:`RandStainJitter`; all keys get the same change.

    Args:
        keys: images to change.
        prob, gain, offset, brightness: see :class:`RandStainJitter`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> jitter = RandStainJitterd("image", prob=1).set_random_state(0)
        >>> jitter({"image": np.full((3, 1, 1), 128, np.uint8)})["image"].flatten().tolist()
        [127, 127, 130]
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        gain: float = 0.2,
        offset: float = 0.02,
        brightness: float = 0.05,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = RandStainJitter(prob, gain, offset, brightness)


RandStainJitterD = RandStainJitterDict = RandStainJitterd


class RandJPEG(RandomizableTransform):
    """Compress an image as JPEG (4:2:0) of random quality and decode it; the size stays the same.

    Label and low-resolution image are both made from the compressed image. A network that is trained on lossless images
    alone adds false color to slides in JPEG files, whose color channels have half the resolution.

    Args:
        prob: probability of a compression.
        quality: range of the quality, whole numbers, both ends included, uniform. The default is high because the
            network learns to reproduce the compressed image.
    Shape:
        (3, H, W) -> (3, H, W); the drawn parameters are :attr:`spec`. The image begins anywhere in a JPEG block.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a parameter is out of range.
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> jpeg = RandJPEG(prob=1).set_random_state(0)
        >>> jpeg(np.zeros((3, 20, 30), np.uint8)).shape, jpeg.spec.subsampling
        (torch.Size([3, 20, 30]), '4:2:0')
    """

    backend = BACKENDS

    def __init__(self, prob: float = 0.3, quality: tuple[int, int] = (80, 96)) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError("a prob in [0, 1]", repr(prob), "0 is never, 1 is always.")
        if not 1 <= quality[0] <= quality[1] <= 100:
            raise ConfigError("a quality (low, high) with 1 <= low <= high <= 100", repr(quality), "Try (80, 96).")
        super().__init__(prob)
        self.quality = quality
        self.spec = DegradationSpec(blur=0)

    def randomize(self, data: Any = None) -> None:
        """Draw :attr:`spec`; every call consumes the same number of random numbers."""
        super().randomize(None)
        quality = int(self.R.randint(self.quality[0], self.quality[1] + 1))
        down, right = (int(part) for part in self.R.randint(16, size=2))
        self.spec = DegradationSpec(blur=0, quality=quality if self._do_transform else None, phase=(down, right))

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> Tensor:
        check_rgb(image)
        if randomize:
            self.randomize()
        if self.spec.quality is None:
            return plain_tensor(image)
        height, width = image.shape[1:]
        return degrade_with(image, (height, width), self.spec)


class RandJPEGd(RandDictTransform):
    """Dictionary version of :class:`RandJPEG`; all keys, which must be RGB images, get the same quality.

    Args:
        keys: images to compress.
        prob, quality: see :class:`RandJPEG`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> RandJPEGd("image", prob=1)({"image": np.zeros((3, 20, 30), np.uint8)})["image"].shape
        torch.Size([3, 20, 30])
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.3,
        quality: tuple[int, int] = (80, 96),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = RandJPEG(prob, quality)


RandJPEGD = RandJPEGDict = RandJPEGd


class RandLowerMagnification(RandomizableTransform):
    """Reduce a whole image by a random factor before it is cropped: the same tissue at a lower magnification.

    Tiles of one scanner are about equally sharp. Reduced tiles are sharper per pixel, as those of other scanners are,
    and their nuclei are smaller. Label and low-resolution image are both made from the reduced image, so the factor
    does not change the scale of the training pair.

    The filter is Pillow's bicubic with antialiasing: ``bicubic`` of
    :func:`~monai_iste.transforms.degradation.degrade`.

    Args:
        prob: probability of a reduction.
        factor_range: smallest and largest factor, uniform.
        min_size: smallest allowed shorter side in pixels: the size of the largest crop. It limits the factor; a smaller
            image is not reduced.
    Shape:
        (3, H, W) -> (3, round(H / f), round(W / f)) with f the drawn :attr:`factor`, limited by ``min_size``.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a parameter is out of range.
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> lower = RandLowerMagnification(prob=1, factor_range=(1.5, 1.5), min_size=8)
        >>> lower(np.zeros((3, 90, 63), np.uint8)).shape
        torch.Size([3, 60, 42])
    """

    backend = BACKENDS

    def __init__(self, prob: float = 0.25, factor_range: tuple[float, float] = (1.0, 2.0), min_size: int = 128) -> None:
        low, high = factor_range
        if not 0 <= prob <= 1:
            raise ConfigError("a prob in [0, 1]", repr(prob), "0 is never, 1 is always.")
        if not 1 <= low <= high < math.inf:
            raise ConfigError("factor_range (low, high) with 1 <= low <= high", repr(factor_range), "Try (1, 2).")
        if min_size < 1:
            raise ConfigError("a min_size of at least 1", repr(min_size), "Give the side of the largest crop.")
        super().__init__(prob)
        self.factor_range = (low, high)
        self.min_size = min_size
        self.factor = 1.0

    def randomize(self, data: Any = None) -> None:
        """Draw :attr:`factor`; every call consumes the same number of random numbers."""
        super().randomize(None)
        factor = float(self.R.uniform(*self.factor_range))
        self.factor = factor if self._do_transform else 1.0

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> Tensor:
        check_rgb(image)
        if randomize:
            self.randomize()
        factor = min(self.factor, min(image.shape[1:]) / self.min_size)
        if factor <= 1:
            return plain_tensor(image)
        return degrade(image, lr_size_at(image, factor), "bicubic")


class RandLowerMagnificationd(RandDictTransform):
    """Dictionary version of :class:`RandLowerMagnification`; all keys, which must be RGB images, get the same factor.

    Args:
        keys: images to reduce.
        prob, factor_range, min_size: see :class:`RandLowerMagnification`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> lower = RandLowerMagnificationd("image", prob=1, factor_range=(2, 2), min_size=8)
        >>> lower({"image": np.zeros((3, 40, 30), np.uint8)})["image"].shape
        torch.Size([3, 20, 15])
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.25,
        factor_range: tuple[float, float] = (1.0, 2.0),
        min_size: int = 128,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = RandLowerMagnification(prob, factor_range, min_size)


RandLowerMagnificationD = RandLowerMagnificationDict = RandLowerMagnificationd
