"""Plain values in JSON files: manifests, results, the settings of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_iste.images import open_output

__all__ = ["read_json", "write_json"]


def read_json(path: Path) -> Any:
    """The contents of a file of :func:`write_json`, or None if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_json(path: Path, value: Any) -> None:
    """Write plain values in place of what is there; the file appears complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with open_output(path, overwrite=True) as file:
        file.write(json.dumps(value, indent=1).encode() + b"\n")
