"""Other laboratories' colors: stains stronger or weaker, the lamp brighter or darker."""

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

# Optical density of every 8-bit level. The one that is added keeps black finite and white at exactly nothing.
_DENSITY = -torch.log((torch.arange(256, dtype=torch.float64) + 1) / 256)


def adjust_stains(
    image: np.ndarray | Tensor,
    gain: Sequence[float] | np.ndarray = (1.0, 1.0, 1.0),
    offset: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    brightness: float = 1.0,
) -> Tensor:
    """Change how much hematoxylin, eosin and DAB an image shows, and the light that it is seen in.

    With ``I`` a pixel's levels, ``B`` the stains' densities per channel (rows of scikit-image's ``rgb_from_hed``)::

        D  = -ln((I + 1) / 256)                  optical density (r, g, b); white has none
        c  = D B^-1                              amount of (hematoxylin, eosin, DAB)
        c' = gain * c + offset
        I' = 256 * brightness * exp(-c' B) - 1   rounded, clipped to 0 and 255

    Gains alone leave white white; without any change, every color comes back exactly. An H&E slide has no DAB: that
    part is what the two others do not explain.

    The stains' densities are those of Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 23
    (2001), as scikit-image has them; amounts below 0 are kept, which scikit-image's own ``rgb2hed`` cuts off.

    Args:
        gain: of hematoxylin, eosin, DAB.
        offset: the same, in optical density (natural logarithm); it tints glass too.
        brightness: factor of the light.
    Shape:
        (3, H, W) -> (3, H, W)
    Units: uint8, 0 to 255, in and out.
    Raises:
        ShapeError: the image is not uint8 of (3, H, W).

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
    """Random stains and light: :func:`adjust_stains` with gains U(1 - s, 1 + s), offsets U(-o, o), brightness.

    Paper silent: ours. Sections differ in thickness, stain and lamp from one laboratory to the next far more than a few
    hundred training tiles do. It belongs before the degradation: image and label then agree.

    Args:
        prob: how often anything is changed.
        gain: s, for each of the three stains by itself.
        offset: o in optical density; 0.02 is five levels of 255 on glass.
        brightness: b, the light is multiplied by U(1 - b, 1 + b).
    Shape:
        (3, H, W) -> (3, H, W); what was drawn is :attr:`gains`, :attr:`offsets` and :attr:`light`.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a setting out of range. ShapeError: the image is not uint8 of (3, H, W).

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
        """Draw the next change."""
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
    """Dictionary version of :class:`RandStainJitter`; all keys change alike.

    Args:
        keys: images.
        prob, gain, offset, brightness: see :class:`RandStainJitter`.
        allow_missing_keys: whether absent keys are passed over.

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
    """Encode and decode an image as JPEG (4:2:0) of random quality, its size kept, before it is degraded.

    Label and low-resolution image both come from the compressed one. A network that has only seen lossless truth adds
    color that is not there to slides out of JPEG files, whose color has half the resolution.

    Paper silent: ours.

    Args:
        prob: how often an image is compressed.
        quality: range of the quality, whole numbers, both ends included, uniform. High, since the network learns to
            reproduce what is left.
    Shape:
        (3, H, W) -> (3, H, W); what was drawn is :attr:`scan`. The image begins anywhere in a block.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a setting out of range. ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> jpeg = RandJPEG(prob=1).set_random_state(0)
        >>> jpeg(np.zeros((3, 20, 30), np.uint8)).shape, jpeg.scan.subsampling
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
        self.scan = DegradationSpec(blur=0)

    def randomize(self, data: Any = None) -> None:
        """Draw the next :attr:`scan`; every call draws as many numbers, whatever they decide."""
        super().randomize(None)
        quality = int(self.R.randint(self.quality[0], self.quality[1] + 1))
        down, right = (int(part) for part in self.R.randint(16, size=2))
        self.scan = DegradationSpec(blur=0, quality=quality if self._do_transform else None, phase=(down, right))

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> Tensor:
        check_rgb(image)
        if randomize:
            self.randomize()
        if self.scan.quality is None:
            return plain_tensor(image)
        height, width = image.shape[1:]
        return degrade_with(image, (height, width), self.scan)


class RandJPEGd(RandDictTransform):
    """Dictionary version of :class:`RandJPEG`; one quality for all keys, which must be RGB images.

    Args:
        keys: images.
        prob, quality: see :class:`RandJPEG`.
        allow_missing_keys: whether absent keys are passed over.

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
    """Reduce a whole image by a random factor, before anything is cropped from it: the same tissue, seen at less.

    The tiles of one scanner are all about equally sharp. Reduced ones are sharper to the pixel, as those of other
    scanners are, and their nuclei are smaller. Label and image both come from the reduced one, so the factor is no part
    of the scale that is learned.

    Paper silent: ours. The filter is Pillow's bicubic with antialiasing, :func:`~monai_iste.transforms.degrade` by
    ``bicubic``.

    Args:
        prob: how often an image is reduced.
        factor_range: smallest and largest factor, uniform.
        min_size: pixels that the shorter side keeps, which bounds the factor: what the crop after it needs. An image
            that has fewer stays as it is.
    Shape:
        (3, H, W) -> (3, round(H / f), round(W / f)), f the :attr:`factor` drawn, or what
        ``min_size`` leaves of it.
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: a setting out of range. ShapeError: the image is not uint8 of (3, H, W).

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
        """Draw the next :attr:`factor`; every call draws as many numbers, whatever they decide."""
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
    """Dictionary version of :class:`RandLowerMagnification`; one factor for all keys, which must be RGB images.

    Args:
        keys: images.
        prob, factor_range, min_size: see :class:`RandLowerMagnification`.
        allow_missing_keys: whether absent keys are passed over.

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
