"""The pixel size of a slide: its sources, and the user's value, which overrides them."""

import math

import pytest
from reference import assert_teaches
from slide_files import tiff

from monai_iste.errors import ConfigError, DataError
from monai_iste.io.pixel_size import PixelSize, find_mpp
from monai_iste.slides import Slide

APERIO = "Aperio Image Library v11.2.1 \r\n747x611 [0,0 747x611] (256x256) JPEG/RGB Q=30|AppMag = 20|MPP = {}"


def tags(y, x, unit="CENTIMETER"):
    return {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": unit}


def ome(y, x):
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="747" SizeY="611"'
        f' SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="{x}" PhysicalSizeY="{y}">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )


SAYS = [
    ("a.svs", {"description": APERIO.format(0.499), **tags(0.3, 0.3)}, (0.499, 0.499), "aperio"),
    ("a.svs", {"description": APERIO.format(352), **tags(0.3, 0.2)}, (0.3, 0.2), "TIFF tags"),
    ("a.ome.tif", {"description": ome(0.4, 0.2), **tags(0.3, 0.3)}, (0.4, 0.2), "OME"),
    ("a.ome.tif", {"description": ome(400, 200), **tags(0.3, 0.2)}, (0.3, 0.2), "TIFF tags"),
    ("a.tif", tags(0.3, 0.2), (0.3, 0.2), "TIFF tags"),
    ("a.tif", {"resolution": (72, 72), "resolutionunit": "INCH"}, None, "unknown"),
    ("a.tif", {"resolution": (25_400 / 0.2, 25_400 / 0.3), "resolutionunit": "INCH"}, (0.3, 0.2), "TIFF tags"),
    ("a.tif", {}, None, "unknown"),
]


@pytest.mark.parametrize(("name", "options", "mpp", "source"), SAYS)
def test_sources_of_the_pixel_size(tmp_path, name, options, mpp, source):
    path = tiff(tmp_path / name, **options)
    with Slide(path) as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp, rel=1e-5))
        assert (slide.mpp_source, slide.stated_mpp) == (source, None)
        assert find_mpp(path).mpp == slide.mpp
        if mpp is None:
            with pytest.raises(DataError) as caught:
                slide.size_at(0.5)
            assert_teaches(caught.value, str(path), "--input-mpp")
        else:
            assert slide.size_at(0.7) == (round(611 * mpp[0] / 0.7), round(747 * mpp[1] / 0.7))
            assert slide.size_at(1e9) == (1, 1)
            for nothing in (0, -1, math.nan):
                with pytest.raises(ConfigError) as caught:
                    slide.size_at(nothing)
                assert_teaches(caught.value, "above 0")


@pytest.mark.parametrize(("name", "options", "mpp", "source"), SAYS[:3])
def test_the_users_value_overrides_and_a_contradiction_is_reported(tmp_path, name, options, mpp, source):
    path = tiff(tmp_path / name, **options)
    with Slide(path, input_mpp=0.8) as slide:
        assert (slide.mpp, slide.mpp_source) == ((0.8, 0.8), "--input-mpp")
        assert slide.stated_mpp == pytest.approx(mpp, rel=1e-5)
        assert slide.size_at(0.4) == (1222, 1494)


def test_what_counts_as_a_contradiction(tmp_path):
    path = tiff(tmp_path / "a.tif", **tags(0.5, 0.504))
    assert find_mpp(path, 0.5) == PixelSize((0.5, 0.5), "--input-mpp", None)
    assert find_mpp(path, 0.498).stated == pytest.approx((0.5, 0.504), rel=1e-5)  # 1.2 % in x alone
    assert find_mpp(tiff(tmp_path / "b.tif"), 0.5).stated is None
    for nothing in (0, -0.5, math.inf, math.nan):
        with pytest.raises(ConfigError) as caught:
            Slide(path, input_mpp=nothing)
        assert_teaches(caught.value, "above 0")


def test_the_vendors_axes_are_not_mixed_up(tmp_path):
    says = {"openslide.vendor": "mirax", "openslide.mpp-y": "0.25", "openslide.mpp-x": "0.23"}
    assert find_mpp(tmp_path / "a.mrxs", properties=says) == PixelSize((0.25, 0.23), "mirax")
    for axis, value in (("y", "unknown"), ("x", "nan")):
        found = find_mpp(tmp_path / "a.mrxs", properties={**says, f"openslide.mpp-{axis}": value})
        assert found[:3] == (None, "unknown", None)
        assert found.remark == f"{value} um per pixel (mirax), not believed because {value!r} is no number above 0"
    assert find_mpp(tmp_path / "a.mrxs", properties={}) == PixelSize(None, "unknown")
