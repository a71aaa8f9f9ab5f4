"""What the dictionary versions of random transforms share: all keys change alike."""

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
    """A random transform of one image, ``self.transform``, on every key; it draws once for all of them."""

    backend = BACKENDS
    transform: Any  # called with an image, and whether to draw

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
    """The image as it was goes to the label's key, as a plain uint8 tensor; what was made of it takes its place.

    Args:
        keys: images; each is replaced by its degradation.
        label_key: where the image as it was goes, one per key.
        allow_missing_keys: whether absent keys are passed over.
    Raises:
        ConfigError: not as many ``label_key`` as ``keys``.
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
        """The items after ``degradation(image, first)``; ``first`` is true for the first key alone."""
        d, first = dict(data), True
        for key, label_key in self.key_iterator(d, self.label_keys):
            d[label_key] = plain_tensor(d[key])
            d[key] = degradation(d[label_key], first)
            first = False
        return d


class RandDegradationDictTransform(Randomizable, DegradationDictTransform):
    """The same for a random one, ``self.degradation``, which draws once for all keys."""

    degradation: Any  # a random transform of one image

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        super().set_random_state(seed, state)
        self.degradation.set_random_state(seed, state)
        return self
