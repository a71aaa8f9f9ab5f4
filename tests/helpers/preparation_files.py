"""Small sources of data sets for tests of preparation, and readers of the results."""

from pathlib import Path

import numpy as np
from PIL import Image
from slide_files import picture, write_slide_file

QUIET = {"quiet": True}
TWELVE = {"counts": (8, 2, 2), **QUIET}
TILE = 256
PUBLIC = "TCGA-AA-0001-01Z-00-DX1.12345678-ABCD-ABCD-ABCD-123456789012.svs"


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.png")) if path.is_file()
    }


def counts(root):
    return [len(list((root / part).glob("*.png"))) for part in ("train", "val", "test")]


def write_cores(source: Path) -> Path:
    """Twelve images of different colors, in subfolders, whose names must not appear in the result."""
    for number in range(12):
        path = source / f"block{number % 2}" / f"smith-{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 192 + number), (20 * number, 90, 120)).save(path)
    return source


def write_slides(source: Path) -> Path:
    """Three slides with 12, 12 and 4 whole tiles of tissue; the other 8 of the third are background."""
    for name, shift, background in ((PUBLIC, 0, 0), ("smith-b.tif", 40, 0), ("smith-c.tif", 80, 2 * TILE)):
        pixels = np.roll(picture(3 * TILE + 20, 4 * TILE + 30), shift, 0)
        pixels[:background] = 240
        write_slide_file(source / name, pixels, mpp=0.25)
    return source
