"""Whole slides: reading at any pixel size, super-resolution in bounded memory, writing as pyramids.

:class:`Slide` reads regions. :func:`plan_slide` describes a result. :class:`SlideJob` computes it, and can be
interrupted and resumed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_iste.slides.job import SlideJob
from monai_iste.slides.plan import SlidePlan, plan_slide
from monai_iste.slides.provenance import network_provenance
from monai_iste.slides.reader import Slide
from monai_iste.slides.writers.writer import SlideMetadata, write_slide

if TYPE_CHECKING:
    from monai_iste.slides.wsi_reader import SuperResolvedWSIReader

__all__ = [
    "Slide",
    "SlideJob",
    "SlideMetadata",
    "SlidePlan",
    "SuperResolvedWSIReader",
    "network_provenance",
    "plan_slide",
    "write_slide",
]


def __getattr__(name: str) -> Any:
    """Import MONAI's reader interface at its first use: slides themselves do without MONAI."""
    if name == "SuperResolvedWSIReader":
        return import_module(f"{__name__}.wsi_reader").SuperResolvedWSIReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "monai" in sys.modules:  # registers the short name for MONAI's configurations
    from monai_iste.slides.wsi_reader import SuperResolvedWSIReader
