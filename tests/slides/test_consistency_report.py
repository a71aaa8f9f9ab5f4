"""Summary, picture and numbers of consistency maps."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import assert_teaches
from scipy.ndimage import gaussian_filter

from monai_iste.errors import OutputError, ShapeError
from monai_iste.slides import consistency_report as module
from monai_iste.slides.consistency import ConsistencyMaps
from monai_iste.slides.consistency_report import summary, write_consistency

# --- in one line ------------------------------------------------------------------------------------------------------

BICUBIC = np.random.default_rng(5).uniform(0, 3, (40, 50)).astype(np.float32)
LEVELS = gaussian_filter(np.random.default_rng(0).gamma(1.0, 2.0, (40, 50)), 0.5).astype(np.float32) - 0.5


def maps(excess, bicubic=None):
    """Maps with a given excess over those of interpolation."""
    bicubic = np.zeros(excess.shape, np.float32) if bicubic is None else bicubic
    return ConsistencyMaps(excess + bicubic, bicubic)


MAPS = maps(LEVELS, BICUBIC)


def test_summary():
    found = summary(MAPS)
    assert found.network == pytest.approx((LEVELS + BICUBIC).mean())
    assert found.bicubic == pytest.approx(BICUBIC.mean())
    assert found.mean == pytest.approx(LEVELS.mean())
    assert found.p95 == np.percentile(MAPS.excess, 95, method="inverted_cdf")
    assert found.p99 == np.percentile(MAPS.excess, 99, method="inverted_cdf")
    assert found.notable == pytest.approx((LEVELS > 4).mean())
    row, column = np.unravel_index(LEVELS.argmax(), LEVELS.shape)
    assert (found.worst, found.row, found.column) == (MAPS.excess.max(), 16 * row, 16 * column)
    moved = summary(MAPS, block=10, origin=(1000, 2000))
    assert (moved.row, moved.column) == (1000 + 10 * row, 2000 + 10 * column)
    line = str(found)
    assert "\n" not in line
    for number in (found.p95, found.p99, found.worst):
        assert f"{number:.2f}" in line
    assert f"network {found.network:.1f}, bicubic {found.bicubic:.1f} levels" in line
    assert ", 100 % above 4;" in str(summary(maps(np.full((3, 3), 9.0))))
    negative = summary(maps(np.array([[-3.0, -2.0]]), np.array([[5.0, 5.0]])))
    assert (negative.worst, negative.notable, negative.column) == (-2.0, 0, 16)


def test_weights_say_how_much_a_block_counts():
    weight = np.random.default_rng(1).integers(0, 4, LEVELS.shape)
    repeated = LEVELS.ravel().repeat(weight.ravel())
    repeated = maps(repeated[None], BICUBIC.ravel().repeat(weight.ravel())[None])
    found, expected = summary(MAPS, weight), summary(repeated)
    assert found[:6] == pytest.approx(expected[:6], rel=1e-5)
    assert found.worst == repeated.excess.max()
    alone = np.zeros(LEVELS.shape)
    alone[7, 9] = 0.5
    assert summary(MAPS, alone)[2:7] == pytest.approx(
        (LEVELS[7, 9],) * 3 + (float(LEVELS[7, 9] > 4), LEVELS[7, 9]), rel=1e-6
    )


@pytest.mark.parametrize("weight", [np.zeros((40, 50)), np.ones((50, 40))])
def test_other_weights_are_refused(weight):
    with pytest.raises(ShapeError) as caught:
        summary(MAPS, weight)
    assert_teaches(caught.value, "(40, 50)", str(weight.shape))


# --- for the eye ------------------------------------------------------------------------------------------------------


def test_the_picture_and_its_numbers(tmp_path):
    picture, numbers = write_consistency(tmp_path / "a.consistency.png", MAPS, mpp=(0.25, 0.5))
    assert sorted(tmp_path.iterdir()) == sorted([picture, numbers])
    assert numbers.name == "a.consistency.tif"
    np.testing.assert_array_equal(tifffile.imread(numbers), [MAPS.excess, *MAPS])
    with tifffile.TiffFile(numbers) as tiff:
        tags = tiff.pages[0].tags
        descriptions = [page.tags["ImageDescription"].value for page in tiff.pages]
        assert [text.split(":")[0] for text in descriptions] == [
            "network - bicubic",
            "network",
            "bicubic interpolation",
        ]
        assert all("16 x 16" in text for text in descriptions)
        top, bottom = tags["XResolution"].value
        assert 1e4 * bottom / top == pytest.approx(0.5 * 16)
        assert tags["ResolutionUnit"].value == 3
    drawn = np.asarray(Image.open(picture))
    zoom = 12  # 480 pixels for 40 blocks
    cells = drawn[8 : 8 + 40 * zoom, 8 : 8 + 50 * zoom].reshape(40, zoom, 50, zoom, 3)
    np.testing.assert_array_equal(cells[:, 0, :, 0], module._color(MAPS.excess))
    np.testing.assert_array_equal(cells[:, -1, :, -1], module._color(MAPS.excess))


def test_colors_rise_in_lightness_from_0_to_8_levels():
    colors = module._color(np.linspace(0, 8, 201)[None])[0].astype(float)
    light = colors @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) >= 0).all()
    assert light[0] == 0
    assert light[-1] > 220
    np.testing.assert_array_equal(
        module._color(np.array([[8.0, 200.0]]))[0, 0], module._color(np.array([[99.0]]))[0, 0]
    )
    # Lightness alone tells the levels apart, for those who do not see the colors.
    assert np.abs(light[100] - light[0]) > 50
    assert np.abs(light[200] - light[100]) > 100


def test_the_legend_shows_the_same_colors(tmp_path):
    picture, _ = write_consistency(tmp_path / "a.png", MAPS)
    bar = np.asarray(Image.open(picture))[8:488, 8 + 600 + 8 + 10]
    np.testing.assert_array_equal(bar, module._color(np.linspace(8, 0, 480)[None])[0])


def test_a_large_map_keeps_its_worst_blocks(tmp_path):
    levels = np.zeros((500, 4500), np.float32)
    levels[321, 3456] = 7.0
    picture, numbers = write_consistency(tmp_path / "a.png", maps(levels, np.full(levels.shape, 3, np.float32)))
    drawn = np.asarray(Image.open(picture))
    assert drawn.shape[1] < 2300
    assert tuple(module._color(np.array([[7.0]]))[0, 0]) in {tuple(p) for p in drawn[8:175, 8:1508].reshape(-1, 3)}
    assert tifffile.imread(numbers).shape == (3, *levels.shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (300, 1)])
def test_maps_of_any_shape_have_room_for_their_words(tmp_path, shape):
    picture, _ = write_consistency(tmp_path / "a.png", maps(np.full(shape, 3.0, np.float32)))
    with Image.open(picture) as image:
        assert image.size[0] >= 400
        assert image.size[1] >= 240
    edge = np.asarray(Image.open(picture))
    assert (edge[:, -4:] == 255).all()  # nothing is cut off at the right


def test_nothing_is_overwritten_unasked(tmp_path):
    write_consistency(tmp_path / "a.png", MAPS)
    (tmp_path / "a.png").unlink()
    with pytest.raises(OutputError) as caught:
        write_consistency(tmp_path / "a.png", MAPS)
    assert_teaches(caught.value, "new file", "a.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    write_consistency(tmp_path / "a.png", maps(LEVELS + 1), overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif", key=0), LEVELS + 1)
    with pytest.raises(OutputError) as caught:
        write_consistency(tmp_path / "a.jpg", MAPS)
    assert_teaches(caught.value, ".png", "a.jpg")
