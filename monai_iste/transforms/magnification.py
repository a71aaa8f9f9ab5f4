"""Training images as a weaker objective would have shown them: what a tile holds is then sharp to its pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.alike import RandAlike
from monai_iste.transforms.degradation import degrade, lr_size_at
from monai_iste.transforms.loading import BACKENDS, check_rgb, plain_tensor

__all__ = [
    "RandLowerMagnification",
    "RandLowerMagnificationD",
    "RandLowerMagnificationDict",
    "RandLowerMagnificationd",
]


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


class RandLowerMagnificationd(RandAlike):
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
