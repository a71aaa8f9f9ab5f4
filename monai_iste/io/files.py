"""Output files and folders that appear only when they are complete and on the disk, locks and checksums.

Locks end with the process that holds them, however it ends.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from monai_iste.errors import CheckpointError, ISTEError, OutputError
from monai_iste.io.disk import sync, sync_folders, sync_tree
from monai_iste.io.seal import Fields, write_folder_seal, write_seal

try:
    import fcntl
except ImportError:  # not on this system: nothing is locked, and nothing is taken for abandoned
    fcntl = None  # type: ignore[assignment]

_LONGEST_NAME = 235  # bytes of a file name to which a number and an ending can be added


@contextmanager
def lock_file(path: Path) -> Iterator[bool | None]:
    """Lock an existing file or folder while the block runs.

    Yields False if another process holds it, and None where the system or the disk has no locks: nobody knows then.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with lock_file(folder) as first, lock_file(folder) as second:
        ...     first, second
        (True, False)
    """
    if fcntl is None:  # there, folders cannot be opened either
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock an opened file for this process, as :func:`lock_file` says."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network disks
        return None
    return True


def part_path(path: Path) -> Path:
    """Name the temporary file or folder that becomes ``path``, beside it; it fits wherever the final name does."""
    return path.with_name(f"{_part_stem(path)}.{os.getpid()}.part")


def _part_stem(path: Path) -> str:
    name = os.fsencode(path.name)
    return f".{path.name}" if len(name) <= _LONGEST_NAME else f".{hashlib.sha256(name).hexdigest()}"


def abandoned(path: Path) -> list[Path]:
    """List what killed processes left of ``path``: unlocked temporary files and folders, and a folder put aside."""
    parts = list(path.parent.glob(f"{glob.escape(_part_stem(path))}.*.old"))
    for part in path.parent.glob(f"{glob.escape(_part_stem(path))}.*.part"):
        with suppress(OSError), lock_file(part) as is_free:
            if is_free:
                parts.append(part)
    return parts


def remove_abandoned(path: Path) -> None:
    """Delete what killed processes left of ``path``; a folder that was put aside and not replaced comes back."""
    for part in abandoned(path):
        if part.suffix == ".old" and not os.path.lexists(path):
            os.rename(part, path)
        else:
            remove(part)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it, as far as the system allows."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


#: Name of the list of checksums beside released weights, in the format of ``sha256sum``.
CHECKSUMS = "SHA256SUMS"


def checksum(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checksums(folder: Path) -> dict[str, str]:
    """Read the checksums listed in a folder, by file name; empty where there is no list. Damaged lines name no file."""
    path = folder / CHECKSUMS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    entries = (line.split(maxsplit=1) for line in lines)
    return {entry[1]: entry[0] for entry in entries if len(entry) == 2}


def verify_checksum(path: Path) -> Path:
    """Return the file after comparing it with the checksum listed beside it.

    Raises:
        CheckpointError: it differs, or the list does not name it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "weights"
        >>> file.write_bytes(b"1")
        1
        >>> file.with_name(CHECKSUMS).write_text(f"{checksum(file)}  weights")
        73
        >>> verify_checksum(file) == file
        True
    """
    expected, received = read_checksums(path.parent).get(path.name), checksum(path)
    if received != expected:
        raise CheckpointError(
            f"released weights {path.name} with SHA-256 {expected or 'in the list beside them'}",
            f"{path}, which has {received}",
            "Install monai_iste again, or name the file as your own (--weights, --checkpoint).",
        )
    return path


@contextmanager
def open_output(
    path: str | os.PathLike[str], overwrite: bool = False, seal: Fields | None = None
) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name in one step when the block ends without error, and else leaves nothing.

    Its content is on the disk before it has its name. Without ``overwrite``, a file that appears there meanwhile stays.

    Args:
        seal: fields of the file's seal (:mod:`monai_iste.io.seal`); default: it has none.
    Raises:
        OutputError: the file exists and may not be overwritten, or cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with suppress(KeyboardInterrupt), open_output(folder / "a.bin") as file:
        ...     raise KeyboardInterrupt
        >>> list(folder.iterdir())
        []
    """
    path = Path(path)
    check_name(path, overwrite)
    temporary = part_path(path)
    try:
        with report_write_errors(path):
            remove_abandoned(path)
            temporary.touch()
            with lock_file(temporary):
                with open(temporary, "wb") as file:
                    yield file
                if seal is not None:
                    write_seal(temporary, seal)
                sync([temporary])
                _publish(temporary, path, overwrite)
            sync_folders([path.parent])
    finally:
        with suppress(OSError):
            temporary.unlink()


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give a file its name. A second name never replaces another file, as a new name would."""
    if not overwrite:
        try:
            os.link(temporary, path)
        except OSError:  # the name is taken, or the disk knows one name for each file only
            check_name(path, overwrite)
        else:
            return
    os.replace(temporary, path)


@contextmanager
def open_output_folder(path: Path, overwrite: bool = False, seal: Fields | None = None) -> Iterator[Path]:
    """Open an empty folder that takes its name when the block ends without error, and else leaves nothing.

    Its content is on the disk before it has its name. An old folder and the new one exchange their names in one step on
    Linux and macOS. Where the system or the disk cannot, the old one is put aside first.

    Raises:
        OSError: the folder exists and may not be overwritten, or cannot be written.
    """
    temporary = part_path(path)
    remove_abandoned(path)
    remove(temporary)  # of a process that was killed and had the same number
    temporary.mkdir()
    try:
        with lock_file(temporary):
            yield temporary
            if seal is not None:
                write_folder_seal(temporary, seal)
            sync_tree(temporary)
            if not (overwrite and os.path.lexists(path)):
                os.rename(temporary, path)  # fails if a folder has appeared there
            elif not _exchange(temporary, path):
                _replace_folder(temporary, path)
            sync_folders([path.parent])
    finally:
        remove(temporary)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Put the old folder aside, and back if the new one cannot come."""
    old = temporary.with_suffix(".old")
    os.rename(path, old)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(old, path)
        raise
    remove(old)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders in one step; False if the system or the disk cannot."""
    here, flag = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    names = os.fsencode(first), os.fsencode(second)
    try:
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(system.renamex_np(*names, flag) == 0)  # RENAME_SWAP is 2 as well
        return bool(system.renameat2(here, names[0], here, names[1], flag) == 0)
    except (OSError, TypeError, AttributeError):  # another system, or a C library without it
        return False


def check_writable(path: Path, is_folder: bool = False) -> None:
    """Raise OutputError unless a new file or folder can be made where ``path`` is to be; nothing stays there."""
    temporary = part_path(path)
    with report_write_errors(path):
        with suppress(FileNotFoundError):
            os.lstat(path)  # fails for a name that is too long
        if is_folder:
            temporary.mkdir()
            temporary.rmdir()
        else:
            temporary.touch()
            temporary.unlink()


@contextmanager
def report_write_errors(
    path: str | os.PathLike[str], remedy: str = "Choose another place, or free disk space."
) -> Iterator[None]:
    """Convert an OSError of the block to an OutputError.

    Raises:
        OutputError: names the path, the reason of the system, and the remedy.
    """
    try:
        yield
    except ISTEError:
        raise
    except OSError as error:
        raise OutputError(f"to be able to write {path}", error.strerror or str(error), remedy) from error


def make_folder(folder: Path) -> None:
    """Create a folder for results, with its parents, if it is absent.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"to be able to make the folder {folder}", str(error.strerror), "Choose another place."
        ) from error


def check_new_path(path: Path) -> None:
    """Check that a file can get this name, and its folder be made, before any work.

    Raises:
        OutputError: the name is too long, or what should be its folder is a file or may not be written to.
    """
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    with report_write_errors(path, "Choose another place."), suppress(FileNotFoundError):
        os.lstat(folder / f".{path.name}.{os.getpid()}.part")  # the longest name that it has meanwhile
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError("a folder that may be written to", str(folder), "Choose another place.")


def check_apart(source: Path, target: Path) -> None:
    """Raise OutputError if the output is the input."""
    if os.path.exists(target) and target.samefile(source):
        raise OutputError("an output other than the input", str(target), "Choose another name.")


def check_name(path: Path, overwrite: bool) -> None:
    """Raise OutputError if ``path`` is a folder, or exists and may not be overwritten."""
    if os.path.isdir(path):
        raise OutputError("the name of a file to write", f"the folder {path}", "Name a file in it.")
    if os.path.lexists(path) and not overwrite:  # Path.exists() raises for a name that is too long
        raise OutputError("the name of a new file", f"{path}, which exists", "Choose another, or add --overwrite.")
