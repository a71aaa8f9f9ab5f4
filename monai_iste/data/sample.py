"""Offline sample data: one real slide image that is part of the scikit-image wheel."""

from __future__ import annotations

import numpy as np
from skimage.data import immunohistochemistry

# Rows of the 512 x 512 sample used for training; the rows below are used for validation.
_TRAIN_ROWS = 320


def sample_datalists() -> tuple[list[dict], list[dict]]:
    """Load training and validation regions of scikit-image's ``immunohistochemistry`` image, without network access.

    The image shows colonic tissue stained by immunohistochemistry (brown DAB, blue hematoxylin), **not** H&E. It is
    sufficient to try the programs and to see a loss decrease, not to train a model for use. The regions are disjoint
    (rows 0 to 319 and 320 to 511) but come from one slide.

    Shape:
        returns (train, val), one entry each: ``{"image": (3, H, W) contiguous array, "name": str}``.
    Units: uint8, 0 to 255.

    Example:
        >>> train, val = sample_datalists()
        >>> train[0]["image"].shape, val[0]["image"].shape, val[0]["name"]
        ((3, 320, 512), (3, 192, 512), 'immunohistochemistry-validation')
    """
    image = immunohistochemistry().transpose(2, 0, 1)
    regions = {"train": image[:, :_TRAIN_ROWS], "validation": image[:, _TRAIN_ROWS:]}
    train, val = (
        [{"image": np.ascontiguousarray(region), "name": f"immunohistochemistry-{name}"}]
        for name, region in regions.items()
    )
    return train, val
