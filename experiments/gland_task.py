"""Gland segmentation task of Table III: the U-Net, its training data, and the conversion of classes to glands.

Not specified in the paper; all of it is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandFlipd,
    RandRotate90d,
    RandSpatialCropd,
    ScaleIntensityRanged,
    SpatialPadd,
    Transform,
)
from PIL import Image
from scipy import ndimage
from skimage.segmentation import expand_labels
from torch import nn

from experiments.datasets import read_instances
from experiments.gland_metrics import GlandScores
from monai_iste.errors import ConfigError, DataError
from monai_iste.io.files import make_folder, open_output
from monai_iste.io.image_reader import read_rgb
from monai_iste.transforms import RandStainJitterd

# --- from glands to classes and back ----------------------------------------------------------------------------------


def class_map(labels: np.ndarray, border: int = 0) -> np.ndarray:
    """Convert a label map of glands to classes: 0 outside, 1 inside and, with a border, 2 along the edges.

    Args:
        labels: label map, one number per gland.
        border: distance in rows and columns; pixels of a gland within it of background or of another gland are class 2.
    Shape:
        labels: (H, W); returns (H, W), uint8

    Example:
        >>> class_map(np.array([[0, 5, 5, 5, 7, 7, 7]]), border=1).tolist()
        [[0, 2, 1, 2, 2, 1, 1]]
    """
    glands = (labels > 0).astype(np.uint8)
    if border:
        around = (ndimage.minimum_filter, ndimage.maximum_filter)
        lowest, highest = (extreme(labels, 2 * border + 1, mode="nearest") for extreme in around)
        glands[(labels > 0) & (lowest != highest)] = 2
    return glands


def label_instances(classes: np.ndarray, border: int = 0, min_area: int = 400) -> np.ndarray:
    """Label glands in a class map: connected regions (4-neighbors) of class 1, without small holes and small regions.

    First, holes below ``min_area`` are filled. Then regions below ``min_area`` are removed. With a border, the regions
    grow back over class 2, by at most ``border * sqrt(2)`` pixels. Not specified in the paper; our choice: the default
    ``min_area``. In GlaS one gland in fifty is smaller than 1,000 pixels.

    Args:
        classes: class map.
        border: that of :func:`class_map`.
        min_area: smallest area of a gland or hole, in pixels.
    Shape:
        classes: (H, W); returns (H, W), int32: 1, 2, ... for glands, 0 elsewhere

    Example:
        >>> label_instances(np.array([[1, 1, 0, 1, 0, 0, 1, 1]]), min_area=2).tolist()
        [[1, 1, 1, 1, 0, 0, 2, 2]]
    """
    inside = ~_without_small(classes != 1, min_area)
    labels, _ = ndimage.label(_without_small(inside, min_area))
    if border:
        grown = expand_labels(labels, distance=border * 2**0.5)
        labels = np.where((labels > 0) | (classes == 2), grown, 0)
    return labels.astype(np.int32)


def _without_small(mask: np.ndarray, min_area: int) -> np.ndarray:
    regions, _ = ndimage.label(mask)
    large = np.bincount(regions.ravel()) >= min_area
    large[0] = False
    return large[regions]


def write_instances(path: Path, labels: np.ndarray) -> None:
    """Write a label map as a single-channel PNG, 8 or 16 bits; the write is atomic.

    Shape:
        labels: (H, W), 0 for background, up to 65,535
    Raises:
        DataError: a label is larger.
        OutputError: the file exists, or cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "map.png"
        >>> write_instances(file, np.array([[0, 300]]))
        >>> read_instances(file).tolist()
        [[0, 300]]
    """
    largest = int(labels.max(initial=0))
    if largest > 65_535:
        raise DataError("at most 65,535 objects in an image", f"{largest:,}", "Leave out small ones: --min-area.")
    with open_output(path) as file:
        Image.fromarray(labels.astype(np.uint8 if largest < 256 else np.uint16)).save(file, "PNG")


# --- the U-Net --------------------------------------------------------------------------------------------------------


class _ReadGlands(Transform):
    """Read image and mask paths as {image: (3, H, W), label: (1, H, W)}, uint8, cropped to a size the scale divides."""

    def __init__(self, border: int) -> None:
        self.border = border

    def __call__(self, item: Mapping[Any, Any]) -> dict[Any, Any]:
        image, labels = _read(item)
        return {"image": image, "label": class_map(labels, self.border)[None]}


def _read(item: Mapping[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read image and mask, cropped at the lower right to the size that the protocol uses."""
    image, labels = read_rgb(item["image"]), read_instances(item["mask"])
    height, width = item.get("size", image.shape[1:])
    return image[:, :height, :width], labels[:height, :width]


class GlandTask:
    """Gland segmentation with MONAI's U-Net: network, training data, loss, inference and scores.

    Not specified in the paper; our choice: five levels with two residual units each, batch normalization; Dice and
    cross entropy; random crops, flips, quarter turns and changes of the stain in training; sliding windows of the
    crops' size with Gaussian weights in the evaluation.

    Args:
        width: channels of the first level; each further level has twice as many.
        crop: side of the crops and windows in pixels, a multiple of 16.
        border: width of the third class that separates glands, see :func:`class_map`; 0 for two classes.
        min_area: see :func:`label_instances`.
        device: device of the network.
    Raises:
        ConfigError: the crop or the width is invalid.
    """

    def __init__(
        self, width: int = 16, crop: int = 256, border: int = 0, min_area: int = 400, device: str = "cpu"
    ) -> None:
        if crop < 32 or crop % 16 or width < 1:
            raise ConfigError(
                "a crop of a multiple of 16 from 32 up and a width of at least 1",
                f"{crop} and {width}",
                "The default is 256 and 16.",
            )
        self.width, self.crop, self.border, self.min_area, self.device = width, crop, border, min_area, device

    def network(self, seed: int) -> nn.Module:
        """Create a U-Net with random weights of that seed."""
        torch.manual_seed(seed)
        channels = tuple(self.width * 2**level for level in range(5))
        classes = 3 if self.border else 2
        return UNet(2, 3, classes, channels, (2, 2, 2, 2), num_res_units=2, norm="batch")

    def dataset(self, items: Sequence[Mapping[str, Any]]) -> CacheDataset:
        """Create the training set, {image: (3, crop, crop), label: (1, crop, crop)}, float32, cached in memory."""
        keys, size = ("image", "label"), (self.crop, self.crop)
        return CacheDataset(
            items,
            Compose(
                [
                    _ReadGlands(self.border),
                    SpatialPadd(keys, size, mode="edge"),
                    RandSpatialCropd(keys, size, random_size=False),
                    RandFlipd(keys, prob=0.5, spatial_axis=0),
                    RandFlipd(keys, prob=0.5, spatial_axis=1),
                    RandRotate90d(keys, prob=0.5, max_k=3),
                    RandStainJitterd("image", prob=0.8),  # the training has few patients
                    ScaleIntensityRanged("image", 0, 255, 0, 1),
                    EnsureTyped(keys, dtype=torch.float32, track_meta=False),
                ]
            ),
            progress=False,
        )

    def loss(self) -> nn.Module:
        """Create the loss: mean Dice over the classes, plus cross entropy."""
        return DiceCELoss(to_onehot_y=True, softmax=True)

    @torch.no_grad()
    def segment(self, network: nn.Module, image: np.ndarray) -> np.ndarray:
        """Segment the glands of an image.

        Args:
            network: network in evaluation mode, on the task's device.
        Shape:
            image: (3, H, W), uint8; returns (H, W), int32
        """
        inferer = SlidingWindowInferer((self.crop, self.crop), sw_batch_size=4, overlap=0.25, mode="gaussian")
        batch = torch.from_numpy(np.ascontiguousarray(image))[None].float().to(self.device) / 255
        return label_instances(inferer(batch, network)[0].argmax(0).cpu().numpy(), self.border, self.min_area)

    def score(self, network: nn.Module, items: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, float]:
        """Compute the scores of :class:`~experiments.gland_metrics.GlandScores` over the images.

        Args:
            network: network to score.
            items: images with their masks.
            folder: folder of the label maps, ``<name>.png`` per image; existing ones are read.
        """
        network.to(self.device).eval()
        make_folder(folder)
        scores = GlandScores()
        for item in items:
            image, truth = _read(item)
            file = folder / f"{item['name']}.png"
            if not file.is_file():
                write_instances(file, self.segment(network, image))
            scores.add(read_instances(file), truth)
        return scores.as_dict()

    @torch.no_grad()
    def validate(self, network: nn.Module, items: Sequence[Mapping[str, Any]]) -> float:
        """Compute the mean of F1 and object Dice over images, without writing label maps.

        Not specified in the paper; our choice: F1 alone counts a few hundred glands, and jumps.
        """
        scores = GlandScores()
        for item in items:
            image, truth = _read(item)
            scores.add(self.segment(network, image), truth)
        return (scores.f1 + scores.object_dice) / 2
