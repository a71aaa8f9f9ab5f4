"""How a low-resolution image is made from a high-resolution one: three named recipes."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Transform
from PIL import Image, ImageFilter
from torch import Tensor

from monai_iste.errors import ConfigError, ScaleError
from monai_iste.transforms.base import DegradationDictTransform
from monai_iste.transforms.io import BACKENDS, check_rgb, plain_tensor

Recipe = Callable[[Image.Image, tuple[int, int], float], Image.Image]


def _blur_bicubic(image: Image.Image, size: tuple[int, int], scale: float) -> Image.Image:
    """Gaussian blur of sigma (m - 1) / 2 high-resolution pixels, then bicubic: optics first, sampling second."""
    return image.filter(ImageFilter.GaussianBlur((scale - 1) / 2)).resize(size, Image.Resampling.BICUBIC)


def _bicubic(image: Image.Image, size: tuple[int, int], scale: float) -> Image.Image:
    """Bicubic alone."""
    return image.resize(size, Image.Resampling.BICUBIC)


def _bicubic_blur(image: Image.Image, size: tuple[int, int], scale: float) -> Image.Image:
    """Bicubic, then Gaussian blur of sigma m / 2 low-resolution pixels."""
    return image.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(scale / 2))


#: Recipes by name; each takes (Pillow image, (w, h), scale m).
#:
#: ``blur_bicubic``: the default; what a scanner does and what the authors' released code does.
#: ``bicubic``: the degradation of the HistoSR data set.
#: ``bicubic_blur``: as the paper's text prints it ("1/2 of m", after the resize); its unit is read as pixels of the
#: low-resolution image.
DEGRADATIONS: Mapping[str, Recipe] = MappingProxyType(
    {"blur_bicubic": _blur_bicubic, "bicubic": _bicubic, "bicubic_blur": _bicubic_blur}
)


def degrade(image: np.ndarray | Tensor, lr_size: tuple[int, int], preset: str = "blur_bicubic") -> Tensor:
    """Reduce an image to ``lr_size`` by one of the recipes :data:`DEGRADATIONS`.

    Pillow does the work and is part of the recipe: its bicubic filter widens with the scale (antialiasing), and its
    Gaussian is an approximation by three box blurs. The blur's m is the effective scale, the mean of H / h and W / w.

    Implements the degradation of Sec. IV of Duan et al., arXiv:2401.15613.
    Differs from the paper: see :data:`DEGRADATIONS`; the text leaves order and unit of the blur open.

    Args:
        lr_size: size (h, w) to reduce to.
        preset: a key of :data:`DEGRADATIONS`.
    Shape:
        image: (3, H, W); returns (3, h, w).
    Units: uint8, 0 to 255, in and out.
    Raises:
        ShapeError: the image is not uint8 of (3, H, W). ScaleError: ``lr_size`` is empty or larger than the image.
        ConfigError: there is no such preset.

    Example:
        >>> degrade(np.full((3, 9, 6), 200, np.uint8), (3, 2)).unique().tolist()
        [200]
    """
    recipe = _recipe(preset)
    pixels, scale = checked(image, lr_size)
    return pixels_of(recipe(picture_of(pixels), lr_size[::-1], scale))


def checked(image: np.ndarray | Tensor, lr_size: tuple[int, int]) -> tuple[Tensor, float]:
    """The image as a plain tensor and the effective scale m, if it can be reduced to ``lr_size``.

    Raises:
        ShapeError: the image is not uint8 of (3, H, W). ScaleError: ``lr_size`` is empty or larger than the image.
    """
    check_rgb(image)
    (height, width), (h, w) = image.shape[1:], lr_size
    if not (1 <= h <= height and 1 <= w <= width):
        raise ScaleError(
            f"a low-resolution size between 1 x 1 and {width} x {height}", f"{w} x {h}", "Degrade by a scale >= 1."
        )
    return plain_tensor(image), (height / h + width / w) / 2


def lr_size_at(image: np.ndarray | Tensor, scale: float) -> tuple[int, int]:
    """The size ``round(H / scale)``, ``round(W / scale)`` of an image's reduction, at least 1 x 1.

    Raises:
        ScaleError: the scale is not a finite number of at least 1.
    """
    if not (math.isfinite(scale) and scale >= 1):
        raise ScaleError("a finite scale of at least 1", repr(scale), "Give a magnification such as 2 or 3.7.")
    h, w = (max(1, round(n / scale)) for n in image.shape[-2:])
    return h, w


def picture_of(pixels: Tensor) -> Image.Image:
    """(3, H, W), uint8, for Pillow."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def pixels_of(picture: Image.Image) -> Tensor:
    """A Pillow image as (3, H, W), uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _recipe(preset: str) -> Recipe:
    if preset not in DEGRADATIONS:
        raise ConfigError(f"a degradation preset: {', '.join(DEGRADATIONS)}", repr(preset), "Choose one of these.")
    return DEGRADATIONS[preset]


class BlurDegradation(Transform):
    """Reduce an image by a scale: :func:`degrade` to ``round(H / scale)`` x ``round(W / scale)`` pixels.

    Args:
        preset: a key of :data:`DEGRADATIONS`.
    Shape:
        (3, H, W) -> (3, h, w)
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: there is no such preset. ScaleError: the scale is not a finite number of at least 1.
        ShapeError: the image is not uint8 of (3, H, W).

    Example:
        >>> BlurDegradation()(np.zeros((3, 100, 63), np.uint8), 3.7).shape
        torch.Size([3, 27, 17])
    """

    backend = BACKENDS

    def __init__(self, preset: str = "blur_bicubic") -> None:
        _recipe(preset)
        self.preset = preset

    def __call__(self, image: np.ndarray | Tensor, scale: float) -> Tensor:  # type: ignore[override]
        return degrade(image, lr_size_at(image, scale), self.preset)


class BlurDegradationd(DegradationDictTransform):
    """Dictionary version of :class:`BlurDegradation`: the image becomes the label, its reduction the image.

    Both are plain uint8 tensors afterwards.

    Args:
        keys: images; each is replaced by its reduction.
        label_key: where the full-resolution image goes, one per key.
        scale_key: where the scale is found.
        preset: a key of :data:`DEGRADATIONS`.
        allow_missing_keys: whether absent keys are passed over.

    Example:
        >>> data = BlurDegradationd()({"image": np.zeros((3, 96, 96), np.uint8), "scale": 2.0})
        >>> data["image"].shape, data["label"].shape
        (torch.Size([3, 48, 48]), torch.Size([3, 96, 96]))
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        label_key: KeysCollection = "label",
        scale_key: str = "scale",
        preset: str = "blur_bicubic",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, label_key, allow_missing_keys)
        self.scale_key = scale_key
        self.degradation = BlurDegradation(preset)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return self.degraded(data, lambda image, first: self.degradation(image, float(data[self.scale_key])))


BlurDegradationD = BlurDegradationDict = BlurDegradationd
