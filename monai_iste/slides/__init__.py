"""Whole slides: reading at any pixel size, super-resolution in bounded memory, writing as pyramids.

:class:`Slide` reads regions. :func:`plan_slide` describes a result. :class:`SlideJob` computes it, and can be
interrupted and resumed.
"""

from monai_iste.slides.job import SlideJob
from monai_iste.slides.plan import SlidePlan, plan_slide
from monai_iste.slides.provenance import network_provenance
from monai_iste.slides.reader import Slide
from monai_iste.slides.writers.writer import SlideMetadata, write_slide
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
