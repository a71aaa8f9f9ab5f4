"""Whole slides: read at any pixel size, magnified in bounded memory, written as pyramids.

:class:`Slide` reads, :func:`plan_slide` says what shall come out, :class:`SlideJob` makes it, whatever interrupts it.
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
