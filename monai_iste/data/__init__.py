"""Data lists for training and evaluation, and an offline sample."""

from monai_iste.data.datasets import (
    evaluation_datalist,
    image_datalist,
    pixel_counts,
    steps_per_epoch,
    training_datalists,
    truth_weights,
)
from monai_iste.data.sample import sample_datalists

__all__ = [
    "evaluation_datalist",
    "image_datalist",
    "pixel_counts",
    "sample_datalists",
    "steps_per_epoch",
    "training_datalists",
    "truth_weights",
]
