"""Bounded worker pools with cancellation for the viewer's requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

from monai_iste.errors import ConfigError, ISTEError

TaskFunction = Callable[["Task"], Any]


class QueueFull(ISTEError, RuntimeError):
    """The queue of a worker pool has no room for another task."""


class Cancelled(ISTEError, RuntimeError):
    """The task was cancelled or superseded."""


class Task:
    """One unit of work that can be cancelled.

    Args:
        token: name given by the client, or None; see :class:`WorkerPool`.
    """

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.client, self.sequence_number = _parse_token(token)
        self._cancelled = Event()
        self.future: Future[Any] | None = None

    def cancel(self) -> None:
        """Cancel the task: a queued task never starts, a running one stops at its next :meth:`check`."""
        self._cancelled.set()
        if self.future is not None:
            self.future.cancel()

    def check(self) -> None:
        """Raise Cancelled if the task was cancelled. Long work calls this between two steps."""
        if self._cancelled.is_set():
            raise Cancelled("a request that is still wanted", "one that was cancelled or superseded", "Ask again.")


class WorkerPool:
    """Thread pool with a bounded queue, whose tasks can be cancelled by token.

    A token has at most 80 letters, digits, ``.``, ``_`` and ``-``. If it ends in ``-`` and a number, the part before is
    the client, and a higher number of the same client is newer (:meth:`cancel_older`). Several tasks may have the same
    token.

    Args:
        threads: number of worker threads.
        max_queued: largest number of tasks that wait for a thread.
        initializer: called once in each thread before its first task.

    Example:
        >>> pool = WorkerPool(threads=1, max_queued=8)
        >>> pool.submit(lambda task: 6 * 7, "page1-3").future.result()
        42
        >>> pool.close()
    """

    def __init__(self, threads: int, max_queued: int, initializer: Callable[[], None] | None = None) -> None:
        self.max_queued = max_queued
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="viewer", initializer=initializer)
        self._lock = Lock()
        self._tasks: set[Task] = set()
        self._running = 0

    @property
    def running(self) -> int:
        """Number of tasks that run now."""
        return self._running

    @property
    def queued(self) -> int:
        """Number of tasks that wait for a thread."""
        return max(0, len(self._tasks) - self._running)

    def submit(self, function: TaskFunction, token: str | None = None) -> Task:
        """Queue a function. It is called with its task; the task's future holds the result.

        Raises:
            QueueFull: ``max_queued`` tasks are waiting.
            ConfigError: the token is malformed.
        """
        task = Task(token)
        with self._lock:
            if self.queued >= self.max_queued:
                raise QueueFull(
                    f"at most {self.max_queued} requests that wait", f"{self.queued}", "Ask again in a moment."
                )
            self._tasks.add(task)

        def run() -> Any:
            with self._lock:
                self._running += 1
            try:
                task.check()
                return function(task)
            finally:
                with self._lock:
                    self._running -= 1
                    self._tasks.discard(task)

        task.future = self._executor.submit(run)
        task.future.add_done_callback(lambda _: self._discard(task))
        return task

    def cancel_older(self, newest: Task) -> None:
        """Cancel earlier tasks of the same client."""
        if newest.client is not None:
            self._cancel(lambda t: t.client == newest.client and t.sequence_number < newest.sequence_number)

    def cancel(self, token: str) -> int:
        """Cancel all tasks with a token and return their number."""
        return self._cancel(lambda task: task.token == token)

    def close(self) -> None:
        """Cancel all tasks and wait until the running ones have stopped."""
        self._cancel(lambda task: True)
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _cancel(self, matches: Callable[[Task], bool]) -> int:
        with self._lock:
            found = [task for task in self._tasks if matches(task)]
        for task in found:
            task.cancel()
        return len(found)

    def _discard(self, task: Task) -> None:
        with self._lock:
            self._tasks.discard(task)


def check_token(token: str | None) -> str | None:
    """Return the token, or raise ConfigError if it is malformed; see :class:`WorkerPool`."""
    if token is not None and re.fullmatch(r"[A-Za-z0-9._-]{1,80}", token) is None:
        raise ConfigError("a token of at most 80 letters, digits, . _ and -", repr(token[:100]), "Choose another.")
    return token


def _parse_token(token: str | None) -> tuple[str | None, int]:
    """Split a token into its client and sequence number; (None, 0) if it names no client."""
    found = re.fullmatch(r"(.+)-(\d{1,18})", check_token(token) or "")
    return (None, 0) if found is None else (found[1], int(found[2]))
