"""Degradation of a high-resolution image to a low-resolution one by one of three named recipes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Transform
from PIL import Image, ImageFilter
from torch import Tensor

from monai_iste.errors import ScaleError, check_choice
from monai_iste.transforms.base import DegradationDictTransform
from monai_iste.transforms.io import BACKENDS, check_rgb, check_scale, plain_tensor

Recipe = Callable[[Image.Image, tuple[int, int], float], Image.Image]


def _blur_bicubic(image: Image.Image, size: tuple[int, int], scale: float) -> Image.Image:
    """Blur with a Gaussian of sigma (m - 1) / 2 high-resolution pixels (optics), then resize (sampling)."""
    return image.filter(ImageFilter.GaussianBlur((scale - 1) / 2)).resize(size, Image.Resampling.BICUBIC)


def _bicubic(image: Image.Image, size: tuple[int, int], scale: float) -> Image.Image:
    """Resize without blur."""
    return image.resize(size, Image.Resampling.BICUBIC)


def _bicubic_blur(image: Image.Image, size: tuple[int, int], scale: float) -> Image.Image:
    """Resize, then blur with a Gaussian of sigma m / 2 low-resolution pixels."""
    return image.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(scale / 2))


#: Recipes by name; each is called with (Pillow image, (w, h), scale m).
#:
#: ``blur_bicubic``: the default. A scanner blurs before it samples, and the authors' released code does the same.
#: ``bicubic``: the degradation of the HistoSR data set.
#: ``bicubic_blur``: the order that the paper's text prints, with a blur of "1/2 of m" after the resize. Its unit is
#: taken as pixels of the low-resolution image.
DEGRADATIONS: Mapping[str, Recipe] = MappingProxyType(
    {"blur_bicubic": _blur_bicubic, "bicubic": _bicubic, "bicubic_blur": _bicubic_blur}
)

#: Blur of the result of each recipe at scale m, as the sigma of a Gaussian in low-resolution pixels.
INPUT_BLURS: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "blur_bicubic": lambda scale: blur_in_lr_pixels(1, scale),
        "bicubic": lambda scale: 0.0,
        "bicubic_blur": lambda scale: scale / 2,
    }
)


def blur_in_lr_pixels(blur: float, scale: float) -> float:
    """Convert a blur in units of (m - 1) / 2 high-resolution pixels to low-resolution pixels: blur (m - 1) / (2 m).

    Example:
        >>> blur_in_lr_pixels(1, 2.0)
        0.25
    """
    return blur * (scale - 1) / (2 * scale)


def degrade(image: np.ndarray | Tensor, lr_size: tuple[int, int], preset: str = "blur_bicubic") -> Tensor:
    """Reduce an image to ``lr_size`` by one of the recipes in :data:`DEGRADATIONS`.

    Pillow's filters are part of the recipe: its bicubic filter widens with the scale (antialiasing), and its Gaussian
    is approximated by three box blurs. The m of the blur is the effective scale, the mean of H / h and W / w.

    Implements the degradation of Sec. IV of Duan et al., arXiv:2401.15613.
    Differs from the paper: see :data:`DEGRADATIONS`; the text does not specify the order and the unit of the blur.

    Args:
        lr_size: size (h, w) to reduce to.
        preset: a key of :data:`DEGRADATIONS`.
    Shape:
        image: (3, H, W); returns (3, h, w).
    Units: uint8, 0 to 255, in and out.
    Raises:
        ShapeError: the image is not uint8 of shape (3, H, W).
        ScaleError: ``lr_size`` is empty or larger than the image.
        ConfigError: the preset is unknown.

    Example:
        >>> degrade(np.full((3, 9, 6), 200, np.uint8), (3, 2)).unique().tolist()
        [200]
    """
    check_choice("a degradation preset", preset, DEGRADATIONS)
    pixels, scale = check_reduction(image, lr_size)
    return from_pillow(DEGRADATIONS[preset](to_pillow(pixels), lr_size[::-1], scale))


def check_reduction(image: np.ndarray | Tensor, lr_size: tuple[int, int]) -> tuple[Tensor, float]:
    """Check that ``image`` can be reduced to ``lr_size``; return it as a plain tensor, and the effective scale m.

    Raises:
        ShapeError: the image is not uint8 of shape (3, H, W).
        ScaleError: ``lr_size`` is empty or larger than the image.
    """
    check_rgb(image)
    (height, width), (h, w) = image.shape[1:], lr_size
    if not (1 <= h <= height and 1 <= w <= width):
        raise ScaleError(
            f"a low-resolution size between 1 x 1 and {width} x {height}", f"{w} x {h}", "Degrade by a scale >= 1."
        )
    return plain_tensor(image), (height / h + width / w) / 2


def lr_size_at(image: np.ndarray | Tensor, scale: float) -> tuple[int, int]:
    """Compute the size (``round(H / scale)``, ``round(W / scale)``) of a reduced image, at least 1 x 1.

    Raises:
        ScaleError: the scale is not a finite number of at least 1.
    """
    check_scale(scale)
    h, w = (max(1, round(n / scale)) for n in image.shape[-2:])
    return h, w


def to_pillow(pixels: Tensor) -> Image.Image:
    """Convert a uint8 tensor of shape (3, H, W) to a Pillow image."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def from_pillow(image: Image.Image) -> Tensor:
    """Convert a Pillow RGB image to a uint8 tensor of shape (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class BlurDegradation(Transform):
    """Reduce an image by a scale, with :func:`degrade`, to ``round(H / scale)`` x ``round(W / scale)`` pixels.

    Args:
        preset: a key of :data:`DEGRADATIONS`.
    Shape:
        (3, H, W) -> (3, h, w)
    Units: uint8, 0 to 255, in and out.
    Raises:
        ConfigError: the preset is unknown.
        ScaleError: the scale is not a finite number of at least 1.
        ShapeError: the image is not uint8 of shape (3, H, W).

    Example:
        >>> BlurDegradation()(np.zeros((3, 100, 63), np.uint8), 3.7).shape
        torch.Size([3, 27, 17])
    """

    backend = BACKENDS

    def __init__(self, preset: str = "blur_bicubic") -> None:
        check_choice("a degradation preset", preset, DEGRADATIONS)
        self.preset = preset

    def __call__(self, image: np.ndarray | Tensor, scale: float) -> Tensor:  # type: ignore[override]
        return degrade(image, lr_size_at(image, scale), self.preset)

    def input_blur(self, scale: float) -> float:
        """Compute the blur of an image that is reduced by ``scale``, in low-resolution pixels."""
        return INPUT_BLURS[self.preset](scale)


class BlurDegradationd(DegradationDictTransform):
    """Dictionary version of :class:`BlurDegradation`: the image becomes the label, its reduction becomes the image.

    Both are plain uint8 tensors afterwards. ``data["input_blur"]`` is the blur of the reduction in its pixels.

    Args:
        keys: images; each is replaced by its reduction.
        label_key: keys that receive the full-resolution images, one per image.
        scale_key: key of the scale.
        preset: a key of :data:`DEGRADATIONS`.
        allow_missing_keys: skip absent keys instead of raising.

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
