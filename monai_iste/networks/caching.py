"""Caches with a limit in bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn


class ByteCache:
    """Least-recently-used cache of at most ``limit`` bytes.

    A value that exceeds the limit alone is not kept. Safe to use from several threads.

    Args:
        limit: bytes of all values.
        size_of: bytes of a value.

    Example:
        >>> cache = ByteCache(10, len)
        >>> for key in ("a", "b", "c"):
        ...     cache.put(key, b"1234")
        >>> cache.get("a"), cache.get("c"), cache.nbytes
        (None, b'1234', 8)
    """

    def __init__(self, limit: int, size_of: Callable[[Any], int]) -> None:
        self.limit, self.size_of = limit, size_of
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()
        self._nbytes = 0

    def __reduce__(self) -> tuple[type[ByteCache], tuple[int, Callable[[Any], int]]]:
        return ByteCache, (self.limit, self.size_of)  # copies for other processes are empty

    @property
    def nbytes(self) -> int:
        """Bytes of all values that are kept."""
        return self._nbytes

    def get(self, key: Hashable) -> Any:
        """Return the value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value; an earlier one under the same key is replaced."""
        nbytes = self.size_of(value)
        with self._lock:
            if key in self._values:
                self._nbytes -= self.size_of(self._values.pop(key))
            if nbytes > self.limit:
                return
            self._values[key] = value
            self._nbytes += nbytes
            while self._nbytes > self.limit:
                self._nbytes -= self.size_of(self._values.popitem(last=False)[1])


class CachingEncoder(nn.Module):
    """Encoder that caches the feature maps of its latest inputs.

    At every zoom the same windows are decoded at another scale: their features stay the same. An input is recognized by
    its bytes, so that the cache never has to be invalidated.

    Args:
        encoder: image -> feature map, in evaluation mode.
        limit: bytes of the feature maps that are kept.
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
        self.cache = ByteCache(limit, lambda features: features.numel() * features.element_size())

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.detach().cpu().contiguous().numpy()
        precision = torch.is_autocast_enabled(image.device.type)
        key = tuple(image.shape), precision, hashlib.blake2b(pixels.tobytes(), digest_size=20).digest()
        features: Tensor | None = self.cache.get(key)
        if features is None:
            features = self.encoder(image)
            self.cache.put(key, features)
        return features
