"""Data lists for training and evaluation, and an offline sample."""

from monai_iste.data.datasets import (
    evaluation_datalist,
    image_datalist,
    pixel_counts,
    training_datalists,
    truth_weights,
)
from monai_iste.data.sample import sample_datalists

__all__ = [
    "evaluation_datalist",
    "image_datalist",
    "pixel_counts",
    "sample_datalists",
    "training_datalists",
    "truth_weights",
]
