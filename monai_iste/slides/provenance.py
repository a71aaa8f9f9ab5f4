"""Provenance of a super-resolved slide: the network that made it, and the job by which it is recognized."""

from __future__ import annotations

import os
import re
from pathlib import Path

import tifffile

from monai_iste.io.files import checksum
from monai_iste.networks import released_weights


def network_provenance(
    preset: str, weights: str | os.PathLike[str] | None = None, precision: str = "fp32"
) -> dict[str, str]:
    """Describe the network that makes a result: preset, checksum of the weights, precision.

    Paths are left out, because they may name people.

    Args:
        weights: file of the weights; default: the released ones of the preset.
    """
    weights = weights or released_weights(preset)
    made_by = "random" if weights is None else f"sha256 {checksum(weights)}"
    return {"preset": preset, "weights": made_by, "precision": precision}


def stated_job(path: Path) -> str | None:
    """Read the digest of the plan (:class:`~monai_iste.slides.plan.SlidePlan`) from an OME-TIFF or OME-Zarr.

    Returns:
        the digest; None if there is none, or if the file has another format.
    """
    try:
        if path.is_dir():
            text = (path / "zarr.json").read_text()
        else:
            with tifffile.TiffFile(path) as tiff:
                text = tiff.ome_metadata or ""
    except (OSError, UnicodeDecodeError, tifffile.TiffFileError):
        return None
    found = re.search(r"\bjob\b\W+([0-9a-f]{64})\b", text)
    return None if found is None else found[1]
