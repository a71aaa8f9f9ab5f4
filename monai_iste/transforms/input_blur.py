"""Training with the blur of the images, told and untold."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from monai_iste.errors import ConfigError
from monai_iste.transforms.io import BACKENDS


class RandHideBlurd(RandomizableTransform, MapTransform):
    """Replace the blur of an image by NaN with a probability, so that the network learns to work without it.

    Numbers, arrays and tensors stay of their kind.

    Args:
        keys: entries that hold a blur; all are hidden together.
        prob: probability of an image whose blur is not told.
        allow_missing_keys: skip absent keys instead of raising.
    Raises:
        ConfigError: the probability is not in [0, 1].

    Example:
        >>> RandHideBlurd(prob=1.0)({"input_blur": 0.3}), RandHideBlurd(prob=0.0)({"input_blur": 0.3})
        ({'input_blur': nan}, {'input_blur': 0.3})
    """

    backend = BACKENDS

    def __init__(
        self, keys: KeysCollection = "input_blur", prob: float = 0.5, allow_missing_keys: bool = False
    ) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError("a probability in [0, 1]", f"{prob:g}", "0 is never, 1 is always.")
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        d = dict(data)
        if self._do_transform:
            d.update((key, _unknown(d[key])) for key in self.key_iterator(d))
        return d


def _unknown(blur: Any) -> Any:
    """Return NaN of the kind of a blur: a batch is collated from numbers, or from arrays, or from tensors."""
    return blur * math.nan if isinstance(blur, (Tensor, np.ndarray)) else math.nan


RandHideBlurD = RandHideBlurDict = RandHideBlurd
