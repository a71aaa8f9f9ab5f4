"""The range of a recipe's inputs, on tiles of the offline sample."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.learned_range import learned_range
from monai_iste.data import sample_datalists
from monai_iste.errors import DataError


def test_percentiles_of_the_inputs(tmp_path):
    tissue = sample_datalists()[0][0]["image"].transpose(1, 2, 0)
    for name, left in (("a", 0), ("b", 200)):
        Image.fromarray(np.ascontiguousarray(tissue[:, left : left + 256])).save(tmp_path / f"{name}.png")
    found = learned_range(tmp_path, (0.25, 0.5))
    assert found["mpp"] == (0.25, 4.0)
    assert 0 < found["sharpness"][0] < found["sharpness"][1] < 1
    assert 1 < found["blockiness"][0] < 3
    assert found["inputs"] == (2 * 6 * 3,)
    assert learned_range(tmp_path, (0.25, 0.5), soft=True)["sharpness"] != found["sharpness"]


def test_tiles_without_texture_are_refused(tmp_path):
    Image.new("RGB", (200, 200), (240, 240, 240)).save(tmp_path / "flat.png")
    with pytest.raises(DataError, match="none in"):
        learned_range(tmp_path, (0.25, 0.5))
