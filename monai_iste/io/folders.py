"""Files of a folder and its subfolders, links included."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_Identity = tuple[int, int]  # device and inode of a folder


def list_files(root: Path, log: Callable[[str], None]) -> list[str]:
    """List the files of a folder and its subfolders, as sorted relative paths with forward slashes.

    Links to folders are followed, each folder once. Hidden files and folders are left out. Links that lead nowhere and
    pipes are listed: whoever opens them says what they are.

    Args:
        log: receives one sentence about each folder that is not listed: one that was listed already, that contains
            ``root``, or that may not be read.
    """
    walk = _Walk(root, log)
    names = list(walk.files(root, ""))
    while walk.links:  # after all folders that are no links, which are listed under their own names
        walk.links.sort()
        names += walk.linked_files(walk.links.pop(0))
    return sorted(names)


class _Walk:
    """Walk over the folders below a root.

    Attributes:
        links: relative paths of links to folders that were found and are not followed yet.
    """

    def __init__(self, root: Path, log: Callable[[str], None]) -> None:
        self.root, self.log = root, log
        self.links: list[str] = []
        self.seen: set[_Identity] = set()
        self.above = {_identity(parent) for parent in root.resolve().parents}

    def files(self, folder: Path, prefix: str) -> Iterator[str]:
        """Yield the files below a folder, and note the links to folders."""
        waiting = [(folder, prefix)]
        while waiting:
            folder, prefix = waiting.pop()
            try:
                identity, entries = _identity(folder), sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                self.log(f"{folder} is left out: it cannot be listed ({error.strerror})")
                continue
            if identity in self.seen:
                self.log(f"{folder} is left out: it is listed already, under another name")
                continue
            self.seen.add(identity)
            for entry in entries:
                name = prefix + entry.name
                if entry.name.startswith("."):
                    continue
                if not _is_folder(entry):
                    yield name
                elif entry.is_symlink():
                    self.links.append(name)
                else:
                    waiting.append((folder / entry.name, f"{name}/"))

    def linked_files(self, name: str) -> Iterator[str]:
        """Yield the files below a link to a folder, unless that folder was listed or contains the root."""
        link = self.root / name
        if _identity(link) in self.above:
            self.log(f"{link} is left out: it is a link to a folder that contains {self.root}")
        else:
            yield from self.files(link, f"{name}/")


def _identity(folder: Path) -> _Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
