"""Writers of pyramidal slides: OME-TIFF, OME-Zarr and DICOM."""

from monai_iste.slides.writers.pyramid import Pyramid as Pyramid
from monai_iste.slides.writers.pyramid import SlideMetadata as SlideMetadata
from monai_iste.slides.writers.writer import write_slide as write_slide
