"""Consistency maps, written out: the whole image at once, block by block, one axis after the other."""

import math

import numpy as np
from PIL import Image, ImageFilter
from reference import _cubic


def _weights(n, big):
    """Weights (big, n) of the four pixels around each output pixel; beyond the border the last pixel repeats."""
    weights = np.zeros((big, n))
    for i in range(big):
        position = (i + 0.5) * n / big - 0.5
        for pixel in range(math.floor(position) - 1, math.floor(position) + 3):
            weights[i, min(max(pixel, 0), n - 1)] += _cubic(position - pixel)
    return weights


def interpolated(x, size):
    """B(x): the slide (3, h, w) interpolated to (H, W, 3), in whole levels."""
    rows, columns = (_weights(n, big) for n, big in zip(x.shape[1:], size, strict=True))
    levels = [rows @ channel.astype(float) @ columns.T for channel in x]
    return np.stack(levels, axis=2).clip(0, 255).round().astype(np.uint8)


def reduced(y, size):
    """D(y): (h, w, 3), not rounded."""
    sigma = ((y.shape[0] / size[0] + y.shape[1] / size[1]) / 2 - 1) / 2
    blurred = np.asarray(Image.fromarray(y).filter(ImageFilter.GaussianBlur(sigma)), np.float32)
    channels = [Image.fromarray(np.ascontiguousarray(blurred[..., c])) for c in range(3)]
    return np.stack([np.asarray(one.resize(size[::-1], Image.Resampling.BICUBIC)) for one in channels], axis=2).clip(
        0, 255
    )


def literal_consistency(x, y, block):
    """Maps of a result y (H, W, 3) of a slide x (3, h, w), and of interpolation: {"network", "bicubic"}."""
    slide, maps = x.transpose(1, 2, 0).astype(float), {}
    for name, result in (("network", y), ("bicubic", interpolated(x, y.shape[:2]))):
        low = reduced(result, slide.shape[:2])
        found = np.zeros([math.ceil(n / block) for n in slide.shape[:2]])
        for i in range(found.shape[0]):
            for j in range(found.shape[1]):
                place = (slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block))
                found[i, j] = np.abs(low[place] - slide[place]).mean()
        maps[name] = found
    return maps
