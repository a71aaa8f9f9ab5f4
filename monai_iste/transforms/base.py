"""Base classes of the dictionary transforms: one random draw is shared by all keys."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Self

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.io import BACKENDS, plain_tensor


class RandDictTransform(Randomizable, MapTransform):
    """Apply the random image transform ``self.transform`` to every key; it draws once, for the first key present."""

    backend = BACKENDS
    transform: Any  # called as transform(image, randomize)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        randomize = True
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], randomize)
            randomize = False
        return d


class DegradationDictTransform(MapTransform):
    """Copy each image to its label key as a plain uint8 tensor, and replace the image by its degradation.

    Args:
        keys: images to degrade.
        label_key: keys that receive the original images, one per image.
        allow_missing_keys: skip absent keys instead of raising.
    Raises:
        ConfigError: ``keys`` and ``label_key`` differ in number.
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, label_key: KeysCollection, allow_missing_keys: bool) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys = ensure_tuple(label_key)
        if len(self.label_keys) != len(self.keys):
            raise ConfigError("one label_key per key", f"{self.label_keys} for {self.keys}", "Name as many of each.")

    def degraded(
        self, data: Mapping[Hashable, Any], degradation: Callable[[Tensor, bool], Tensor]
    ) -> dict[Hashable, Any]:
        """Return the items after ``degradation(image, first)``; ``first`` is true for the first key only."""
        d, first = dict(data), True
        for key, label_key in self.key_iterator(d, self.label_keys):
            d[label_key] = plain_tensor(d[key])
            d[key] = degradation(d[label_key], first)
            first = False
        return d


class RandDegradationDictTransform(Randomizable, DegradationDictTransform):
    """Base class of random degradations; ``self.degradation`` draws once for all keys."""

    degradation: Any  # a random transform of one image

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        super().set_random_state(seed, state)
        self.degradation.set_random_state(seed, state)
        return self
