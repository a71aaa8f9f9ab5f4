"""The viewer's images: their ids and metadata, and slides that fail."""

import json

import numpy as np
import pytest
from PIL import Image
from slide_files import picture, write_slide_file

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.viewer.catalog import Catalog, CatalogImage, UnknownImage

PIXELS = picture(150, 190)


@pytest.fixture
def image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return CatalogImage("a", tmp_path / "a.png")


def test_catalog(tmp_path):
    write_slide_file(tmp_path / "Case 7.tif", picture(600, 700), mpp=0.5)
    for name in ("a.png", "A.bmp", "a-sr.png", "§.png"):
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"none")
    told = []
    catalog = Catalog([tmp_path, tmp_path / "a.png"], log=told.append)
    records = {image.id: image.metadata() for image in catalog}
    assert sorted(records) == ["a", "a-2", "a-sr-2", "case-7", "image"]
    assert "broken.png" in told[0]
    assert records["case-7"]["levels"] == [(700, 600), (350, 300)]
    assert (records["case-7"]["width"], records["case-7"]["height"]) == (700, 600)
    assert records["case-7"]["mpp"] == pytest.approx((0.5, 0.5))
    assert records["case-7"]["mpp_source"] == "TIFF tags"
    assert str(tmp_path) not in json.dumps(list(records.values()))
    assert catalog.resolve("a-sr")[0].path.name != "a-sr.png"  # upscaled; the file has another id
    assert catalog.resolve("a-sr")[1] == "sr"
    assert catalog.resolve("a-sr-2")[1] is None
    assert catalog.resolve("a-sr-2-bicubic")[1] == "bicubic"
    for wrong in ("b", "", "a-sr-sr", "../a", "a.png", "x" * 1000):
        with pytest.raises(UnknownImage) as caught:
            catalog.resolve(wrong)
        assert len(str(caught.value)) < 300
    with pytest.raises(DataError, match="broken"):
        Catalog([tmp_path / "broken.png"])
    catalog.close()


def test_a_slide_that_failed_is_opened_again(image):
    image._slide.close()
    np.testing.assert_array_equal(image.read(Region(0, 0, 150, 190)), PIXELS)
    image.path.unlink()
    image._slide.close()
    with pytest.raises(DataError):
        image.read(Region(0, 0, 5, 5))
