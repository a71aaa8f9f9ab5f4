"""MONAI data lists for training and evaluation: one dictionary per image."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from monai_iste.data.sample import sample_datalists
from monai_iste.errors import ConfigError, DataError, ScaleError
from monai_iste.io.folders import list_files
from monai_iste.io.image_reader import image_size
from monai_iste.io.pixels import IMAGE_SUFFIXES

_log = logging.getLogger(__name__)


def image_datalist(
    folder: str | os.PathLike[str],
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    log: Callable[[str], None] = _log.warning,
) -> list[dict]:
    """List the images of a folder and its subfolders, sorted by relative path, without hidden files.

    Links to folders are followed (:func:`~monai_iste.io.folders.list_files`). A link that leads nowhere is listed as
    the image that it is named as, and reading it raises a DataError.

    Args:
        suffixes: lower-case file name endings of images.
        log: receives one sentence about each folder that is not listed, and each other link that leads nowhere.
    Returns:
        per image ``{"image": path, "name": relative path without suffix}``, with forward slashes in the name.
    Raises:
        DataError: the folder is missing, is a file, or contains no image.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.png", "a.TIF", "notes.txt"):
        ...     (folder / name).touch()
        >>> [item["name"] for item in image_datalist(folder)]
        ['a', 'b']
    """
    root = Path(folder)
    if not root.exists():
        raise DataError("a folder of images", f"{root}, which does not exist", "Check the path.")
    if not root.is_dir():
        raise DataError("a folder of images", f"the file {root}", "Name the folder that holds it.")
    images = []
    for name in list_files(root, log):
        if suffix := _suffix(name, suffixes):
            images.append({"image": str(root / name), "name": name[: -len(suffix)]})
        elif not os.path.exists(root / name):
            log(f"{root / name} is left out: it is a link that leads nowhere")
    if not images:
        raise DataError(
            f"images ({', '.join(suffixes)}) in {root}", "none", "Name a folder that holds some, or convert them."
        )
    return images


def _suffix(name: str, suffixes: Sequence[str]) -> str:
    return next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")


def split_datalist(datalist: Sequence[dict], val_fraction: float = 0.1, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Split a data list into training and validation images, identically on every machine.

    The split is by file: it hashes each name with the seed and does not depend on the location of the folder. Tiles of
    one patient may be in both parts; to prevent that, provide ``train/`` and ``val/`` folders instead.

    Args:
        val_fraction: fraction of the images for validation, in (0, 1); each part receives at least one image.
    Raises:
        DataError: there are fewer than two images.
        ConfigError: the fraction is not in (0, 1).

    Example:
        >>> train, val = split_datalist([{"name": name} for name in "abcdefghij"], val_fraction=0.2)
        >>> len(train), len(val)
        (8, 2)
    """
    if not 0 < val_fraction < 1:
        raise ConfigError("val_fraction between 0 and 1", repr(val_fraction), "Give a fraction such as 0.1.")
    if len(datalist) < 2:
        raise DataError(
            "at least two images to split into training and validation",
            f"{len(datalist)} ({', '.join(item['name'] for item in datalist)})",
            "Add images, or cut the image in two.",
        )
    count = min(max(1, round(val_fraction * len(datalist))), len(datalist) - 1)

    def rank(index: int) -> str:
        return hashlib.sha256(f"{seed}:{datalist[index]['name']}".encode()).hexdigest()

    chosen = set(sorted(range(len(datalist)), key=rank)[:count])
    train = [item for i, item in enumerate(datalist) if i not in chosen]
    return train, [datalist[i] for i in sorted(chosen)]


def training_datalists(
    dataset_dir: str | os.PathLike[str] | None, min_size: int, native_dir: str | os.PathLike[str] | None = None
) -> tuple[list[dict], list[dict]]:
    """List training and validation images: those of ``train/`` and ``val/``, or the folder's images split by file.

    Args:
        dataset_dir: folder of images; None or empty for the offline sample (:func:`sample_datalists`).
        min_size: smallest allowed shorter side of an image in pixels: low-resolution size times largest scale.
        native_dir: folder of further training images, at their scanner's own resolution. With it, every training item
            has an entry ``"native"``, true for these (:class:`~monai_iste.transforms.RandTruthCropd`).
    Raises:
        DataError: the folder is not usable, a file is unreadable, or an image is too small; the first file is named.

    Example:
        >>> train, val = training_datalists(None, min_size=192)
        >>> train[0]["name"]
        'immunohistochemistry-train'
    """
    if not dataset_dir:
        train, val = sample_datalists()
    elif all((Path(dataset_dir) / part).is_dir() for part in ("train", "val")):
        train, val = (image_datalist(Path(dataset_dir) / part) for part in ("train", "val"))
    else:
        train, val = split_datalist(image_datalist(dataset_dir))
    if native_dir:
        native = image_datalist(native_dir)
        train = [*({**item, "native": False} for item in train), *({**item, "native": True} for item in native)]
    for item in (*train, *val):
        height, width = _size(item)
        if min(height, width) < min_size:
            image = item["image"]
            raise DataError(
                f"images of at least {min_size} x {min_size} pixels",
                f"{item['name'] if isinstance(image, np.ndarray) else image} of {width} x {height}",
                "Use larger images, or lower --max_scale or --lr_size.",
            )
    return train, val


def pixel_counts(datalist: Iterable[dict]) -> list[int]:
    """Count the pixels of every image of a data list, as weights of a sampler.

    With these weights all pixels are equally likely. With equal weights, small tiles would be sampled more often than
    their area of tissue.

    Example:
        >>> pixel_counts([{"image": np.zeros((3, 20, 30), np.uint8)}])
        [600]
    """
    return [math.prod(_size(item)) for item in datalist]


def steps_per_epoch(datalist: Sequence[dict], crops_per_image: int, batch_size: int) -> int:
    """Compute the steps after which every image of a data list has given that many crops, rounded up.

    Several processes of one training take their steps together (:class:`~monai_iste.data.seeded.SeededSampler`).

    Args:
        crops_per_image: crops of every image in an epoch.
        batch_size: crops per step and process.

    Example:
        >>> steps_per_epoch([{"image": "a.png"}] * 320, crops_per_image=1, batch_size=16)
        20
    """
    parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
    processes = torch.distributed.get_world_size() if parallel else 1
    return math.ceil(len(datalist) * crops_per_image / (batch_size * processes))


def truth_weights(datalist: Iterable[dict], native_share: float = 0.2) -> list[float]:
    """Compute the probability of every image of a data list: by its pixels, with a fixed share for native images.

    Native images have more pixels for the same tissue, so that pixels alone would draw them too often. All native
    images are equally likely.

    Args:
        native_share: probability of a native image (the entry ``"native"`` is true), if there is one.
    Raises:
        ConfigError: the share is not in [0, 1).

    Example:
        >>> tile = np.zeros((3, 20, 30), np.uint8)
        >>> truth_weights([{"image": tile}, {"image": tile}, {"image": tile, "native": True}], 0.2)
        [0.4, 0.4, 0.2]
    """
    if not 0 <= native_share < 1:
        raise ConfigError("native_share in [0, 1)", repr(native_share), "0.2 draws every fifth crop from them.")
    items = list(datalist)
    native = [bool(item.get("native", False)) for item in items]
    pixels = [0 if skip else count for skip, count in zip(native, pixel_counts(items), strict=True)]
    share = native_share if any(native) else 0.0
    if not sum(pixels):
        return [1 / len(items)] * len(items)
    return [
        share / sum(native) if is_native else (1 - share) * count / sum(pixels)
        for is_native, count in zip(native, pixels, strict=True)
    ]


def _size(item: dict) -> tuple[int, int]:
    image = item["image"]
    return image.shape[1:] if isinstance(image, np.ndarray) else image_size(image)


def evaluation_datalist(datalist: Iterable[dict], scales: Iterable[float]) -> list[dict]:
    """Combine every image with every scale, images outermost: copies of the entries with a float ``"scale"``.

    Raises:
        ScaleError: a scale is not a finite number of at least 1, or there are no scales.

    Example:
        >>> [(item["name"], item["scale"]) for item in evaluation_datalist([{"name": "a"}], (2, 3.7))]
        [('a', 2.0), ('a', 3.7)]
    """
    try:
        values = [float(scale) for scale in scales]
    except (TypeError, ValueError):
        values = []
    if not values:
        raise ScaleError("a list of scales", repr(scales), "Give scales such as [2, 3.7].")
    for scale in values:
        if not (math.isfinite(scale) and scale >= 1):
            raise ScaleError("finite scales of at least 1", repr(scale), "Give scales such as 2 or 3.7.")
    return [{**item, "scale": scale} for item in datalist for scale in values]
