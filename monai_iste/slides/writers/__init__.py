"""Writers of pyramidal slides: OME-TIFF, OME-Zarr and DICOM."""

from monai_iste.slides.writers.pyramid import Pyramid, SlideMetadata
from monai_iste.slides.writers.writer import write_slide

__all__ = ["Pyramid", "SlideMetadata", "write_slide"]
