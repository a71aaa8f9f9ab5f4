"""Super-resolution as a step of a MONAI pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils.enums import TraceKeys
from torch import Tensor, nn

from monai_iste.errors import ShapeError
from monai_iste.functional import upscale
from monai_iste.networks.metadata import plain_image, with_metadata, without_pending
from monai_iste.transforms.io import BACKENDS, plain_tensor


class Resampling(InvertibleTransform):
    """Base class of the transforms that change the size of an image.

    The inverse interpolates back to the size before, as MONAI's Resize does, so that the inverses of earlier transforms
    find their pixels. It needs a MetaTensor, which keeps the transforms that were applied to it.
    """

    backend = BACKENDS

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
        options, channels, dtype = before[TraceKeys.EXTRA_INFO], data.shape[0], data.dtype
        smooth = options["mode"] == "bilinear"
        plain = plain_image(data).float().unsqueeze(0)
        how = {"align_corners": False, "antialias": True} if smooth else {}
        small = F.interpolate(plain, before[TraceKeys.ORIG_SIZE], mode=options["mode"], **how)[0]
        if not dtype.is_floating_point:
            small = small.round()
        return with_metadata(small.to(dtype).view(channels, *before[TraceKeys.ORIG_SIZE]), data)


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
        if image.ndim != 3:
            raise ShapeError("an image of shape (3, H, W)", str(tuple(image.shape)), "Put the channels first.")
        if isinstance(image, Tensor):
            image = without_pending(image)
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
