"""SHA-256 of files, and the list of them that released weights must agree with."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from monai_iste.errors import CheckpointError

__all__ = ["CHECKSUMS", "checksum", "checksums", "verified"]

#: The list beside released weights; ``sha256sum -c`` reads it too.
CHECKSUMS = "SHA256SUMS"


def checksum(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """What the list in a folder says of each of its files; empty where there is none."""
    path = folder / CHECKSUMS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def verified(path: Path) -> Path:
    """The file, if it is what the list beside it says.

    Raises:
        CheckpointError: it is not, or the list does not name it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "weights"
        >>> file.write_bytes(b"1")
        1
        >>> file.with_name(CHECKSUMS).write_text(f"{checksum(file)}  weights")
        73
        >>> verified(file) == file
        True
    """
    expected, received = checksums(path.parent).get(path.name), checksum(path)
    if received != expected:
        raise CheckpointError(
            f"released weights {path.name} with SHA-256 {expected or 'in the list beside them'}",
            f"{path}, which has {received}",
            "Install monai_iste again, or name the file as your own (--weights, --checkpoint).",
        )
    return path
