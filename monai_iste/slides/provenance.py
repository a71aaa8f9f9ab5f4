"""What a magnified slide says of how it was made, and what it is recognized by."""

from __future__ import annotations

import os
import re
from pathlib import Path

import tifffile

from monai_iste.io.files import checksum
from monai_iste.networks import released_weights


def origin(preset: str, weights: str | os.PathLike[str] | None = None, precision: str = "fp32") -> dict[str, str]:
    """What a result says of the network that made it: never a path, which may name people.

    Args:
        weights: their file; default: the preset's released ones.
    """
    weights = weights or released_weights(preset)
    made_by = "random" if weights is None else f"sha256 {checksum(weights)}"
    return {"preset": preset, "weights": made_by, "precision": precision}


def stated_job(path: Path) -> str | None:
    """The digest of the plan (:class:`~monai_iste.slides.plan.SlidePlan`) that a written OME-TIFF or OME-Zarr carries.

    None where there is none, or where the file is something else.
    """
    try:
        if path.is_dir():
            text = (path / "zarr.json").read_text(encoding="utf-8")
        else:
            with tifffile.TiffFile(path) as tiff:
                text = tiff.ome_metadata or ""
    except (OSError, UnicodeDecodeError, tifffile.TiffFileError):
        return None
    found = re.search(r"\bjob\b\W+([0-9a-f]{64})\b", text)
    return None if found is None else found[1]
