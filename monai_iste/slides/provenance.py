"""Provenance of a super-resolved slide: the network that made it."""

from __future__ import annotations

import os

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
