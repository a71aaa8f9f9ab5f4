"""Provenance of a super-resolved slide: the network that made it."""

from __future__ import annotations

import os

from monai_iste.io.files import checksum
from monai_iste.networks import released_weights


def network_provenance(
    preset: str,
    weights: str | os.PathLike[str] | None = None,
    precision: str = "fp32",
    input_blur: float | None = None,
) -> dict[str, str]:
    """Describe the network of a result: preset, checksum of the weights, precision, and the blur that it was told.

    Paths are left out, because they may name people.

    Args:
        weights: file of the weights; default: the released ones of the preset.
        input_blur: blur of the slide in its pixels, as the network was told; None: it was not.
    """
    weights = weights or released_weights(preset)
    made_by = "random" if weights is None else f"sha256 {checksum(weights)}"
    told = {} if input_blur is None else {"input_blur": str(float(input_blur) + 0.0)}
    return {"preset": preset, "weights": made_by, "precision": precision, **told}
