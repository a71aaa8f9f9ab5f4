"""Inference on images larger than one pass of a network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from monai_iste.inferers.tiling import Region
from monai_iste.inferers.tiling import Tiler as Tiler

if TYPE_CHECKING:
    from monai_iste.inferers.arbitrary_scale import ArbitraryScaleInferer

__all__ = ["ArbitraryScaleInferer", "Region"]


def __getattr__(name: str) -> Any:
    """Import the MONAI interface at its first use: the tiling itself does without MONAI."""
    if name == "ArbitraryScaleInferer":
        from monai_iste.inferers.arbitrary_scale import ArbitraryScaleInferer

        return ArbitraryScaleInferer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "monai" in sys.modules:  # registers the short name for MONAI's configurations
    from monai_iste.inferers.arbitrary_scale import ArbitraryScaleInferer
