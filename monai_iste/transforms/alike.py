"""What the dictionary versions of random transforms share: all keys change alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
from monai.transforms import MapTransform, Randomizable

from monai_iste.transforms.loading import BACKENDS

__all__ = ["RandAlike"]


class RandAlike(Randomizable, MapTransform):
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
