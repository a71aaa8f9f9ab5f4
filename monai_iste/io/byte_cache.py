"""Cache with a limit in bytes, which several kinds of values may share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any


def byte_size(value: Any) -> int:
    """Return the bytes of an array, a tensor, or bytes.

    Example:
        >>> byte_size(b"1234")
        4
    """
    return int(value.nbytes) if hasattr(value, "nbytes") else len(value)


class ByteCache:
    """Least-recently-used cache of at most ``limit`` bytes.

    A value that exceeds the limit alone is not kept. Safe to use from several threads.

    Args:
        limit: bytes of all values.
        size_of: bytes of a value.
        keep_large: keep the latest value of more than half of the limit beside the others, until another one or
            :meth:`discard` replaces it: a decoded image is needed again for every window.

    Example:
        >>> cache = ByteCache(10)
        >>> for key in ("a", "b", "c"):
        ...     cache.put(key, b"1234")
        >>> cache.get("a"), cache.get("c"), cache.nbytes
        (None, b'1234', 8)
    """

    def __init__(self, limit: int, size_of: Callable[[Any], int] = byte_size, keep_large: bool = False) -> None:
        self.limit, self.size_of, self.keep_large = limit, size_of, keep_large
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._large: OrderedDict[Hashable, Any] = OrderedDict()  # of at most one
        self._lock = Lock()
        self._nbytes = 0

    def __reduce__(self) -> tuple[type[ByteCache], tuple[int, Callable[[Any], int], bool]]:
        return ByteCache, (self.limit, self.size_of, self.keep_large)  # copies for other processes are empty

    @property
    def nbytes(self) -> int:
        """Bytes of all values that are kept."""
        return self._nbytes

    def get(self, key: Hashable) -> Any:
        """Return the value, or None."""
        with self._lock:
            if key in self._large:
                return self._large[key]
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value; an earlier one under the same key is replaced."""
        nbytes = self.size_of(value)
        with self._lock:
            self._remove(key)
            if self.keep_large and nbytes > self.limit // 2:
                for other in list(self._large):
                    self._remove(other)
                self._large[key] = value
                self._nbytes += nbytes
                return
            if nbytes > self.limit:
                return
            self._values[key] = value
            self._nbytes += nbytes
            large = sum(map(self.size_of, self._large.values()))
            while self._nbytes - large > self.limit:
                self._remove(next(iter(self._values)))

    def discard(self, matches: Callable[[Any], bool]) -> None:
        """Drop the values whose keys match."""
        with self._lock:
            for key in [key for key in (*self._values, *self._large) if matches(key)]:
                self._remove(key)

    def _remove(self, key: Hashable) -> None:
        for values in (self._values, self._large):
            if key in values:
                self._nbytes -= self.size_of(values.pop(key))
