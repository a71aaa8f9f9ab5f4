"""Training crops whose random numbers depend only on the seed, the epoch and their number in the epoch.

A resumed training therefore draws what an uninterrupted one draws, with any number of loading processes.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Compose, Randomizable, RandomizableTrait, Transform
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from monai_iste.errors import ConfigError, DataError
from monai_iste.io.byte_cache import ByteCache


def random_state(*numbers: int) -> np.random.RandomState:
    """Create a generator that depends on all of the numbers; neighbors give unrelated streams.

    Example:
        >>> random_state(0, 1).randint(1000) == random_state(0, 1).randint(1000) != random_state(1, 0).randint(1000)
        True
    """
    state = np.random.RandomState(0)
    _reseed(state, *numbers)
    return state


def _reseed(state: np.random.RandomState, *numbers: int) -> None:
    """Seed an existing generator, which takes a tenth of the time that a new one takes."""
    state.seed([part for number in numbers for part in (number % 2**32, (number >> 32) % 2**32)])  # may be negative


def seed_generators(*numbers: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch, on all devices, with all of the numbers."""
    _seed(random_state(*numbers), torch.manual_seed)


@contextmanager
def _own_generators(state: np.random.RandomState) -> Iterator[None]:
    """Seed the global generators of the CPU for the block, and restore them afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    _seed(state, torch.default_generator.manual_seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _seed(state: np.random.RandomState, seed_torch: Callable[[int], Any]) -> None:
    first, second, third = (int(number) for number in state.randint(2**32, size=3, dtype=np.uint32))
    random.seed(first)
    np.random.seed(second)  # noqa: NPY002  (the generator that others use)
    seed_torch(third)


class SeededIndex(int):
    """Index of an item, with the numbers that seed its random transforms (:attr:`draw`).

    Example:
        >>> index = SeededIndex(3, (0, 1, 7))
        >>> index + 1, index.draw
        (4, (0, 1, 7))
    """

    draw: tuple[int, ...]

    def __new__(cls, index: int, draw: tuple[int, ...] = ()) -> SeededIndex:
        made = super().__new__(cls, index)
        made.draw = draw
        return made


class SeededSampler(DistributedSampler):
    """Draw items at random; every draw carries its own seed (:class:`SeededIndex`).

    The draws of an epoch depend on the seed and the epoch only. MONAI's engines set the epoch. Several processes of one
    training take turns in one common sequence.

    Args:
        data_source: data set to draw from.
        num_samples: draws per epoch and process.
        seed: seed of all draws.
        weights: relative probability of each item; None for equal ones.
        replacement: whether draws are independent. If not, all items are drawn once before any is drawn again.
    Raises:
        ConfigError: the weights are not one finite number of at least 0 per item, some above 0; or there are weights
            without replacement.

    Example:
        >>> sampler = SeededSampler(range(5), num_samples=4, seed=1)
        >>> first = list(sampler)
        >>> sampler.set_epoch(1)
        >>> second = list(sampler)
        >>> sampler.set_epoch(0)
        >>> first == list(sampler), first == second, first[2].draw
        (True, False, (1, 0, 2))
    """

    def __init__(
        self,
        data_source: Sequence[Any],
        num_samples: int,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        replacement: bool = True,
    ) -> None:
        if weights is not None and not replacement:
            raise ConfigError("no weights without replacement", "weights", "Set one of both: weights or replacement.")
        parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
        world, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if parallel else (1, 0)
        super().__init__(data_source, num_replicas=world, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.num_samples, self.total_size = num_samples, num_samples * world
        self.weights = None if weights is None else _checked(weights, len(data_source))
        self.replacement = replacement

    def __iter__(self) -> Iterator[SeededIndex]:
        count = len(self.dataset)  # type: ignore[arg-type]
        state = random_state(self.seed, self.epoch)
        if not self.replacement:
            rounds = -(-self.total_size // count)
            drawn = np.concatenate([state.permutation(count) for _ in range(rounds)])
        elif self.weights is None:
            drawn = state.randint(count, size=self.total_size)
        else:
            drawn = state.choice(count, size=self.total_size, p=self.weights)
        for number in range(self.rank, self.total_size, self.num_replicas):
            yield SeededIndex(int(drawn[number]), (self.seed, self.epoch, number))


def _checked(weights: Sequence[float], count: int) -> np.ndarray:
    values = np.asarray(weights, np.float64)
    if values.shape != (count,) or not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise ConfigError(
            f"{count} weights, one per image, of at least 0 and some above 0",
            f"{values.size}, from {values.min(initial=0)} to {values.max(initial=0)}",
            "Use monai_iste.data.pixel_counts, or null for equal ones.",
        )
    return values / values.sum()


class SeededDataset(Dataset):
    """Data set whose random transforms are seeded for every item, and that keeps decoded images in bounded memory.

    The transforms before the first random one are applied once per image while its result fits into the cache. The
    others get a fresh seed for every item: that of a :class:`SeededIndex`, or the plain index, with which an item is
    always the same. Random numbers from the global generators of Python, NumPy and PyTorch are covered too, and the
    generators of the process are left as they were.

    Args:
        data: items, such as ``{"image": path, "name": ...}``.
        transform: one transform or a list; a Compose is split at its first random transform.
        cache_bytes: bytes of decoded images that each process keeps; images above that are decoded again.
        load_all: decode every image at once, so that a damaged one is found before the training.
    Raises:
        DataError: an image file is not the one that it was when the data set was made, or cannot be read.

    Example:
        >>> from monai.transforms import RandFlipd
        >>> flip = RandFlipd("image", prob=0.5, spatial_axis=0)
        >>> data = SeededDataset([{"image": np.arange(6).reshape(1, 3, 2)}], flip)
        >>> [data[SeededIndex(0, (1, 0, n))]["image"][0, 0, 0].item() for n in (0, 1, 2, 0, 1, 2)]
        [4, 0, 4, 4, 0, 4]
    """

    def __init__(
        self,
        data: Sequence[Mapping[Hashable, Any]],
        transform: Callable | Sequence[Callable],
        cache_bytes: int = 2 << 30,
        load_all: bool = False,
    ) -> None:
        super().__init__(data, transform if isinstance(transform, Compose) else Compose(transform))
        first = self.transform.get_index_of_first(_is_random)
        self.first_random = len(self.transform.transforms) if first is None else first
        self.cache = ByteCache(cache_bytes, _nbytes)
        self.stamps = [_stamp(item) for item in data]
        self.state = np.random.RandomState(0)
        _share_state(self.transform, self.state, set())
        if load_all:
            with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                for _ in pool.map(self._loaded, range(len(data))):
                    pass

    def _transform(self, index: int) -> Any:
        draw = index.draw if isinstance(index, SeededIndex) else (int(index),)
        item = self._loaded(int(index))
        _reseed(self.state, *draw)
        with _own_generators(self.state):
            return self.transform(item, start=self.first_random)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> SeededDataset:
        """Do nothing: every item has its own seed. MONAI's loaders call this in every process."""
        return self

    def _loaded(self, index: int) -> Any:
        """Return the item after the transforms before the first random one."""
        item = self.cache.get(index)
        if item is None:
            source = self.data[index]
            if _stamp(source) != self.stamps[index]:
                raise DataError(
                    "the images that the training began with",
                    f"another file {source['image']}",
                    "Restore it and run the command again to resume, or add --resume False to start again.",
                )
            item = self.transform(source, end=self.first_random)
            self.cache.put(index, item)
        return copy.deepcopy(item)  # a later transform may write into its input


def _share_state(thing: Any, state: np.random.RandomState, seen: set[int]) -> None:
    """Let a transform, and all that it contains, draw from one generator, which is then seeded once per item."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Randomizable):
        thing.set_random_state(state=state)
    parts: Iterable[Any] = ()
    if isinstance(thing, (Randomizable, Transform)):
        parts = vars(thing).values()
    elif isinstance(thing, Mapping):
        parts = thing.values()
    elif isinstance(thing, (list, tuple)):
        parts = thing
    for part in parts:
        _share_state(part, state, seen)


def _is_random(transform: Any) -> bool:
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)


def _nbytes(item: Any) -> int:
    values = item.values() if isinstance(item, Mapping) else [item]
    return sum(value.nbytes for value in values if isinstance(value, (np.ndarray, Tensor)))


def _stamp(item: Any) -> tuple[int, ...] | None:
    """Return size, time and number of an image file; None for an image in memory, and for a file that is missing."""
    image = item.get("image") if isinstance(item, Mapping) else None
    if not isinstance(image, (str, os.PathLike)):
        return None
    try:
        found = os.stat(image)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
