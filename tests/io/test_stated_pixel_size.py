"""Pixel sizes as files state them: every unit and spelling, one axis, several images, and what is not believed."""

import tracemalloc

import numpy as np
import pytest
import tifffile
from reference import assert_teaches

from monai_iste.errors import DataError
from monai_iste.io.image_reader import probe
from monai_iste.io.pixel_size import find_mpp
from monai_iste.io.stated_pixel_size import MICROMETERS, micrometers
from monai_iste.slides import Slide

PIXELS = np.zeros((40, 60, 3), np.uint8)
QUARTER = pytest.approx((0.25, 0.25))
NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def described(path, description, *others, **options):
    """A TIFF with this description in its first page; a str is written as UTF-8."""
    text = description if isinstance(description, bytes) else description.encode()
    settings = {"photometric": "rgb", "metadata": None} | options
    with tifffile.TiffWriter(path) as writer:
        writer.write(PIXELS, description=text, **settings)
        for pixels in others:
            writer.write(pixels, photometric="rgb", metadata=None)
    return path


def ome(*pixels, root="OME", namespace=NAMESPACE, head='<?xml version="1.0" encoding="UTF-8"?>'):
    """OME-XML; each of ``pixels`` is the attributes and the children of one image's Pixels."""
    images = "".join(
        f'<Image ID="Image:{number}"><Pixels DimensionOrder="XYCZT" Type="uint8" SizeC="3" SizeZ="1" SizeT="1"'
        f' {attributes}><Channel SamplesPerPixel="3"/>{children}</Pixels></Image>'
        for number, (attributes, children) in enumerate(pixels)
    )
    return f'{head}<{root} xmlns="{namespace}">{images}</{root}>'


SIZE = 'SizeX="60" SizeY="40"'
ONE = '<TiffData IFD="0" PlaneCount="1"/>'


def stated(y, x, unit_y="", unit_x=""):
    axes = (("Y", y, unit_y), ("X", x, unit_x))
    return SIZE + "".join(
        f' PhysicalSize{axis}="{value}"' + (f' PhysicalSize{axis}Unit="{unit}"' if unit else "")
        for axis, value, unit in axes
        if value
    )


def test_units_of_length():
    """The schema's list, in micrometers, and spellings of others."""
    assert len(MICROMETERS) == 33  # its 32 lengths, and "um"
    expected = {"nm": 1e-3, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "dam": 1e7, "km": 1e9, "Mm": 1e12, "pm": 1e-6}
    expected |= {"in": 25400, "thou": 25.4, "li": 25400 / 12, "pt": 25400 / 72, "ft": 304800, "yd": 914400}
    expected |= {"\u00b5m": 1, "\u03bcm": 1, "um": 1, "\u00c5": 1e-4, "\u212b": 1e-4, " mm ": 1e3, "\\u00B5m": 1}
    expected |= {"micron": 1, "Microns": 1, "micrometre": 1, "inch": 25400, "Angstrom": 1e-4, "\u00c2\u00b5m": 1}
    for unit, factor in expected.items():
        assert micrometers(unit) == pytest.approx(factor), unit
    for unit in ("", "pixel", "Pixel", "reference frame", "MM", "furlong", "?m", "s"):
        assert micrometers(unit) is None, unit


OME = {
    "default unit": (stated(0.25, 0.25), (0.25, 0.25)),
    "micro sign": (stated(0.5, 0.25, "\u00b5m", "\u00b5m"), (0.5, 0.25)),
    "Greek mu": (stated(0.5, 0.25, "\u03bcm", "\u03bcm"), (0.5, 0.25)),
    "decimal entity": (stated(0.5, 0.25, "&#181;m", "&#956;m"), (0.5, 0.25)),
    "hexadecimal entity": (stated(0.5, 0.25, "&#xB5;m", "&#x3bc;m"), (0.5, 0.25)),
    "angstrom": (stated(2500, 5000, "&#197;", "\u00c5"), (0.25, 0.5)),
    "a unit for each axis": (stated("2.5E-4", 250, "mm", "nm"), (0.25, 0.25)),
    "one unit is the default": (stated(250, 0.25, "nm"), (0.25, 0.25)),
    "one axis, x": (stated(None, 250, "", "nm"), (0.25, 0.25)),
    "one axis, y": (stated("2.5e-07", None, "m"), (0.25, 0.25)),
    "thou": (stated(0.01, 0.02, "thou", "thou"), (0.254, 0.508)),
    "inch": (stated(0.00001, 0.00001, "in", "in"), (0.254, 0.254)),
    "no leading zero, spaces": (stated(" .25 ", "+.5"), (0.25, 0.5)),
}


@pytest.mark.parametrize("quotes", ['"', "'"], ids=["double", "single"])
@pytest.mark.parametrize(("attributes", "mpp"), OME.values(), ids=OME)
def test_ome_xml(tmp_path, attributes, mpp, quotes):
    path = described(tmp_path / "a.tif", ome((attributes, ONE)).replace('"', quotes))
    found = find_mpp(path)
    assert found.mpp == pytest.approx(mpp)
    assert found[1:] == ("OME", None, None)
    assert probe(path).pixel_size == found
    with Slide(path) as slide:
        assert slide.pixel_size == found


LATIN_1 = '<?xml version="1.0" encoding="ISO-8859-1"?>'
SPELLINGS = {
    "prefix": f'<ome:OME xmlns:ome="{NAMESPACE}"><ome:Image><ome:Pixels {stated(0.25, 0.25)}/></ome:Image></ome:OME>',
    "no namespace": f"<OME><Image><Pixels {stated(0.25, 0.25)}/></Image></OME>",
    "byte order mark": "\ufeff" + ome((stated(0.25, 0.25), ONE)),
    "blanks around": "\n  " + ome((stated(0.25, 0.25), ONE)) + "\n<!-- end -->\n",
    "comments": ome((stated(0.25, 0.25), ONE)).replace("<Image", "<!-- <Pixels PhysicalSizeX='9'/> --><Image"),
    "line breaks": ome((stated(0.25, 0.25).replace(" Phys", "\n\tPhys"), ONE)),
    "doctype": ome((stated(0.25, 0.25), ONE), head="<!DOCTYPE OME>"),
    "of 2003": f'<OME><Image PixelSizeX="0.25" PixelSizeY="0.25"><Pixels {SIZE}/></Image></OME>',
    "Latin-1": ome((stated(250, 0.25, "nm", "\u00b5m"), ONE), head=LATIN_1).encode("latin-1"),
}


@pytest.mark.parametrize("xml", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_of_xml(tmp_path, xml):
    assert find_mpp(described(tmp_path / "a.tif", xml)).mpp == QUARTER


@pytest.mark.parametrize("year", ["2003-FC", "2007-06", "2010-06", "2013-06", "2015-01", "2016-06"])
def test_schema_years(tmp_path, year):
    xml = ome((stated(0.25, 0.25), ONE), namespace=f"http://www.openmicroscopy.org/Schemas/OME/{year}")
    assert find_mpp(described(tmp_path / "a.tif", xml)).mpp == QUARTER


OTHER = 'SizeX="6" SizeY="4" PhysicalSizeX="9" PhysicalSizeY="9"'
TWIN = stated(9, 9)


def data(first):
    return f'<TiffData IFD="{first}" PlaneCount="1"/>'


SEVERAL = {
    "by size": [(OTHER, ""), (stated(0.25, 0.25), "")],
    "by size, the page unknown": [(OTHER, data(0)), (stated(0.25, 0.25), data(7))],
    "by page": [(TWIN, data(1)), (stated(0.25, 0.25), data(0))],
    "by page and number of planes": [(TWIN, '<TiffData IFD="1" NumPlanes="3"/>'), (stated(0.25, 0.25), data(0))],
    "by file": [
        (TWIN, '<TiffData IFD="0"><UUID FileName="other.tif">urn:1</UUID></TiffData>'),
        (stated(0.25, 0.25), '<TiffData IFD="0"><UUID FileName="a.tif">urn:2</UUID></TiffData>'),
    ],
    "the same": [(stated(0.25, 0.25), ""), (stated(250, 250, "nm", "nm"), "")],
    "turned": [(OTHER, ""), (stated(0.25, 0.25).replace(SIZE, 'SizeX="40" SizeY="60"'), "")],
    "of one, nothing is stated": [(OTHER, data(1)), (SIZE, data(2)), (stated(0.25, 0.25), data(0))],
}


@pytest.mark.parametrize("images", SEVERAL.values(), ids=SEVERAL)
def test_the_right_one_of_several_images(tmp_path, images):
    assert find_mpp(described(tmp_path / "a.tif", ome(*images))).mpp == QUARTER


def test_of_several_pages_the_one_that_is_read(tmp_path):
    large = np.zeros((400, 600, 3), np.uint8)
    images = [(TWIN, data(0)), ('SizeX="600" SizeY="400" PhysicalSizeX="0.25" PhysicalSizeY="0.25"', data(1))]
    path = described(tmp_path / "a.tif", ome(*images), large)
    assert probe(path).size == (400, 600)
    assert probe(path).mpp == QUARTER
    with Slide(path) as slide:
        assert slide.mpp == QUARTER


BOMB = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
NOT_BELIEVED = {
    "too large": (stated(400, 400), "400 um/px (OME), not believed because it is not between 0.05 and 20 um"),
    "one axis too small": (stated(0.001, 0.25), "0.001 x 0.25 um/px (y, x) (OME), not believed because it is not"),
    "zero": (stated(0.25, "0.0"), "0.0 \u00b5m per pixel (OME), not believed because '0.0' is no number above 0"),
    "negative": (stated(-0.25, 0.25), "'-0.25' is no number above 0"),
    "not a number": (stated("nan", "nan"), "'nan' is no number above 0"),
    "infinite": (stated("INF", 0.25), "'INF' is no number above 0"),
    "a comma": (stated("0,25", "0,25"), "'0,25' is no number above 0"),
    "pixel": (stated(1, 1, "pixel", "pixel"), "1 pixel per pixel (OME), not believed because 'pixel' is no unit"),
    "reference frame": (stated(1, 1, "reference frame", "reference frame"), "is no unit of length"),
    "unknown unit": (stated(1, 1, "furlong", "furlong"), "'furlong' is no unit of length"),
    "of another image": (OTHER, "it is of an image of 4 x 6 (H x W), and this one has 40 x 60"),
}


@pytest.mark.parametrize(("attributes", "words"), NOT_BELIEVED.values(), ids=NOT_BELIEVED)
def test_what_is_stated_and_not_believed_is_said_with_the_reason(tmp_path, attributes, words):
    path = described(tmp_path / "a.tif", ome((attributes, ONE)))
    found = find_mpp(path)
    assert found.mpp is None
    assert words in found.remark
    with Slide(path) as slide, pytest.raises(DataError) as caught:
        slide.size_at(0.5)
    assert_teaches(caught.value, str(path), words, "--input-mpp")


DAMAGED = {
    "cut": (ome((stated(0.25, 0.25), ONE))[:-60] + "</OME>", "no well-formed XML"),
    "an ampersand": (ome((stated(0.25, 0.25), "<A>a & b</A>")), "no well-formed XML"),
    "an unknown entity": (ome((stated(0.25, 0.25, "&micro;m", "um"), ONE)), "no well-formed XML"),
    "twice": (ome((stated(0.25, 0.25) + ' PhysicalSizeX="9"', ONE)), "no well-formed XML"),
    "entities": (ome((stated(0.25, 0.25), ONE), head='<!DOCTYPE a [<!ENTITY b "c">]>'), "declares entities"),
    "bomb": (ome((stated(0.25, "&l11;"), ONE), head=f'<!DOCTYPE a [<!ENTITY l0 "{"9" * 99}">{BOMB}]>'), "entities"),
    "a file": (ome((stated(0.25, "&b;"), ONE), head='<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'), "entit"),
    "two that differ": (ome((stated(0.25, 0.25), ""), (TWIN, "")), "0.25 um/px and 9 um/px (OME), not believed"),
}


@pytest.mark.parametrize(("xml", "words"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_and_hostile_xml(tmp_path, xml, words):
    path = described(tmp_path / "a.tif", xml)
    tracemalloc.start()
    try:
        assert words in find_mpp(path).remark
        assert "\n" not in find_mpp(path).remark
        assert probe(path).mpp is None
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    tags = described(tmp_path / "b.tif", xml, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    found = find_mpp(tags)
    assert found.mpp == pytest.approx((0.5, 0.5))
    assert words in found.not_believed


def test_deep_xml(tmp_path):
    xml = ome((stated(0.25, 0.25), "<A>" * 100_000 + "</A>" * 100_000))
    found = find_mpp(described(tmp_path / "a.tif", xml))
    assert found.mpp == QUARTER or "XML" in found.remark


IMAGEJ = {
    "micron": ("unit=micron", (4, 4), 1, (0.25, 0.25)),
    "um": ("unit=um", (4, 2), 1, (0.5, 0.25)),
    "micro sign": ("unit=\u00b5m", (4, 4), 1, (0.25, 0.25)),
    "Greek mu": ("unit=\u03bcm", (4, 4), 1, (0.25, 0.25)),
    "escaped": ("unit=\\u00B5m", (4, 4), 1, (0.25, 0.25)),
    "nm": ("unit=nm", (0.004, 0.004), 1, (0.25, 0.25)),
    "mm": ("unit=mm", (4000, 4000), 1, (0.25, 0.25)),
    "cm": ("unit=cm", (40_000, 40_000), 3, (0.25, 0.25)),
    "inch": ("unit=inch", (101_600, 101_600), 2, (0.25, 0.25)),
    "a unit for y": ("unit=um\nyunit=nm\nzunit=mm", (4, 0.004), 1, (0.25, 0.25)),
    "unit of the tags is another's": ("unit=um", (4, 4), 2, (0.25, 0.25)),
    "no unit, the tags count": ("mode=color", (40_000, 40_000), 3, (0.25, 0.25)),
    "pixel, the tags count": ("unit=pixel", (40_000, 40_000), 3, (0.25, 0.25)),
    "pixel": ("unit=pixel", (4, 4), 1, None),
    "pixels": ("unit=pixels", (1, 1), 1, None),
    "empty": ("unit=", (4, 4), 1, None),
}


@pytest.mark.parametrize(("line", "resolution", "unit", "mpp"), IMAGEJ.values(), ids=IMAGEJ)
def test_imagej(tmp_path, line, resolution, unit, mpp):
    text = f"ImageJ=1.54f\nimages=1\n{line}\nloop=false\n"
    path = described(tmp_path / "a.tif", text, resolution=resolution, resolutionunit=unit)
    found = find_mpp(path)
    assert found.mpp == (mpp and pytest.approx(mpp))
    assert found.source == ("unknown" if mpp is None else "TIFF tags" if "the tags" in str(mpp) else found.source)
    assert found.remark == "none stated"
    assert probe(path).pixel_size == found


def test_imagej_that_is_not_believed(tmp_path):
    for line, resolution, words in (
        (
            "unit=furlong",
            (4, 4),
            "0.25 furlong per pixel (ImageJ), not believed because 'furlong' is no unit of length",
        ),
        ("unit=um", (0, 0), "'0' is no number above 0"),
        ("unit=um", (0.001, 0.001), "1000 um/px (ImageJ), not believed because it is not between 0.05 and 20 um"),
    ):
        path = described(tmp_path / "a.tif", f"ImageJ=1.54f\n{line}\n", resolution=resolution, resolutionunit=1)
        assert words in find_mpp(path).remark


def test_tags(tmp_path):
    for resolution, unit, mpp, words in (
        ((40_000, 20_000), 3, (0.5, 0.25), "none stated"),
        ((101_600, 101_600), 2, (0.25, 0.25), "none stated"),
        ((1, 1), 1, None, "none stated"),
        ((4, 4), 1, None, "none stated"),
        ((72, 72), 2, None, "352.8 um/px (TIFF tags), not believed because it is not between 0.05 and 20 um"),
        ((0, 0), 3, None, "0 cm per pixel (TIFF tags), not believed because '0' is no number above 0"),
    ):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None, resolution=resolution, resolutionunit=unit)
        found = find_mpp(path)
        assert (found.mpp, found.remark) == (mpp and pytest.approx(mpp), words)


def test_tags_of_one_axis_and_without_a_unit(tmp_path):
    """Names of tags are replaced by one that nobody reads, so that the tag is missing."""
    for missing, unit, mpp in (
        ("YResolution", "CENTIMETER", (0.25, 0.25)),
        ("XResolution", "CENTIMETER", (0.5, 0.5)),
        ("ResolutionUnit", "INCH", (0.5, 0.25)),  # which is what TIFF says of a missing one
    ):
        path, per = tmp_path / "a.tif", 1e4 if unit == "CENTIMETER" else 25_400
        tifffile.imwrite(
            path, PIXELS, photometric="rgb", metadata=None, resolution=(per / 0.25, per / 0.5), resolutionunit=unit
        )
        with tifffile.TiffFile(path) as source:
            place = source.pages[0].tags[missing].offset
        content = bytearray(path.read_bytes())
        content[place : place + 2] = (65_000).to_bytes(2, "little")
        path.write_bytes(content)
        assert find_mpp(path).mpp == pytest.approx(mpp), missing
