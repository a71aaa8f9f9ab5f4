"""State of files on the disk: stamps, by which a change is noticed, and writing that survives a loss of power."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_SYNC_THREADS = 16  # files that are written to the disk at once, which takes a fraction of the time


class Stamp(NamedTuple):
    """Record of the system about a file: a change of its content is noticed without reading it.

    Attributes:
        size: number of bytes.
        modified: time of the last change of the content, in nanoseconds. Programs may set it.
        changed: time of the last change of anything, in nanoseconds; on Windows, of the creation.
        number: number of the file in its file system. A file that was replaced has another one.
    """

    size: int
    modified: int
    changed: int
    number: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Stamp:
        """Read the stamp of an existing file."""
        found = os.stat(path)
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    @property
    def latest(self) -> float:
        """Time of the latest change, in seconds since 1970."""
        return max(self.modified, self.changed) / 1e9


def sync(paths: Iterable[Path]) -> None:
    """Write the content of files to the disk, several at once."""
    paths = list(paths)
    with ThreadPoolExecutor(max(1, min(len(paths), _SYNC_THREADS))) as pool:
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)  # Windows writes only what is open for writing
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folders(folders: Iterable[Path]) -> None:
    """Write the names in folders to the disk, where the system can; Windows and some network disks cannot."""
    for folder in folders:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Write a folder with all that is in it to the disk."""
    files: list[Path] = []
    folders = [folder]
    for path in folder.rglob("*"):
        (folders if path.is_dir() else files).append(path)
    sync(files)
    sync_folders(reversed(folders))
