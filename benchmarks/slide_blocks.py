"""Scores of a whole slide, block by block: closeness to the ground truth over tissue, and nuclei."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from skimage.metrics import structural_similarity

from benchmarks.common import Row
from experiments.nucleus_task import agreement, centroids, find_nuclei
from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.slides.tissue import TissueMask

__all__ = ["MARGIN", "Block", "blocks_of", "score_block", "summary"]

MARGIN = 5  # radius of SSIM's window

BORDER = 8  # pixels at the border of the compared area that are not scored, as in the protocols

MATCHED = 3.0  # micrometers between matched nuclei, as in ``experiments nuclei``


class Block(NamedTuple):
    """Part of the compared area with its tissue, (height, width) bool."""

    region: Region
    tissue: np.ndarray


def blocks_of(box: Region, side: int, mask: TissueMask, scale: int) -> list[Block]:
    """List the blocks that hold tissue which is super-resolved fully, without the border of the area."""
    found = []
    for top in range(0, box.height, side):
        for left in range(0, box.width, side):
            part = Region(top, left, min(side, box.height - top), min(side, box.width - left))
            rows, columns = (torch.arange(at, at + n) for at, n in ((top, part.height), (left, part.width)))
            y, x = ((index.double() + 0.5) / scale - 0.5 for index in (rows, columns))
            tissue = mask.weight(y, x) > 1 - 1e-6
            for index, length, axis in ((rows, box.height, 0), (columns, box.width, 1)):
                scored = (index >= BORDER) & (index < length - BORDER)
                tissue &= scored.unsqueeze(1 - axis)
            if tissue.any():
                found.append(Block(part, tissue.numpy()))
    if not found:
        raise DataError("an area with tissue", "background only", "Choose another --region.")
    return found


def score_block(image: np.ndarray, truth: np.ndarray, part: Region, tissue: np.ndarray, mpp: float) -> Row:
    """Score one block of an image, given with a margin for SSIM's window.

    Args:
        part: the block in the arrays.
        tissue: pixels that count.
    Shape:
        image, truth: (H, W, 3), uint8; tissue: (part.height, part.width)
    Units: mpp in micrometers per pixel.
    Returns:
        ``pixels``, the number of pixels that count; ``squared_error``, its sum over them, mean over channels, in
        squared levels; ``ssim``, the sum of the map of SSIM (Gaussian window of 11, sigma 1.5, mean over channels); and
        if half of the block or more counts, numbers of nuclei: ``there``, ``found``, ``matched``.
    """
    _, similarity = structural_similarity(
        image,
        truth,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
        full=True,
    )
    here = part.slices
    error = np.square(image[here].astype(np.float64) - truth[here]).mean(2)
    row: Row = {
        "pixels": int(tissue.sum()),
        "squared_error": float(error[tissue].sum()),
        "ssim": float(similarity[here].mean(2)[tissue].sum()),
    }
    if 2 * row["pixels"] >= tissue.size:
        there, found = (centroids(find_nuclei(one[here].transpose(2, 0, 1), mpp), mpp) for one in (truth, image))
        row |= agreement(there, found, MATCHED)._asdict()
    return row


def summary(rows: Sequence[Row]) -> Row:
    """Summarize the blocks of one method.

    Returns:
        ``psnr``, of the mean squared error over all pixels that count; ``ssim``, the mean of its map over them;
        ``there`` and ``found``, numbers of nuclei; ``count_error``, the absolute difference of the counts in percent of
        the count on the slide, mean over blocks; ``bias``, the difference of the sums in percent; ``f1`` of all blocks.
    """
    pixels = sum(row["pixels"] for row in rows)
    error = math.fsum(row["squared_error"] for row in rows) / pixels
    counted = [row for row in rows if row.get("there")]
    there, found, matched = (sum(row[key] for row in counted) for key in ("there", "found", "matched"))
    errors = [100 * abs(row["found"] - row["there"]) / row["there"] for row in counted]
    return {
        "blocks": len(rows),
        "megapixels": pixels / 1e6,
        "psnr": 10 * math.log10(255**2 / error) if error else math.inf,
        "ssim": math.fsum(row["ssim"] for row in rows) / pixels,
        "blocks_counted": len(counted),
        "there": there,
        "found": found,
        "count_error": sum(errors) / len(errors) if errors else None,
        "bias": 100 * (found - there) / there if there else None,
        "f1": 2 * matched / (there + found) if there else None,
    }
