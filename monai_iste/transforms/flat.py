"""Crops of one colour: what is flat must stay flat."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from monai_iste.transforms.loading import BACKENDS, check_rgb

__all__ = ["RandMeanColour", "RandMeanColourD", "RandMeanColourDict", "RandMeanColourd"]


class RandMeanColour(RandomizableTransform):
    """At times, an image's mean colour in place of every pixel.

    Tissue hardly ever shows a network a flat colour, and what it never saw it tints: with some crops of one colour
    bare glass and lumina stay what they are at every scale. Paper silent.

    Args:
        prob: how often.
    Shape:
        (3, H, W) -> (3, H, W)
    Units: uint8, 0 to 255; the mean is rounded.
    Raises:
        ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> image = np.array([0, 10], np.uint8).reshape(1, 1, 2).repeat(3, 0)
        >>> RandMeanColour(prob=1)(image).tolist()
        [[[5, 5]], [[5, 5]], [[5, 5]]]
    """

    backend = BACKENDS

    def __init__(self, prob: float = 0.1) -> None:
        super().__init__(prob)

    def __call__(self, image: np.ndarray | Tensor, randomize: bool = True) -> np.ndarray | Tensor:
        check_rgb(image)
        if randomize:
            self.randomize(None)
        if not self._do_transform:
            return image
        mean = np.asarray(image).mean((1, 2)).round().astype(np.uint8)
        flat = np.ascontiguousarray(np.broadcast_to(mean[:, None, None], image.shape))
        return torch.from_numpy(flat) if isinstance(image, Tensor) else flat


class RandMeanColourd(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandMeanColour`: all keys or none of them.

    Args:
        keys: images.
        prob: how often.
        allow_missing_keys: whether absent keys are passed over.

    Example:
        >>> RandMeanColourd("image", prob=0)({"image": np.zeros((3, 1, 2), np.uint8)})["image"].shape
        (3, 1, 2)
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, prob: float = 0.1, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.flatten = RandMeanColour(1.0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(d):
                d[key] = self.flatten(d[key])
        return d


RandMeanColourD = RandMeanColourDict = RandMeanColourd
