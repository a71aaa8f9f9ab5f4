"""Images for training and evaluation: any usual format, split by file, and an offline sample."""

from monai_iste.data.datasets import (
    evaluation_datalist,
    image_datalist,
    pixel_counts,
    split_datalist,
    training_datalists,
)
from monai_iste.data.sample import sample_datalists
from monai_iste.io.image_reader import IMAGE_SUFFIXES, image_size, read_rgb

__all__ = [
    "IMAGE_SUFFIXES",
    "evaluation_datalist",
    "image_datalist",
    "image_size",
    "pixel_counts",
    "read_rgb",
    "sample_datalists",
    "split_datalist",
    "training_datalists",
]
