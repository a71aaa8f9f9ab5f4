"""Small slides for tests: tissue from the offline sample, or noise, written as the pyramids that readers expect."""

from pathlib import Path

import numpy as np
import tifffile
from skimage.data import immunohistochemistry

TISSUE = immunohistochemistry()
NOISE = np.random.default_rng(0).integers(0, 256, (611, 747, 3), dtype=np.uint8)


def picture(height: int, width: int) -> np.ndarray:
    """Tissue of any size, mirrored where the sample ends: (height, width, 3) uint8."""
    beyond = [(0, max(0, height - TISSUE.shape[0])), (0, max(0, width - TISSUE.shape[1])), (0, 0)]
    return np.ascontiguousarray(np.pad(TISSUE, beyond, mode="symmetric")[:height, :width])


def write_slide_file(path: Path, pixels: np.ndarray, mpp: float | None = 0.5, levels: int = 2, icc=None) -> Path:
    """A tiled, lossless TIFF pyramid as OpenSlide reads it."""
    resolution = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            tiff.write(
                pixels[:: 2**level, :: 2**level],
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                metadata=None,
                subfiletype=1 if level else 0,
                iccprofile=icc,
                **(resolution if level == 0 else {}),
            )
    return path


def tiff(path, *levels, tile=(128, 128), **options):
    """A pyramid in the layout that OpenSlide reads: levels one after another, all but the first marked as reduced."""
    settings = {"tile": tile, "photometric": "rgb", "compression": "zlib", "metadata": None} | options
    with tifffile.TiffWriter(path) as writer:
        for index, level in enumerate(levels or (NOISE,)):
            writer.write(level, subfiletype=int(index > 0), **settings)
    return path
