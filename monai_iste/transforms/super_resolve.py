"""Super-resolution as a step of a MONAI pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform, Transform
from monai.transforms.utils import scale_affine
from torch import Tensor, nn

from monai_iste.errors import ShapeError
from monai_iste.functional import upscale
from monai_iste.transforms.io import BACKENDS, plain_tensor


class SuperResolve(Transform):
    """Super-resolve a channel-first RGB image with :func:`monai_iste.upscale`.

    The affine of a MetaTensor is updated to the new pixel size.

    Args:
        scale: upscaling factor, at least 1.
        size: exact output size (H, W), instead of ``scale``.
        model: a network, or the name of a preset with released weights (default: ``iste_light``).
        device: device of the computation; default: the device of the network, or for a preset the GPU if there is one.
            The result is on the device of the image.
        precision: ``"fp32"`` or ``"bf16"``.
    Shape:
        (3, h, w) -> (3, H, W), an array for an array and a tensor for a tensor.
    Units: uint8 from 0 to 255, or floating point in [0, 1]; the result is clamped to the same range.
    Raises:
        ScaleError: the scale is below 1 or not finite, or the result is too large.
        ShapeError: the image is not RGB, channel first.
        ConfigError: the preset, weights, device or precision does not exist.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> SuperResolve(1.5, model=network)(np.zeros((3, 10, 20), np.uint8)).shape
        (3, 15, 30)
    """

    backend = BACKENDS

    def __init__(
        self,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        model: nn.Module | str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
    ) -> None:
        self.options: dict[str, Any] = {
            "scale": scale, "size": size, "model": model, "device": device, "precision": precision,
        }  # fmt: skip

    def __call__(self, image: np.ndarray | Tensor) -> np.ndarray | Tensor:
        if image.ndim != 3:
            raise ShapeError("an image of shape (3, H, W)", str(tuple(image.shape)), "Put the channels first.")
        result = upscale(plain_tensor(image), **self.options)
        return to_input_type(image, result)


def to_input_type(image: np.ndarray | Tensor, result: Tensor) -> np.ndarray | Tensor:
    """Convert a resampled ``result`` to the type of ``image``: array, tensor, or MetaTensor with a rescaled affine.

    Shape:
        image: (C, h, w); result: (C, H, W), covering the same area.
    """
    if isinstance(image, MetaTensor):
        zoom = to_affine_nd(len(image.affine) - 1, scale_affine(image.shape[1:], result.shape[1:]))
        affine = image.affine @ torch.as_tensor(zoom, dtype=image.affine.dtype, device=image.affine.device)
        meta = {key: value for key, value in image.meta.items() if key != "affine"}
        return MetaTensor(result, affine, meta, image.applied_operations)
    return result if isinstance(image, Tensor) else result.numpy()


class SuperResolved(MapTransform):
    """Dictionary version of :class:`SuperResolve`.

    Args:
        keys: images to super-resolve.
        scale, size, model, device, precision: see :class:`SuperResolve`.
        allow_missing_keys: skip absent keys instead of raising.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> SuperResolved("image", size=(12, 31), model=network)({"image": torch.zeros(3, 10, 20)})["image"].shape
        torch.Size([3, 12, 31])
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        model: nn.Module | str | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = SuperResolve(scale, size, model, device, precision)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


SuperResolveD = SuperResolveDict = SuperResolved
