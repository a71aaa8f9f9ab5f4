"""TMA: cores of a tissue microarray, 573 images at 0.504 um per pixel, split 460 / 57 / 56.

These are the paper's numbers. The paper does not name the array; we infer it from the code of Li et al. (Medical Image
Analysis 2020, github.com/uw-loci/demo_wsi_superres), one of its baselines, which downloads such a set as JPEG. See
docs/datasets.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from experiments.preparation.output_folder import (
    Plan,
    PlannedImage,
    assign_folders,
    check_counts,
    fill_folder,
    source_digest,
)
from monai_iste.data.datasets import image_datalist
from monai_iste.errors import DataError
from monai_iste.io.image_reader import image_size, read_rgb

#: Number of images for training, validation and test (the paper).
COUNTS = (460, 57, 56)

#: Micrometers per pixel (the paper); the files do not state it.
MPP = 0.504

_SMALLEST = 192  # 48 low-resolution pixels at x4


def prepare_tma(
    source: Path, root: Path, seed: int = 0, counts: Sequence[int] = COUNTS, quiet: bool = False
) -> dict[str, Any]:
    """Split the images of a folder and its subfolders, and write them as numbered PNG files.

    Not specified in the paper; our choice: the split is drawn by a hash of seed and name. Cores of one patient may be
    in several parts, because the images do not identify patients.

    Args:
        source: folder of the unpacked set.
        root: see :func:`~experiments.preparation.output_folder.fill_folder`.
        seed: seed of the split.
        counts: number of images for train, val and test; they add up to the number of images in the folder.
        quiet: whether to hide the progress bar.
    Returns:
        the manifest.
    Raises:
        ConfigError: the counts are invalid.
        DataError: the number of images differs, or an image is unreadable or smaller than 192 x 192.
        OutputError: see :func:`~experiments.preparation.output_folder.fill_folder`.
    """
    parts = check_counts(counts)
    datalist = image_datalist(source)
    if len(datalist) != sum(counts):
        raise DataError(
            f"{sum(counts)} images in {source}, {', '.join(f'{n} {part}' for part, n in parts.items())}",
            str(len(datalist)),
            "Unpack the whole set, with nothing beside it, or give other --counts.",
        )
    paths = [Path(item["image"]) for item in datalist]
    digest = source_digest(source, paths)
    job = {"name": "tma", "seed": seed, "counts": parts, "source": digest}

    @contextmanager
    def plan() -> Iterator[Plan]:
        folders = assign_folders([item["name"] for item in datalist], parts, seed)
        about = {"mpp": MPP, "protocol": "iste-rgb", "source": {"images": len(paths), "digest": digest}}
        images = [
            PlannedImage(f"{folder}/tma-{number:04d}.png", _checked_size(path), partial(read_rgb, path), (MPP, MPP))
            for number, (folder, path) in enumerate(zip(folders, paths, strict=True), start=1)
        ]
        yield Plan(images, about)

    return fill_folder(root, job, plan, quiet)


def _checked_size(path: Path) -> tuple[int, int]:
    height, width = image_size(path)
    if min(height, width) < _SMALLEST:
        raise DataError(
            f"an image of at least {_SMALLEST} x {_SMALLEST} pixels in {path}",
            f"{height} x {width} (H x W)",
            "Use the full-resolution cores.",
        )
    return height, width
