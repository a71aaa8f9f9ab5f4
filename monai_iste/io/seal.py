"""Seal of a result: the job that made it, and a checksum by which it is known to be complete.

A seal is the last thing that is written into a file, in a place where readers skip it: a text chunk of a PNG, a comment
of a JPEG, bytes behind everything else in a TIFF. In a folder it is a file, or an attribute of OME-Zarr. It holds
fields given by the caller, the number of bytes before it, and a SHA-256 of the fields and of these bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from monai_iste.io.disk import Stamp

Fields = dict[str, str]

_WORD = b"monai_iste"
_LONGEST = 4096  # bytes at the end of a file in which a seal is looked for
_BLOCK = 2**20

#: File in a folder of DICOM instances that holds its seal.
SEAL_FILE = "monai_iste.json"

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"


# --- files ------------------------------------------------------------------------------------------------------------


def write_seal(path: Path, fields: Fields) -> None:
    """Append a seal to a finished file.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.tif"
        >>> file.write_bytes(b"II*")
        3
        >>> write_seal(file, {"job": "1"})
        >>> read_seal(file), read_seal(file.with_name("absent"))
        ({'job': '1'}, None)
    """
    with open(path, "r+b") as file:
        end = _format_end(file.read(8))
        length = file.seek(0, os.SEEK_END) - len(end)
        file.seek(0)
        tail = _tail(end, {**fields, "bytes": length, "sha256": _sha256(file, length, fields)})
        file.seek(length)
        file.write(tail)


def read_seal(path: Path) -> Fields | None:
    """Read the fields of a result that is as it was written; None if it is damaged, cut off, or has no seal.

    All of it is read, once per process.

    Args:
        path: a file, or a folder with :data:`SEAL_FILE` or of OME-Zarr.
    """
    try:
        if path.is_dir():
            return _read_folder_seal(path)
        return _read_file_seal(path, Stamp.of(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever damage makes of it
        return None


@lru_cache(maxsize=256)
def _read_file_seal(path: Path, stamp: Stamp) -> Fields | None:
    with open(path, "rb") as file:
        end = _format_end(file.read(8))
        file.seek(max(0, stamp.size - _LONGEST))
        tail = file.read()
        texts = re.findall(_WORD + rb"[\0 ](\{[^{}]*\})", tail)
        if not texts:
            return None
        fields: dict[str, Any] = json.loads(texts[-1])
        length = int(fields["bytes"])
        expected = _tail(end, fields)
        file.seek(0)
        if length + len(expected) != stamp.size or not tail.endswith(expected):
            return None
        if _sha256(file, length, _own(fields)) != fields["sha256"]:
            return None
    return _own(fields)


def _format_end(head: bytes) -> bytes:
    """Return the bytes with which a file of this format ends, and before which a seal is inserted."""
    if head.startswith(b"\x89PNG"):
        return _PNG_END
    return _JPEG_END if head.startswith(b"\xff\xd8") else b""


def _tail(end: bytes, fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields).encode("ascii")
    if end == _PNG_END:
        data = b"tEXt" + _WORD + b"\0" + text
        return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)) + end
    if end == _JPEG_END:
        return b"\xff\xfe" + struct.pack(">H", len(_WORD) + 3 + len(text)) + _WORD + b" " + text + end
    return b"\n" + _WORD + b" " + text + b"\n"


def _sha256(file: Any, length: int, fields: Fields | None = None) -> str:
    found = hashlib.sha256(b"" if fields is None else json.dumps(fields, sort_keys=True).encode())
    while length > 0:
        block = file.read(min(_BLOCK, length))
        if not block:
            raise OSError("a file that ends before its content does")
        found.update(block)
        length -= len(block)
    return found.hexdigest()


def _own(fields: dict[str, Any]) -> Fields:
    return {key: value for key, value in fields.items() if key not in ("bytes", "sha256")}


# --- folders ----------------------------------------------------------------------------------------------------------


def write_folder_seal(folder: Path, fields: Fields) -> None:
    """Seal a finished folder."""
    holder = folder / "zarr.json"
    if holder.is_file():
        group = json.loads(holder.read_text(encoding="utf-8"))
        seal = {**fields, **_folder_sums(folder, holder, group, fields)}
        group["attributes"].setdefault(_WORD.decode(), {})["seal"] = seal
        holder.write_text(json.dumps(group, indent=2), encoding="utf-8")
    else:
        holder = folder / SEAL_FILE
        holder.write_text(json.dumps({**fields, **_folder_sums(folder, holder, None, fields)}), encoding="utf-8")


def _read_folder_seal(folder: Path) -> Fields | None:
    holder = folder / "zarr.json"
    if holder.is_file():
        group = json.loads(holder.read_text(encoding="utf-8"))
        seal = group["attributes"][_WORD.decode()].pop("seal")
    else:
        holder, group = folder / SEAL_FILE, None
        seal = json.loads(holder.read_text(encoding="utf-8"))
    sums = _folder_sums(folder, holder, group, _own(seal))
    return _own(seal) if all(seal[key] == value for key, value in sums.items()) else None


def _folder_sums(folder: Path, holder: Path, group: Any, fields: Fields) -> dict[str, Any]:
    """Count and hash all files of a folder, by name, the fields, and the metadata that hold the seal without it."""
    if group is not None and not group["attributes"].get(_WORD.decode()):
        group["attributes"].pop(_WORD.decode(), None)
    found, total = hashlib.sha256(json.dumps([group, fields], sort_keys=True).encode()), 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != holder):
        size = path.stat().st_size
        with open(path, "rb") as file:
            found.update(f"{path.relative_to(folder).as_posix()} {size} {_sha256(file, size)}\n".encode())
        total += size
    return {"bytes": total, "sha256": found.hexdigest()}
