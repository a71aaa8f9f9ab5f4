"""Crops of one colour: what is flat must stay flat."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from torch import Tensor

from monai_iste.transforms.loading import BACKENDS, check_rgb

__all__ = ["RandOneColour", "RandOneColourD", "RandOneColourDict", "RandOneColourd"]


class RandOneColour(RandomizableTransform):
    """At times, the colour of one of an image's pixels in place of every pixel.

    Tissue hardly ever shows a network a flat colour, and what it never saw it tints: with some crops of one colour
    bare glass and lumina stay what they are at every scale. Paper silent.

    Args:
        prob: how often.
    Shape:
        (3, H, W) -> (3, H, W)
    Units: uint8, 0 to 255.
    Raises:
        ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
        >>> bool((RandOneColour(prob=1)(image).std((1, 2)) == 0).all())
        True
    """

    backend = BACKENDS

    def __init__(self, prob: float = 0.1) -> None:
        super().__init__(prob)
        self.pixel = (0, 0)

    def randomize(self, data: np.ndarray | Tensor) -> None:
        """Draw whether the next image is flat, and the pixel whose colour it takes, :attr:`pixel`."""
        check_rgb(data)
        super().randomize(None)
        self.pixel = (self.R.randint(data.shape[1]), self.R.randint(data.shape[2]))

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> np.ndarray | Tensor:
        if randomize:
            self.randomize(image)
        if not self._do_transform:
            return image
        colour = image[:, self.pixel[0], self.pixel[1]].reshape(3, 1, 1)
        _, height, width = image.shape
        return colour.repeat(1, height, width) if isinstance(colour, Tensor) else np.tile(colour, (1, height, width))


class RandOneColourd(Randomizable, MapTransform):
    """Dictionary version of :class:`RandOneColour`: all keys or none of them, at the same pixel.

    Args:
        keys: images of one size.
        prob: how often.
        allow_missing_keys: whether absent keys are passed over.

    Example:
        >>> RandOneColourd("image", prob=0)({"image": np.zeros((3, 1, 2), np.uint8)})["image"].shape
        (3, 1, 2)
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, prob: float = 0.1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.flatten = RandOneColour(prob)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandOneColourd:
        super().set_random_state(seed, state)
        self.flatten.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        randomize = True
        for key in self.key_iterator(d):
            d[key] = self.flatten(d[key], randomize)
            randomize = False
        return d


RandOneColourD = RandOneColourDict = RandOneColourd
