"""Drawing of tissue for packages of the weights: no patient's pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image
from skimage.draw import ellipse
from skimage.filters import gaussian


def drawn_tissue(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw tissue-like pixels: (height, width, 3) uint8, pink ground with fibers, violet nuclei with chromatin.

    It is drawn, not photographed, so that a package holds pixels of no patient. The drawing is four times as large and
    then reduced, as a scanner does.

    Example:
        >>> drawn_tissue(20, 30).shape
        (20, 30, 3)
    """
    random = np.random.default_rng(seed)
    zoom = 4
    size = (zoom * height, zoom * width)
    fibers = gaussian(random.normal(size=size), (2, 14)) * 0.9 + gaussian(random.normal(size=size), (12, 3)) * 0.6
    ground = np.array([0.90, 0.70, 0.82]) + fibers[..., None] * np.array([0.8, 1.4, 1.0])
    chromatin = gaussian(random.normal(size=size), 2.2) * 2.2
    for _ in range(height * width // 110):
        y, x = random.uniform(0, size[0]), random.uniform(0, size[1])
        long, short = random.uniform(13, 22), random.uniform(9, 14)
        rows, columns = ellipse(y, x, long, short, size, random.uniform(0, np.pi))
        shade = 1 + chromatin[rows, columns]
        ground[rows, columns] = np.array([0.42, 0.29, 0.58]) * shade[:, None]
    pixels = (gaussian(ground, 1.2, channel_axis=-1).clip(0, 1) * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
