"""Worker threads for windows: several windows at once, each computed by one thread.

PyTorch's own threads divide single operations, wait for each other after each of them, and divide sums differently
for each number of threads. Workers meet only at whole windows. One that has no window left helps with the blocks of
rows of another's window (:func:`share`). How windows are divided into blocks does not depend on the number of workers,
and neither do the pixels.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Any = object()
_POLL_SECONDS = 0.05  # interval between two calls of ``check`` while a result is awaited

_local = threading.local()  # .pool: the pool of a worker thread


def worker_threads(network: nn.Module) -> int:
    """Number of worker threads for the windows of a network: PyTorch's number of threads; 0 for no workers.

    Workers are for networks on the CPU that keep no state while they compute. That is known of PyTorch's and of this
    library's modules, unless they have hooks or a ``forward`` of their own. Other networks get one call at a time, with
    PyTorch's own threads.

    Example:
        >>> worker_threads(nn.Conv2d(3, 3, 1)) == torch.get_num_threads()
        True
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    return torch.get_num_threads() if on_cpu and all(map(_is_stateless, network.modules())) else 0


def _is_stateless(module: nn.Module) -> bool:
    home = type(module).__module__
    known = home.startswith(("monai_iste.", "torch.nn.")) and not home.startswith("torch.nn.parallel")
    return known and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    at_once: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for every item, in order, computed by worker threads.

    Items are taken from ``items``, and ``check`` is called, in the calling thread. Meanwhile it has one of PyTorch's
    threads, as each worker has. An exception of any of them ends the work: what has not begun is dropped, and what
    runs stops at its next block.

    Args:
        function: runs in several threads at once.
        threads: number of workers; with 1 the calling thread computes. With 0 it does, with PyTorch's own threads.
        at_once: largest number of items whose results are computed or wait; at least 1. Default: one per worker, and
            one that the caller works on.
        check: called before each item and while a result is awaited; an exception that it raises ends the work.

    Example:
        >>> list(map_in_order(lambda n: n * n, range(5), threads=2))
        [0, 1, 4, 9, 16]
    """
    if threads == 0:
        yield from _map_here(function, items, check)
        return
    with _one_torch_thread():
        if threads == 1:
            yield from _map_here(function, items, check)
        else:
            with _Pool(threads) as pool:
                yield from pool.map(function, items, at_once or threads + 1, check)


def _map_here(function: Callable[[Item], Result], items: Iterable[Item], check: Callable[[], None]) -> Iterator[Result]:
    for item in items:
        check()
        yield function(item)


def share(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call ``function`` with every item; in a worker thread, idle workers of its pool take some of them.

    Args:
        function: changes what no other item's call reads or changes.
    """
    pool: _Pool | None = getattr(_local, "pool", None)
    if pool is None:
        for item in items:
            function(item)
    else:
        pool.share(function, list(items))


class _Pool:
    """Pool of worker threads, each with one of PyTorch's threads."""

    def __init__(self, threads: int) -> None:
        self._threads, self._is_stopped = threads, False
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="window")

    def __enter__(self) -> _Pool:
        barrier, before = threading.Barrier(self._threads), torch.get_num_threads()

        def begin(_: int) -> None:
            barrier.wait()  # so that every thread begins once
            _local.pool = self
            torch.set_num_threads(1)

        list(self._executor.map(begin, range(self._threads)))
        torch.set_num_threads(before)  # also what threads that are started later begin with
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], at_once: int, check: Callable[[], None]
    ) -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        remaining, call = iter(items), _in_this_mode(function)

        def fill() -> None:
            while len(waiting) < at_once and (item := next(remaining, _END)) is not _END:
                check()
                waiting.append(self._executor.submit(call, item))

        fill()
        while waiting:
            first = waiting.popleft()
            while not wait([first], _POLL_SECONDS).done:
                check()
            result = first.result()
            if at_once > 1:  # while the caller works on this one
                at_once -= 1
                fill()
                at_once += 1
            yield result
            del result
            fill()

    def share(self, function: Callable[[Item], object], items: Sequence[Item]) -> None:
        remaining, lock = iter(items), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    item = next(remaining, _END)
                if item is _END:
                    return
                if self._is_stopped:
                    raise CancelledError
                function(item)

        count = 0 if self._is_stopped else min(self._threads, len(items)) - 1
        call = _in_this_mode(work)
        helpers = [self._executor.submit(call) for _ in range(count)]
        try:
            work()
        finally:
            with lock:
                deque(remaining, maxlen=0)  # after an error, helpers begin nothing more
            begun = [helper for helper in helpers if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_this_mode(function: Callable[..., Result]) -> Callable[..., Result]:
    """Wrap a function so that other threads call it with the gradient mode and the autocast of this one."""
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def call(*args: Any) -> Result:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype, enabled=autocast),
        ):
            return function(*args)

    return call
