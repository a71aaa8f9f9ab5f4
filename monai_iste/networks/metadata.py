"""Metadata of MONAI's images (MetaTensor) across a change of their size."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def plain_image(image: Tensor) -> Tensor:
    """Return an image without metadata, after the transforms that are pending on it (MONAI's lazy ones).

    Shape: any
    """
    return image if type(image) is Tensor else _without_pending(image, plain=True)


def without_pending(image: Tensor) -> Tensor:
    """Return an image with the transforms applied that are pending on it; its metadata stay."""
    return image if type(image) is Tensor else _without_pending(image, plain=False)


def _without_pending(image: Any, plain: bool) -> Tensor:
    from monai.data import MetaTensor
    from monai.transforms.lazy.functional import apply_pending

    if not isinstance(image, MetaTensor):
        return cast(Tensor, image)
    if image.has_pending_operations:
        image = apply_pending(image.clone())[0]  # it changes its argument
    return cast(Tensor, image.as_tensor() if plain else image)


def with_metadata(result: Tensor, image: Tensor) -> Tensor:
    """Return an upscaled image with the metadata of its source, and the affine of the new pixel size.

    Args:
        result: (C, H, W), or a batch; covers the same area as ``image``.
        image: (C, h, w), or a batch, with metadata or without.
    Returns:
        a MetaTensor for a MetaTensor, else ``result``. Colors at coordinates, (B, Q, 3), stay plain.
    """
    if type(image) is Tensor or result.ndim != image.ndim:
        return result
    from monai.data import MetaTensor
    from monai.data.utils import to_affine_nd
    from monai.transforms.utils import scale_affine

    if not isinstance(image, MetaTensor):
        return result
    source: Any = without_pending(image)
    zoom = to_affine_nd(source.affine.shape[-1] - 1, scale_affine(source.shape[-2:], result.shape[-2:]))
    affine = source.affine @ torch.as_tensor(zoom, dtype=source.affine.dtype, device=source.affine.device)
    scaled = MetaTensor(
        result, affine, {k: v for k, v in source.meta.items() if k != "affine"}, source.applied_operations
    )
    scaled.is_batch = source.is_batch
    return cast(Tensor, scaled)
