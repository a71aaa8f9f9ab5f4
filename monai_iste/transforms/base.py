"""Base classes of transforms: one random draw shared by all keys, and changes of size that can be inverted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Self

import numpy as np
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Randomizable
from monai.utils import ensure_tuple
from monai.utils.enums import TraceKeys
from torch import Tensor

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.networks.metadata import plain_image, with_metadata, without_pending
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

    The blur of the degraded images is stored in ``data["input_blur"]``, in their pixels, a float.

    Args:
        keys: images to degrade.
        label_key: keys that receive the original images, one per image.
        allow_missing_keys: skip absent keys instead of raising.
    Raises:
        ConfigError: ``keys`` and ``label_key`` differ in number.
    """

    backend = BACKENDS
    degradation: Any  # a transform of one image with the method input_blur(scale)

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
            if first:
                sides = zip(d[label_key].shape[1:], d[key].shape[1:], strict=True)
                d["input_blur"] = float(self.degradation.input_blur(sum(big / small for big, small in sides) / 2))
            first = False
        return d


class RandDegradationDictTransform(Randomizable, DegradationDictTransform):
    """Base class of random degradations; ``self.degradation`` draws once for all keys."""

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        super().set_random_state(seed, state)
        self.degradation.set_random_state(seed, state)
        return self


class Resampling(InvertibleTransform):
    """Base class of the transforms that change the size of an image.

    The inverse interpolates back to the size before, as MONAI's Resize does, so that the inverses of earlier transforms
    find their pixels. It needs a MetaTensor, which keeps the transforms that were applied to it.
    """

    backend = BACKENDS

    def checked(self, image: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Check the number of axes, and apply pending transforms."""
        if image.ndim != 3:
            raise ShapeError("an image of shape (3, H, W)", str(tuple(image.shape)), "Put the channels first.")
        return without_pending(image) if isinstance(image, Tensor) else image

    def resampled(self, image: np.ndarray | Tensor, result: Tensor) -> np.ndarray | Tensor:
        """Convert a resampled ``result`` to the type of ``image``: array, tensor, or MetaTensor with its metadata.

        Shape:
            image: (C, h, w); result: (C, H, W), covering the same area.
        """
        if not isinstance(image, Tensor):
            return result.numpy()
        result = with_metadata(result, image)
        options = {"mode": "bilinear", "align_corners": False}  # the names that Invertd changes for labels
        return self.push_transform(result, orig_size=tuple(image.shape[1:]), extra_info=options)

    def inverse(self, data: Tensor) -> Tensor:
        """Interpolate an image of the result's size back to the size before, with antialiasing."""
        if not isinstance(data, MetaTensor):
            remedy = "Apply and invert the transform on a MetaTensor, as MONAI's EnsureType makes them."
            raise ShapeError("an image that knows the transforms applied to it", type(data).__name__, remedy)
        before = self.pop_transform(data)
        options, dtype = before[TraceKeys.EXTRA_INFO], data.dtype
        smooth = options["mode"] == "bilinear"
        plain = plain_image(data).float().unsqueeze(0)
        how = {"align_corners": False, "antialias": True} if smooth else {}
        small = F.interpolate(plain, before[TraceKeys.ORIG_SIZE], mode=options["mode"], **how)[0]
        if not dtype.is_floating_point:
            small = small.round()
        return with_metadata(small.to(dtype), data)


class ResamplingDict(MapTransform, InvertibleTransform):
    """Base class of the dictionary versions: ``self.transform`` is applied to every key, and inverted."""

    backend = BACKENDS
    transform: Any

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform.inverse(d[key])
        return d
