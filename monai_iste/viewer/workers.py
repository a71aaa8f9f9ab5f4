"""Who computes what when: few threads, a waiting line that ends somewhere, and work that stops when nobody waits."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

from monai_iste.errors import ConfigError, ISTEError

Work = Callable[["Task"], Any]


class QueueFull(ISTEError, RuntimeError):
    """More is waiting than the server lets wait."""


class Cancelled(ISTEError, RuntimeError):
    """Nobody waits for this any more."""


class Task:
    """One request's claim on a result.

    Args:
        token: the client's name for it, or None.
    """

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.client, self.number = _parse(token)
        self._cancelled = Event()
        self.future: Future[Any] | None = None

    def cancel(self) -> None:
        """Let go of it: what has not begun will not, what runs ends at its next :meth:`check`."""
        self._cancelled.set()
        if self.future is not None:
            self.future.cancel()

    def check(self) -> None:
        """To be called between two pieces of work.

        Raises:
            Cancelled: it was cancelled.
        """
        if self._cancelled.is_set():
            raise Cancelled("a request that somebody waits for", "one that was cancelled or overtaken", "Ask again.")


class WorkerPool:
    """Takes work in turn, on a fixed number of threads.

    A token is any name of at most 80 letters, digits, ``.``, ``_`` and ``-``. If it ends in ``-`` and a number, what
    stands before is the client, and a higher number of the same client is newer (:meth:`overtake`). Requests of one
    token stand side by side.

    Args:
        threads: how much runs at a time.
        waiting: how much may wait for its turn.
        begin: called in each thread before its first work.

    Example:
        >>> desk = WorkerPool(threads=1, waiting=8)
        >>> desk.submit(lambda ticket: 6 * 7, "page1-3").future.result()
        42
        >>> desk.close()
    """

    def __init__(self, threads: int, waiting: int, begin: Callable[[], None] | None = None) -> None:
        self.waiting = waiting
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="viewer", initializer=begin)
        self._lock = Lock()
        self._tickets: set[Task] = set()
        self._running = 0

    @property
    def running(self) -> int:
        """How much is being worked on."""
        return self._running

    @property
    def queued(self) -> int:
        """How much waits."""
        return max(0, len(self._tickets) - self._running)

    def submit(self, work: Work, token: str | None = None) -> Task:
        """Put work at the end of the line; it is called with the ticket, whose future has the result.

        Raises:
            QueueFull: the line is full. ConfigError: the token is none.
        """
        ticket = Task(token)
        with self._lock:
            if self.queued >= self.waiting:
                raise QueueFull(
                    f"at most {self.waiting} requests that wait", f"{self.queued}", "Ask again in a moment."
                )
            self._tickets.add(ticket)

        def run() -> Any:
            with self._lock:
                self._running += 1
            try:
                ticket.check()
                return work(ticket)
            finally:
                with self._lock:
                    self._running -= 1
                    self._tickets.discard(ticket)

        ticket.future = self._pool.submit(run)
        ticket.future.add_done_callback(lambda _: self._forget(ticket))
        return ticket

    def overtake(self, newer: Task) -> None:
        """Cancel what the same client asked for before."""
        if newer.client is not None:
            self._cancel(lambda ticket: ticket.client == newer.client and ticket.number < newer.number)

    def cancel(self, token: str) -> int:
        """Cancel all work of a token; returns how much that was."""
        return self._cancel(lambda ticket: ticket.token == token)

    def close(self) -> None:
        """Cancel everything, and wait for what runs to notice."""
        self._cancel(lambda ticket: True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _cancel(self, stale: Callable[[Task], bool]) -> int:
        with self._lock:
            found = [ticket for ticket in self._tickets if stale(ticket)]
        for ticket in found:
            ticket.cancel()
        return len(found)

    def _forget(self, ticket: Task) -> None:
        with self._lock:
            self._tickets.discard(ticket)


def check_token(token: str | None) -> str | None:
    """The token, if it is one; see :class:`WorkerPool`.

    Raises:
        ConfigError: it is too long or has other characters.
    """
    if token is not None and re.fullmatch(r"[A-Za-z0-9._-]{1,80}", token) is None:
        raise ConfigError("a token of at most 80 letters, digits, . _ and -", repr(token[:100]), "Choose another.")
    return token


def _parse(token: str | None) -> tuple[str | None, int]:
    found = re.fullmatch(r"(.+)-(\d{1,18})", check_token(token) or "")
    return (None, 0) if found is None else (found[1], int(found[2]))
