"""Tumor classification task of Table IV: classifier, training data, test patches and scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.networks.nets import resnet10, resnet18, resnet50
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandRotate90d, ScaleIntensityRanged
from torch import nn

from experiments.downstream import Reconstructor
from monai_iste.errors import ConfigError, DataError
from monai_iste.io.files import make_folder, open_output
from monai_iste.transforms import RandStainJitterd

#: Classifiers by name; the paper's is resnet50.
NETWORKS = {"resnet50": resnet50, "resnet18": resnet18, "resnet10": resnet10}

#: Number of patches that are reconstructed, stored and classified together.
BLOCK = 256

Items = Sequence[Mapping[str, Any]]


class Confusion:
    """Confusion matrix of two classes, with accuracy in percent and the F1 of class 1 (tumor).

    ``F1 = 2 TP / (2 TP + FP + FN)``.

    Example:
        >>> confusion = Confusion()
        >>> confusion.add(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1]))
        >>> confusion.as_dict()
        {'accuracy': 50.0, 'f1': 0.5}
    """

    def __init__(self) -> None:
        self.counts = np.zeros((2, 2), int)  # rows: predicted, columns: true

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Add predictions and true classes, 0 or 1, of any equal shape."""
        np.add.at(self.counts, (predicted.ravel(), truth.ravel()), 1)

    @property
    def mean_recall(self) -> float:
        """Mean of the fractions of both classes that were recognized, in percent; 50 is chance."""
        return 100 * float(np.mean([self.counts[c, c] / max(1, self.counts[:, c].sum()) for c in range(2)]))

    def as_dict(self) -> dict[str, float]:
        """Return ``accuracy`` in percent and ``f1``, which is 0 if there is no tumor and none was predicted.

        Raises:
            DataError: nothing was added.
        """
        if not self.counts.sum():
            raise DataError("at least one patch to score", "none", "Name a test set that has some.")
        (right_0, missed), (false, right_1) = self.counts.tolist()
        found = 2 * right_1 + missed + false
        return {
            "accuracy": 100 * (right_0 + right_1) / int(self.counts.sum()),
            "f1": 2 * right_1 / found if found else 0.0,
        }


def create_classifier(name: str, seed: int) -> nn.Module:
    """Create MONAI's ResNet for RGB images of any size and two classes, with random weights of a seed.

    Args:
        name: key of :data:`NETWORKS`.
        seed: seed of the weights.
    Shape:
        (B, 3, H, W) in [0, 1] -> (B, 2)
    Raises:
        ConfigError: no such network.

    Example:
        >>> create_classifier("resnet18", seed=0).eval()(torch.zeros(1, 3, 48, 48)).shape
        torch.Size([1, 2])
    """
    if name not in NETWORKS:
        raise ConfigError(f"a network: {', '.join(NETWORKS)}", repr(name), "Choose one of these.")
    torch.manual_seed(seed)
    return NETWORKS[name](spatial_dims=2, n_input_channels=3, num_classes=2, conv1_t_stride=2)


def training_set(items: Items) -> Dataset:
    """Create the training set {image: (3, H, W) float32 in [0, 1], label: 0 or 1}: random flips, turns and stains."""
    return Dataset(
        items,
        Compose(
            [
                RandFlipd("image", prob=0.5, spatial_axis=0),
                RandFlipd("image", prob=0.5, spatial_axis=1),
                RandRotate90d("image", prob=0.5, max_k=3),
                RandStainJitterd("image", prob=0.8),
                ScaleIntensityRanged("image", 0, 255, 0, 1),
                EnsureTyped("image", dtype=torch.float32, track_meta=False),
            ]
        ),
    )


class PatchViews:
    """Test patches of one setting, in blocks; reconstructions are computed once and stored.

    Args:
        setting: ``original``, ``low_resolution``, or any other name for a reconstruction.
        reconstructor: reconstructor of the patches.
        folder: folder for blocks of reconstructions, (N, 3, H, W) uint8 in ``.npy`` files.
    """

    def __init__(self, setting: str, reconstructor: Reconstructor, folder: Path) -> None:
        self.setting, self.reconstructor = setting, reconstructor
        self.folder = folder / reconstructor.name

    def blocks(self, items: Items) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images (N, 3, H, W) uint8 and labels (N,), at most 256 at a time."""
        for start in range(0, len(items), BLOCK):
            block = [items[i] for i in range(start, min(start + BLOCK, len(items)))]
            labels = np.array([item["label"] for item in block])
            yield self._images(block, self.folder / f"block-{start // BLOCK:05}.npy"), labels

    def _images(self, block: Items, file: Path) -> np.ndarray:
        kept = self.setting not in ("original", "low_resolution")
        if kept and file.is_file():
            return _read_images(file, len(block))
        which = {"original": 0, "low_resolution": 1}.get(self.setting, 2)
        images = np.stack([self.reconstructor(np.asarray(item["image"]))[which] for item in block])
        if kept:
            make_folder(file.parent)
            with open_output(file) as out:
                np.save(out, images)
        return images


def _read_images(file: Path, count: int) -> np.ndarray:
    """Read a block of reconstructions that was kept.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    remedy = "Remove it: it is then computed again."
    try:
        images = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"an array in {file}", f"a file that is damaged ({error})", remedy) from error
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[:2] != (count, 3):
        received = f"{getattr(images, 'dtype', 'several')} {getattr(images, 'shape', 'arrays')}"
        raise DataError(f"{count} images (3, H, W) of uint8 in {file}", received, remedy)
    return images


def classify(network: nn.Module, blocks: Iterable[tuple[np.ndarray, np.ndarray]], device: str) -> dict[str, float]:
    """Classify blocks of images (N, 3, H, W) uint8 with labels (N,), and return the scores."""
    return _confusion(network.to(device), blocks, device).as_dict()


def validate(network: nn.Module, items: Items, device: str) -> float:
    """Classify the original patches and return the mean recall of both classes, in percent.

    Not specified in the paper; our choice: unlike accuracy, it is not high for a network that names one class always.
    """
    starts = range(0, len(items), BLOCK)
    blocks = ([items[i] for i in range(start, min(start + BLOCK, len(items)))] for start in starts)
    arrays = ((np.stack([item["image"] for item in b]), np.array([item["label"] for item in b])) for b in blocks)
    return _confusion(network, arrays, device).mean_recall


@torch.no_grad()
def _confusion(network: nn.Module, blocks: Iterable[tuple[np.ndarray, np.ndarray]], device: str) -> Confusion:
    network.eval()
    confusion = Confusion()
    for images, labels in blocks:
        scores = network(torch.from_numpy(images).to(device).float() / 255)
        confusion.add(scores.argmax(1).cpu().numpy(), labels)
    return confusion
