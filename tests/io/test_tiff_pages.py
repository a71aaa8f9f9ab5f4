"""Pages of a TIFF that are not the image: labels, thumbnails and reduced versions in front of it."""

import numpy as np
import pytest
import tifffile
from slide_files import NOISE, picture

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.io.image_reader import image_size, probe, read_rgb
from monai_iste.slides import Slide

IMAGE = picture(240, 320)
SMALL = np.full((60, 80, 3), 200, np.uint8)
LABEL = np.full((90, 70, 3), 30, np.uint8)
TILED = {"tile": (64, 64)}
MASK = (np.ones((240, 320), bool), {"subfiletype": 4, "photometric": "minisblack"})


def write(path, *pages, **options):
    with tifffile.TiffWriter(path, **options) as writer:
        for pixels, settings in pages:
            writer.write(pixels, **{"photometric": "rgb", "metadata": None} | settings)
    return path


FIRST = {
    "marked as reduced": (SMALL, {"subfiletype": 1}),
    "marked as reduced, tiled": (SMALL, {"subfiletype": 1, **TILED}),
    "marked in the older way": (SMALL, {"extratags": [(255, 3, 1, 2, True)]}),
    "a mask": MASK,
    "named label": (IMAGE, {"description": "label 320x240"}),
    "named in the second line": (IMAGE, {"description": "Aperio Image Library v11\nmacro 1280x431"}),
    "small": (SMALL, {}),
    "small and tiled": (SMALL, TILED),
    "small, of another shape": (LABEL, {}),
    "reduced, but as large": (IMAGE[::-1], {"subfiletype": 1}),
}


@pytest.mark.parametrize("layout", [TILED, {}], ids=["tiles", "strips"])
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_the_image_behind_another_page_is_read_by_every_reader_and_said(tmp_path, first, layout):
    ours = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    printer = {"resolution": (72, 72), "resolutionunit": "INCH"}
    path = write(tmp_path / "a.tif", (first[0], first[1] | printer), (IMAGE, layout | ours))
    assert image_size(path) == IMAGE.shape[:2]
    np.testing.assert_array_equal(read_rgb(path).transpose(1, 2, 0), IMAGE)
    info = probe(path)
    assert info.note.startswith("the image of 240 x 320 (H x W) behind the first one is read")
    assert info.mpp == pytest.approx((0.5, 0.5))
    with Slide(path) as slide:
        assert slide.note == info.note
        assert slide.mpp == pytest.approx((0.5, 0.5))
        np.testing.assert_array_equal(slide.read(Region(0, 0, *slide.size)), IMAGE)


ORDINARY = {
    "levels": [(IMAGE, TILED), (IMAGE[::2, ::2], {"subfiletype": 1, **TILED})],
    "levels that are not marked": [(IMAGE, TILED), (IMAGE[::2, ::2], TILED), (IMAGE[::4, ::4], TILED)],
    "label last": [(IMAGE, TILED), (LABEL, {"description": "label 70x90"})],
    "two of similar size": [(IMAGE, TILED), (picture(300, 400), {})],
    "marked, but alone": [(IMAGE, {"subfiletype": 1})],
    "mask last": [(IMAGE, TILED), MASK],
}


@pytest.mark.parametrize("pages", ORDINARY.values(), ids=ORDINARY)
def test_a_first_page_that_is_the_image_stays(tmp_path, pages):
    path = write(tmp_path / "a.tif", *pages)
    np.testing.assert_array_equal(read_rgb(path).transpose(1, 2, 0), IMAGE)
    assert probe(path).note == ""
    with Slide(path) as slide:
        assert slide.note == ""
        np.testing.assert_array_equal(slide.read(Region(0, 0, *slide.size)), IMAGE)


def test_levels_from_the_smallest_to_the_largest(tmp_path):
    path = write(tmp_path / "a.tif", *((NOISE[::step, ::step], TILED) for step in (8, 4, 2, 1)))
    assert probe(path).note.endswith("that of 77 x 94 is smaller")
    np.testing.assert_array_equal(read_rgb(path).transpose(1, 2, 0), NOISE)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region(0, 0, *slide.size)), NOISE)


def test_several_images_behind_a_thumbnail_are_a_stack(tmp_path):
    path = write(tmp_path / "a.tif", (SMALL, {"subfiletype": 1}), (IMAGE, {}), (IMAGE[::-1], {}))
    with pytest.raises(DataError, match="stack of several pages"):
        read_rgb(path)


def test_images_of_ome_tiff_by_their_names(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for pixels, name in ((IMAGE[::-1], "macro image"), (IMAGE, "slide"), (LABEL, "label image")):
            writer.write(pixels, photometric="rgb", metadata={"Name": name, "axes": "YXS"})
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.ome.tif").transpose(1, 2, 0), IMAGE)
    assert probe(tmp_path / "a.ome.tif").note.endswith("that of 240 x 320 is named macro")


@pytest.mark.parametrize("name", ["a.ndpi", "a.NDPI", "a.svs", "a.scn"])
def test_a_plain_tiff_is_read_under_the_name_of_a_slide(tmp_path, name):
    path = write(tmp_path / name, (IMAGE, TILED))
    np.testing.assert_array_equal(read_rgb(path), IMAGE.transpose(2, 0, 1))
    assert probe(path).size == (240, 320)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region(8, 16, 100, 90)), IMAGE[8:108, 16:106])


@pytest.mark.parametrize("name", ["a.ndpi", "a.qptiff", "a.btf", "a", "a.mrxs"])
def test_what_openslide_does_not_know_is_read_under_any_name(tmp_path, name):
    path = write(tmp_path / name, (IMAGE.astype(np.uint16) * 257, {"rowsperstrip": 16}))
    np.testing.assert_array_equal(read_rgb(path), IMAGE.transpose(2, 0, 1))
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region(8, 16, 100, 90)), IMAGE[8:108, 16:106])
