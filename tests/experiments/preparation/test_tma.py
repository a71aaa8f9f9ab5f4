"""Training folder from TMA cores: every image once with unchanged pixels; unusable images are named."""

import numpy as np
import pytest
from PIL import Image
from preparation_files import QUIET, TWELVE, counts, write_cores
from reference import assert_teaches

from experiments.preparation import prepare_tma
from monai_iste.data import training_datalists
from monai_iste.errors import DataError
from monai_iste.io import read_rgb


@pytest.fixture
def cores(tmp_path):
    return write_cores(tmp_path / "source")


def test_every_image_is_written_once_with_its_own_pixels(cores, tmp_path):
    report = prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert counts(tmp_path / "root") == [8, 2, 2]
    assert report["counts"] == {"train": 8, "val": 2, "test": 2}
    sources = sorted(cores.rglob("*.jpg"), key=lambda path: path.relative_to(cores).as_posix())
    written = {path.stem: path for path in (tmp_path / "root").rglob("*.png")}
    for number, source in enumerate(sources, start=1):
        np.testing.assert_array_equal(read_rgb(written[f"tma-{number:04d}"]), read_rgb(source))
    train, val = training_datalists(tmp_path / "root", 192)
    assert (len(train), len(val)) == (8, 2)


def test_unusable_cores_are_named(cores, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare_tma(cores, tmp_path / "root", **QUIET)
    assert_teaches(caught.value, "573 images", "460 train, 57 val, 56 test", "12", "--counts")
    Image.new("RGB", (191, 400)).save(cores / "block0" / "smith-0.jpg")
    with pytest.raises(DataError, match=r"192 x 192 pixels in .*smith-0\.jpg, got 400 x 191"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    (cores / "block0" / "smith-0.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"readable image in .*smith-0\.jpg"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert not (tmp_path / "root").exists()
