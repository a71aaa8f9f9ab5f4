"""Locks on files and folders that end with the process that holds them, however it ends."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on this system: nothing is locked, and nothing is taken for abandoned
    fcntl = None  # type: ignore[assignment]

__all__ = ["held", "remove_abandoned"]


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file or folder that exists while the block runs; False if another process holds it, or it cannot be held.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with held(folder) as mine, held(folder) as twice:
        ...     mine, twice
        (True, False)
    """
    if fcntl is None:
        yield True
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_abandoned(path: Path) -> None:
    """Delete what killed processes left of their work on ``path``: files and folders ``.NAME.*.part`` beside it that
    nobody holds. They are hidden, may be large, and nobody else knows of them."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError), held(part) as abandoned:
            if fcntl is not None and abandoned:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
