"""Encoder that remembers: at every zoom the same windows are decoded at another scale."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from monai_iste.io.byte_cache import ByteCache


class CachingEncoder(nn.Module):
    """Encoder that caches the feature maps of its latest inputs.

    At every zoom the same windows are decoded at another scale: their features stay the same. An input is recognized by
    its bytes, so that the cache never has to be invalidated.

    Args:
        encoder: image -> feature map, in evaluation mode.
        limit: bytes of the feature maps that are kept. :attr:`cache` may be replaced by one that others use too.
    Shape:
        as the encoder's.

    Example:
        >>> calls = []
        >>> class Count(nn.Module):
        ...     out_channels = 3
        ...     def forward(self, image):
        ...         calls.append(1)
        ...         return image * 2
        >>> encoder = CachingEncoder(Count(), 10_000)
        >>> one = torch.ones(1, 3, 8, 8)
        >>> torch.equal(encoder(one), encoder(one.clone())), len(calls)
        (True, 1)
    """

    def __init__(self, encoder: nn.Module, limit: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = encoder.out_channels
        self.takes_input_blur = bool(getattr(encoder, "takes_input_blur", False))
        self.cache = ByteCache(limit)

    def forward(self, image: Tensor, *input_blur: Tensor) -> Tensor:
        digest = hashlib.blake2b(digest_size=20)
        for tensor in (image, *input_blur):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        key = "features", tuple(image.shape), torch.is_autocast_enabled(image.device.type), digest.digest()
        features: Tensor | None = self.cache.get(key)
        if features is None:
            features = self.encoder(image, *input_blur)
            self.cache.put(key, features)
        return features
