"""Inference on images larger than one pass of a network."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_iste.inferers.tiling import Region
from monai_iste.inferers.tiling import Tiler as Tiler

if TYPE_CHECKING:
    from monai_iste.inferers.arbitrary_scale import ArbitraryScaleInferer
    from monai_iste.inferers.grid import GridInferer

__all__ = ["ArbitraryScaleInferer", "GridInferer", "Region"]

_MODULES = {"ArbitraryScaleInferer": "arbitrary_scale", "GridInferer": "grid"}


def __getattr__(name: str) -> Any:
    """Import a MONAI interface at its first use: the tiling itself does without MONAI."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "monai" in sys.modules:  # registers the short names for MONAI's configurations
    from monai_iste.inferers.arbitrary_scale import ArbitraryScaleInferer
    from monai_iste.inferers.grid import GridInferer
