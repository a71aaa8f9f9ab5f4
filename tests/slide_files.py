"""Small slides for tests: tissue from the offline sample, written as the pyramids that readers expect."""

from pathlib import Path

import numpy as np
import tifffile
from skimage.data import immunohistochemistry

TISSUE = immunohistochemistry()


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
