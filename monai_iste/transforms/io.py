"""Loading of 8-bit RGB images."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor

from monai_iste.errors import ScaleError, ShapeError
from monai_iste.io.image_reader import read_rgb
from monai_iste.networks.metadata import plain_image

#: Every transform of this package accepts NumPy arrays and tensors.
BACKENDS = [TransformBackends.NUMPY, TransformBackends.TORCH]


def check_rgb(image: np.ndarray | Tensor) -> None:
    """Raise ShapeError unless ``image`` is an 8-bit RGB image of shape (3, H, W).

    Raises:
        ShapeError: the shape or the type differs; both are named.
    """
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape or image.dtype not in (np.uint8, torch.uint8):
        lazy = isinstance(image, Tensor) and image.is_floating_point()
        raise ShapeError(
            "an image of shape (3, H, W) and type uint8",
            f"{tuple(image.shape)} of {image.dtype}",
            "Put the channels first and keep 0 to 255."
            + (" Compose(lazy=True) makes 8-bit images float: leave lazy out." if lazy else ""),
        )


def check_scale(scale: float) -> float:
    """Return a scale that an image can be reduced by.

    Raises:
        ScaleError: the scale is not a finite number of at least 1.

    Example:
        >>> check_scale(3.7)
        3.7
    """
    if not (math.isfinite(scale) and scale >= 1):
        raise ScaleError("a finite scale of at least 1", repr(scale), "Give a scale such as 2 or 3.7.")
    return scale


def plain_tensor(image: np.ndarray | Tensor) -> Tensor:
    """Convert to a plain, contiguous tensor, without copying if possible; metadata of a MetaTensor is dropped.

    Transforms that are pending on a MetaTensor are applied.

    Shape: any
    """
    if isinstance(image, Tensor):
        return plain_image(image).contiguous()
    # torch accepts neither negative strides nor read-only memory: np.require copies such arrays.
    return torch.from_numpy(np.require(image, None, ["C", "W"]))


class LoadRGB(Transform):
    """Read an image file as 8-bit RGB (:func:`monai_iste.io.image_reader.read_rgb`).

    An image in memory is checked and returned as it is. The name leaves MONAI's LoadImage available.

    Shape:
        returns (3, H, W), uint8.
    Raises:
        DataError: the file is not a usable RGB image.
        ShapeError: an image in memory is not uint8 of shape (3, H, W).

    Example:
        >>> LoadRGB()(np.zeros((3, 5, 4), np.uint8)).shape
        (3, 5, 4)
    """

    backend = BACKENDS

    def __call__(self, image: str | os.PathLike[str] | np.ndarray | Tensor) -> np.ndarray | Tensor:
        if isinstance(image, (str, os.PathLike)):
            return read_rgb(image)
        check_rgb(image)
        return image


class LoadRGBd(MapTransform):
    """Dictionary version of :class:`LoadRGB`.

    Args:
        keys: entries to load.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> LoadRGBd("image")({"image": np.zeros((3, 5, 4), np.uint8)})["image"].shape
        (3, 5, 4)
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.loader = LoadRGB()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.loader(d[key])
        return d


LoadRGBD = LoadRGBDict = LoadRGBd
