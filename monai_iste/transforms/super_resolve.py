"""Super-resolution as a step of a MONAI pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_iste.functional import upscale
from monai_iste.transforms.base import Resampling, ResamplingDict
from monai_iste.transforms.io import plain_tensor


class SuperResolve(Resampling):
    """Super-resolve a channel-first RGB image with :func:`monai_iste.upscale`.

    The affine of a MetaTensor is updated to the new pixel size. The inverse interpolates back to the size before.

    Args:
        scale: upscaling factor, at least 1.
        size: exact output size (H, W), instead of ``scale``.
        model: a network, or the name of a preset with released weights (default: ``iste_light2``).
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
        image = self.checked(image)
        return self.resampled(image, upscale(plain_tensor(image), **self.options))


class SuperResolved(ResamplingDict):
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


SuperResolveD = SuperResolveDict = SuperResolved
