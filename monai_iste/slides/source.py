"""Identity of a slide: its files, their content, and whether they changed.

Interrupted work and finished results are recognized by the content, the viewer's ETags by the version.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from monai_iste.errors import DataError
from monai_iste.io.disk import Stamp
from monai_iste.io.files import checksum

#: Seconds within which two changes of a file may have the same time: the coarsest clock of a file system in use.
_CLOCK_STEP = 2.0

_LINE_BYTES = 4096  # by which formats of several files are known
_HEADER_BYTES = 2**20  # in which a DICOM file states its series, and a .vms file its parts

Stamps = tuple[Stamp | None, ...]


class Source:
    """Files of a slide as they are when this object is made.

    Their content is the SHA-256 of all bytes, computed when it is asked for first. A later change is noticed by the
    files' stamps (:class:`~monai_iste.io.disk.Stamp`). Programs cannot set the time of the last change, so that another
    content with the old date and size is noticed, too.

    Args:
        path: file of the slide. The other files of some formats are found from it.
    Attributes:
        path: the argument.
        files: all files of the slide.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.svs"
        >>> file.write_bytes(b"1")
        1
        >>> source = Source(file)
        >>> source.digest[:8], source.is_changed()
        ('6b86b273', False)
        >>> file.write_bytes(b"23")
        2
        >>> source.is_changed()
        True
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.files = tuple(_slide_files(self.path))
        self._stamps = self._read_stamps()
        self._is_recent = _is_recent(self._stamps)
        self._digest: str | None = None

    @property
    def version(self) -> str:
        """Hash of the stamps, which differs after every change and takes no reading."""
        return hashlib.sha256(repr(self._stamps).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 of the file; of a slide of several files, of the list of theirs.

        Raises:
            DataError: a file has changed since this object was made, or cannot be read.
        """
        if self._digest is None:
            found = self._hash(self._stamps)
            if self.is_changed():
                raise self.changed()
            self._digest = found
        return self._digest

    def is_changed(self) -> bool:
        """Check whether a file was written or replaced since this object was made, or since the last :meth:`check`."""
        return self._read_stamps() != self._stamps

    def check(self) -> bool:
        """Check that the content is the same.

        Returns:
            False if files were written anew with the same content. What was read meanwhile cannot be trusted.
        Raises:
            DataError: the content differs.
        """
        stamps = self._read_stamps()
        if stamps == self._stamps:
            return True
        if self._hash(stamps) != self.digest or self._read_stamps() != stamps:
            raise self.changed()
        self._stamps = stamps
        return False

    def confirm(self) -> None:
        """Check that the content is the same, by reading it where the stamps do not prove it.

        That is on Windows, and where a file was younger than a step of the clock when this object was made.

        Raises:
            DataError: the content differs.
        """
        if (self._is_recent or os.name == "nt") and _hash_files(self.files) != self.digest:
            raise self.changed()
        self.check()

    def _read_stamps(self) -> Stamps:
        return tuple(_stamp(path) for path in self.files)

    def _hash(self, stamps: Stamps) -> str:
        try:
            return _hash_files(self.files) if _is_recent(stamps) else _hash_once(self.files, stamps)
        except OSError as error:
            raise self.changed() from error

    def changed(self) -> DataError:
        """Make the error about a changed file."""
        return DataError(
            f"{self.path} to stay as it was when the work on it began",
            "a changed file" if all(path.exists() for path in self.files) else "one that does not exist",
            "Put it back and run again with --resume, or begin again with --overwrite.",
        )


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except OSError:
        return None


def _is_recent(stamps: Stamps) -> bool:
    return any(stamp is not None and stamp.latest > time.time() - _CLOCK_STEP for stamp in stamps)


@lru_cache(maxsize=256)
def _hash_once(files: tuple[Path, ...], stamps: Stamps) -> str:
    return _hash_files(files)


def _hash_files(files: tuple[Path, ...]) -> str:
    sums = [checksum(path) for path in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


# --- files of a slide -------------------------------------------------------------------------------------------------


def _slide_files(path: Path) -> list[Path]:
    """Find all files of a slide: its own file first, the others by name. Only the beginning of files is read."""
    others: Iterator[Path] = iter(())
    header = _header(path)
    if path.suffix.lower() == ".mrxs":
        others = path.with_suffix("").rglob("*")
    elif b"Virtual Microscope Specimen]" in header[:_LINE_BYTES]:  # .vms and .vmu name their parts
        others = (path.parent / name.strip() for name in re.findall(r"=(.+)", header.decode(errors="replace")))
    elif series := _dicom_series(header):
        siblings = (other for other in path.parent.iterdir() if other != path)
        others = (other for other in siblings if _dicom_series(_header(other)) == series)
    return [path, *sorted({other for other in others if other.is_file() and other != path})]


def _header(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with open(path, "rb") as file:
            start = file.read(_LINE_BYTES)
            is_longer = start[128:132] == b"DICM" or b"Virtual Microscope Specimen]" in start
            return start + (file.read(_HEADER_BYTES) if is_longer else b"")
    except OSError:
        return b""


def _dicom_series(header: bytes) -> bytes | None:
    """Find the Series Instance UID in the beginning of a DICOM file with explicit lengths; None for other files."""
    found = re.search(rb"\x20\x00\x0e\x00(?:UI..|.\x00\x00\x00)([0-9.]{1,64})", header, re.DOTALL)
    return found[1] if found and header[128:132] == b"DICM" else None
