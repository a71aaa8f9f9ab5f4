"""Slides that tests write, and their levels as other packages read them; without these, tests are skipped."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from PIL import ImageCms

from monai_iste.slides.writers.writer import SlideMetadata, write_slide

pytest.importorskip("imagecodecs")
zarr = pytest.importorskip("zarr")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MPP = (0.2503, 0.2498)  # (y, x)
PROVENANCE = {"software": "monai_iste 9.9", "scale": "2.5", "notice": "super-resolved, not for diagnosis"}
KNOWN = SlideMetadata(MPP, SRGB, PROVENANCE)
UNKNOWN = SlideMetadata(None, None, PROVENANCE)
SIZES = [(1, 1), (511, 513), (512, 512), (1300, 2001)]


def texture(height: int, width: int) -> np.ndarray:
    """Smooth waves of every channel with a little noise: JPEG keeps it, and no two tiles are alike."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(y / (17 + 3 * c) + c) + np.cos(x / (23 + 5 * c) + y / 300) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 1))
    return np.clip(150 + 40 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def reader(pixels: np.ndarray):
    return lambda region: pixels[region.slices]


def save(path: Path, pixels: np.ndarray, metadata: SlideMetadata = KNOWN, **options) -> Path:
    work = path.parent / "work"
    work.mkdir(exist_ok=True)
    write_slide(path, reader(pixels), pixels.shape[:2], metadata, work, **options)
    assert not list(work.iterdir())
    return path


def literal_levels(pixels: np.ndarray) -> list[np.ndarray]:
    """The mean of 2 x 2 pixels, in float, with the edge repeated, until 512 pixels hold the longest side."""
    levels = [pixels]
    while max(levels[-1].shape[:2]) > 512:
        above = levels[-1].astype(np.float64)
        above = np.pad(above, [(0, n % 2) for n in above.shape[:2]] + [(0, 0)], mode="edge")
        rows, columns = above.shape[0] // 2, above.shape[1] // 2
        levels.append(np.floor(above.reshape(rows, 2, columns, 2, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8))
    return levels


def openslide_levels(slide: OpenSlide) -> list[np.ndarray]:
    return [
        np.asarray(slide.read_region((0, 0), level, size))[..., :3] for level, size in enumerate(slide.level_dimensions)
    ]


def tifffile_levels(path: Path) -> list[np.ndarray]:
    with tifffile.TiffFile(path) as tiff:
        return [level.asarray() for level in tiff.series[0].levels]


def zarr_levels(path: Path) -> list[np.ndarray]:
    group = zarr.open_group(path, mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    return [group[dataset["path"]][:].transpose(1, 2, 0) for dataset in datasets]


def assert_levels(found: list[np.ndarray], pixels: np.ndarray, mean: float = 0.0) -> None:
    expected = literal_levels(pixels)
    assert [level.shape for level in found] == [level.shape for level in expected]
    for ours, literal in zip(found, expected, strict=True):
        assert np.abs(ours.astype(int) - literal).mean() <= mean
