"""Masks of objects are turned upright, as their images are."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from experiments.datasets import read_instances
from monai_iste.io.orientation import upright

LABELS = np.random.default_rng(0).integers(0, 200, (20, 30)).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_orientation_of_a_mask(tmp_path, suffix, orientation):
    path = tmp_path / f"mask.{suffix}"
    if suffix == "png":
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(LABELS).save(path, exif=exif)
    else:
        tifffile.imwrite(path, LABELS, metadata=None, extratags=[(274, 3, 1, orientation, True)])
    np.testing.assert_array_equal(read_instances(path), upright(LABELS, orientation))
