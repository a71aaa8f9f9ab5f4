"""IIIF addresses as text: requests, refusals, and the description of an image."""

from fractions import Fraction

import pytest
from reference import assert_teaches

from monai_iste.viewer import iiif
from monai_iste.viewer.iiif import BadRequest, image_info, parse_request, scale_factors
from monai_iste.viewer.viewport import MAX_AREA, Viewport, snap_viewport

SIZE = (1200, 3000)  # (h, w)
FORMATS = ("jpg", "png")


def ask(region="full", size="max", rotation="0", file="default.jpg", image=SIZE, native=SIZE):
    return parse_request(image, native, FORMATS, region, size, rotation, file)


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ("full", (0, 0, 3000, 1200)),
        ("square", (900, 0, 1200, 1200)),
        ("10,20,30,40", (10, 20, 30, 40)),
        ("2990,1190,30,40", (2990, 1190, 10, 10)),
        ("0,0,9999,9999", (0, 0, 3000, 1200)),
        ("pct:10,20,30,40.5", (300, 240, 900, 486)),
        ("pct:.1,0,100,.25", (3, 0, 2997, 3)),
    ],
)
def test_region(region, box):
    assert ask(region).region == box


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("max", (600, 400)),
        ("300,", (300, 200)),
        (",100", (150, 100)),
        ("pct:50", (300, 200)),
        ("pct:33.5", (201, 134)),
        ("600,37", (600, 37)),
        ("!300,300", (300, 200)),
        ("!9000,9000", (600, 400)),
        ("!601,80", (120, 80)),
        ("^300,", (300, 200)),
        ("^2022,", (2022, 1348)),
        ("^,1348", (2022, 1348)),
        ("^pct:337", (2022, 1348)),
        ("^700,1000", (700, 1000)),
        ("^!1000,1000", (1000, 667)),
        ("^max", (3674, 2449)),  # 9 million pixels
    ],
)
def test_size(size, expected):
    found = ask("100,100,600,400", size)
    assert (found.width, found.height) == expected
    assert found.width * found.height <= MAX_AREA


def test_what_exceeds_the_server_is_made_smaller_only_by_max():
    found = ask(size="max", image=(9000, 12000), native=(9000, 12000))
    assert found.width * found.height <= MAX_AREA
    assert found.width / found.height == pytest.approx(4 / 3, rel=1e-3)
    with pytest.raises(BadRequest, match=f"{MAX_AREA:,}"):
        ask(size="4000,3000", image=(9000, 12000), native=(9000, 12000))
    with pytest.raises(BadRequest, match="4096"):
        ask("0,0,5000,10", "5000,10", image=(9000, 12000), native=(9000, 12000))


def test_a_slide_is_upscaled_sixteen_times_at_most():
    assert ask("0,0,10,10", "^160,160").width == 160
    with pytest.raises(BadRequest, match="160 x 160"):
        ask("0,0,10,10", "^161,160")
    assert ask("0,0,10,10", "^max").width == 160
    virtual = (8 * SIZE[0], 8 * SIZE[1])
    assert ask("0,0,80,80", "^160,160", image=virtual).width == 160
    with pytest.raises(BadRequest):
        ask("0,0,80,80", "^161,161", image=virtual)


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        ({}, "full/max/0/default.jpg"),
        ({"region": "0,0,3000,1200", "size": "3000,", "file": "color.png"}, "full/max/0/default.png"),
        ({"region": "pct:10,0,10,25", "size": "pct:50"}, "300,0,300,300/150,150/0/default.jpg"),
        ({"region": "0,0,100,50", "size": "^370,", "rotation": "90.0"}, "0,0,100,50/^370,185/90/default.jpg"),
        ({"region": "0,0,100,50", "size": "^1600,"}, "0,0,100,50/^max/0/default.jpg"),
        ({"size": "!300,300", "file": "gray.jpg"}, "full/300,120/0/gray.jpg"),
    ],
)
def test_canonical_address(asked, canonical):
    found = ask(**asked)
    assert found.canonical == canonical
    assert ask(*canonical.split("/")) == found  # it is an address of the same picture


MALFORMED = [
    ("region", text)
    for text in (
        "", "Full", "fulll", "0,0,10", "0,0,10,10,10", "0,0,0,10", "0,0,10,0", "-1,0,10,10", "3000,0,10,10",
        "0,1200,10,10", "1.5,0,10,10", "a,b,c,d", "0, 0,10,10", "pct:0,0,0,10", "pct:100,0,10,10", "pct:-1,0,10,10",
        "pct:0,0,1e1,10", "pct:nan,0,10,10", "pct:0,0,10", "٣,0,10,10", "9999999999,0,1,1", "../../x",
    )
]  # fmt: skip
MALFORMED += [
    ("size", text)
    for text in (
        "", "full", "MAX", "^", "^^max", "0,", ",0", "0,0", "!0,10", "^!0,0", ",", "!", "!,", "!10", "3001,", ",1201",
        "3001,1200", "pct:0", "pct:100.1", "pct:", "pct:-5", "^pct:1e3", "^5000,", "^0,", "1.5,", "max^", "^-1,",
        "999999999,999999999", "^999999999,", "^99999999999,", "pct:0.0001", "1,2,3", "10, 10",
    )
]  # fmt: skip
MALFORMED += [("rotation", text) for text in ("", "45", "360", "-90", "!0", "!90", "9e1", "nan", "0x0", "9" * 400)]
MALFORMED += [
    ("file", text)
    for text in (
        "",
        "default",
        "default.",
        ".jpg",
        "default.gif",
        "bitonal.jpg",
        "color.jpg.png",
        "default.JPG",
        "x" * 999,
    )
]


@pytest.mark.parametrize(("part", "text"), MALFORMED)
def test_malformed(part, text):
    with pytest.raises(BadRequest) as caught:
        ask(**{part: text})
    assert_teaches(caught.value)
    assert len(str(caught.value)) < 400


def test_tiles_of_a_level_are_parts_of_one_picture():
    """At the edges too, where a tile of 301 pixels becomes 151: not a picture of another scale."""
    size = (1001, 2303)
    for factor in scale_factors(size):
        grid, step = (-(-size[0] // factor), -(-size[1] // factor)), 512 * factor
        covered = set()
        for y in range(0, size[0], step):
            for x in range(0, size[1], step):
                h, w = min(step, size[0] - y), min(step, size[1] - x)
                found = ask(f"{x},{y},{w},{h}", f"{-(-w // factor)},{-(-h // factor)}", image=size, native=size)
                viewport = found.viewport(size)
                assert viewport.size == grid
                assert (viewport.height, viewport.width) == (found.height, found.width)
                bottom, right = viewport.height - 1, viewport.width - 1
                covered |= {(viewport.top + i, viewport.left + j) for i in (0, bottom) for j in (0, right)}
                assert viewport.region_on_slide() == viewport[1:]
        assert {(0, 0), (grid[0] - 1, grid[1] - 1)} <= covered


def test_any_other_request_has_the_grid_of_its_own_ratio():
    viewport = ask("1000,300,200,100", "^674,337").viewport(SIZE)
    assert viewport == Viewport((4044, 10110), 1011, 3370, 337, 674)
    last = ask("2900,1100,100,100", "^337,337").viewport(SIZE)
    assert last.region_on_slide() == last[1:]  # it does not reach beyond the slide by rounding


def test_information():
    found = image_info("http://h/iiif/a", SIZE, SIZE, ("jpg", "png", "webp"))
    assert found["@context"] == "http://iiif.io/api/image/3/context.json"
    assert found["id"] == "http://h/iiif/a"
    assert (found["type"], found["protocol"]) == ("ImageService3", "http://iiif.io/api/image")
    assert (found["profile"], found["width"], found["height"]) == ("level2", 3000, 1200)
    assert found["tiles"] == [{"width": 512, "height": 512, "scaleFactors": [1, 2, 4, 8]}]
    assert found["sizes"][0] == {"width": 375, "height": 150}
    assert found["sizes"][-1] == {"width": 3000, "height": 1200}
    assert found["extraFormats"] == ["webp"]
    assert "sizeUpscaling" in found["extraFeatures"]
    for size in found["sizes"]:  # what is listed can be had
        assert ask(size=f"{size['width']},{size['height']}").viewport(SIZE).region_on_slide() is not None


def test_sizes_of_a_large_image_are_those_that_are_sent():
    size = (80_000, 100_000)
    found = image_info("a", size, size, FORMATS)
    assert found["sizes"]
    for listed in found["sizes"]:
        ask(size=f"{listed['width']},{listed['height']}", image=size, native=size)
    assert max(found["tiles"][0]["scaleFactors"]) * iiif.TILE >= max(size)


# --- exact views ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.3, 1, 1.7, 3.37, 4.044, 15.99])
def test_a_view_lies_where_it_was_asked_for(scale):
    native, x, y, width, height = (2967, 2220), 1000.37, 511.81, 613, 401
    viewport = snap_viewport(native, x, y, width / scale, height / scale, width, height)
    left, top, w, h = viewport.extent(native)
    assert abs(left - x) * scale <= 0.51
    assert abs(top - y) * scale <= 0.51
    assert (w * scale, h * scale) == pytest.approx((width, height), rel=1e-3)
    assert viewport.size == (round(2967 * scale), round(2220 * scale))
    exact = [Fraction(viewport.left * 2220, viewport.size[1]), Fraction(viewport.top * 2967, viewport.size[0])]
    assert [left, top] == pytest.approx([float(n) for n in exact], abs=1e-9)


def test_views_of_one_scale_share_their_grid():
    one, other = (snap_viewport((2967, 2220), x, 40.2, 100, 100, 337, 337) for x in (10.0, 30.0))
    assert one.size == other.size
    assert other.left - one.left == round(30 * 3.37) - round(10 * 3.37)


def test_a_view_beyond_the_slide():
    viewport = snap_viewport((100, 100), -10, 90, 20, 20, 40, 40)
    assert (viewport.top, viewport.left) == (180, -20)
    assert viewport.region_on_slide() == (180, 0, 20, 20)
    assert snap_viewport((100, 100), 200, 0, 20, 20, 40, 40).region_on_slide() is None
