"""Slides for measurements: pyramids that OpenSlide opens, with the requested fraction of tissue."""

import itertools

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from reference import assert_teaches
from skimage.data import immunohistochemistry
from typer.testing import CliRunner

from benchmarks import mosaic as module
from benchmarks.mosaic import TILE, Islands, app, mosaic, tissue_pieces
from monai_iste.errors import ConfigError, DataError, OutputError

pytest.importorskip("imagecodecs")

BACKGROUND = np.array((240, 238, 241), np.float32)
PIECES = [np.random.default_rng(i).integers(0, 150, (n, n, 3), dtype=np.uint8) for i, n in enumerate((90, 64, 77))]


@pytest.fixture
def source(tmp_path):
    """A folder with a picture that is half tissue, and one of background alone."""
    folder = tmp_path / "source"
    folder.mkdir()
    pixels = np.full((600, 900, 3), BACKGROUND, np.uint8)
    pixels[44:556, :512] = immunohistochemistry()
    Image.fromarray(pixels).save(folder / "tissue.png")
    Image.fromarray(np.full((600, 900, 3), BACKGROUND, np.uint8)).save(folder / "background.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def whole(islands, side):
    count = -(-side // TILE)
    rows = [
        np.concatenate([islands.tile(i * TILE, j * TILE) for j in range(count)], axis=1)[:, :side] for i in range(count)
    ]
    return np.concatenate(rows)[:side]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_openslide_sees_every_level(source, tmp_path, capsys):
    out = tmp_path / "big.tif"
    row = mosaic(source, out, side=4500, tissue=0.5, seed=0, mpp=0.25, overwrite=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["big.tif"]
    assert row["levels"] == 3
    assert row["tissue"] == pytest.approx(0.5, abs=0.01)
    assert "| 4500 | 3 |" in capsys.readouterr().out
    with openslide.OpenSlide(out) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((4500, 4500), (1125, 1125), (282, 282))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        levels = [
            np.asarray(slide.read_region((0, 0), i, size).convert("RGB"))
            for i, size in enumerate(slide.level_dimensions)
        ]
    for larger, smaller in itertools.pairwise(levels):
        expected = np.asarray(Image.fromarray(larger).reduce(4)).astype(int)
        difference = np.abs(smaller - expected)  # JPEG, twice
        assert max(difference.mean(), difference[-20:].mean(), difference[:, -20:].mean()) < 4
        assert np.abs(smaller[:, 1:] - expected[:, :-1]).mean() > 3 * difference.mean()
    stained = (BACKGROUND - levels[0]).max(2) > 20
    assert 0.35 < stained.mean() < 0.5  # the tissue has pale pixels of its own
    with tifffile.TiffFile(out) as tiff:
        assert [page.subfiletype for page in tiff.pages] == [0, 1, 1]
        assert [page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] for page in tiff.pages] == (
            pytest.approx([40_000, 10_000, 2_500])
        )
        assert all(page.is_tiled for page in tiff.pages)


def test_an_unknown_pixel_size_stays_unknown(source, tmp_path):
    mosaic(source, tmp_path / "a.tif", side=700, tissue=0.5, seed=0, mpp=None, overwrite=False)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_dimensions == ((700, 700),)
        assert "openslide.mpp-x" not in slide.properties


def test_the_seed_alone_makes_the_difference(source, tmp_path):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        mosaic(source, tmp_path / f"{name}.tif", side=900, tissue=0.6, seed=seed, mpp=0.5, overwrite=False)
        files.append((tmp_path / f"{name}.tif").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_refusals(source, tmp_path):
    out = tmp_path / "a.tif"
    with pytest.raises(ConfigError) as caught:
        mosaic(source, out, side=700, tissue=1.5)
    assert_teaches(caught.value, "0 to 1", "1.5")
    (source / "tissue.png").unlink()
    with pytest.raises(DataError) as caught:
        mosaic(source, out, side=700)
    assert_teaches(caught.value, "with tissue", str(source))
    assert not out.exists()
    out.write_text("mine")
    Image.fromarray(immunohistochemistry()).save(source / "tissue.png")
    with pytest.raises(OutputError):
        mosaic(source, out, side=700)
    assert out.read_text() == "mine"


def test_the_command(source, tmp_path):
    arguments = [str(source), str(tmp_path / "a.tif"), "--side", "600", "--tissue", "0.4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "| 600 | 1 | 0.4 |" in result.output


# --- its parts --------------------------------------------------------------------------------------------------------


def test_pieces_are_tissue_of_the_source(source):
    pieces, background, mpp = tissue_pieces(source)
    assert mpp is None
    np.testing.assert_allclose(background, BACKGROUND, atol=1)
    pixels = np.asarray(Image.open(source / "tissue.png"))
    for piece in pieces:
        assert piece.shape == (512, 512, 3)
        assert ((BACKGROUND - piece).max(2) > 20).mean() >= 0.5
        assert any(np.array_equal(piece, pixels[i : i + 512, j : j + 512]) for i in (0,) for j in range(0, 389, 256))


@pytest.mark.parametrize("tissue", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_fraction_of_tissue(tissue):
    islands = Islands(3000, tissue, PIECES, BACKGROUND)
    assert islands.tissue_fraction == pytest.approx(tissue, abs=0.01)
    pixels = whole(islands, 3000)
    assert ((BACKGROUND - pixels).min(2) > 45).mean() == pytest.approx(tissue, abs=0.05)


def test_background_has_its_color_and_slight_noise():
    pixels = whole(Islands(1500, 0, PIECES, BACKGROUND), 1500).astype(float)
    np.testing.assert_allclose(pixels.mean((0, 1)), BACKGROUND, atol=0.1)
    assert 0.8 < pixels.std((0, 1)).max() < 1.6
    assert np.abs(pixels[:TILE, :TILE] - pixels[TILE : 2 * TILE, :TILE]).mean() > 0.5  # no tile is the next again


def mirrored(piece, y, x):
    """The value of a piece that is mirrored repeatedly."""
    n = len(piece)
    y, x = (i % (2 * n) for i in (y, x))
    return piece[y if y < n else 2 * n - 1 - y, x if x < n else 2 * n - 1 - x]


def test_inside_an_island_there_is_one_mirrored_piece():
    islands = Islands(3000, 0.8, PIECES, BACKGROUND)
    pixels = whole(islands, 3000)
    islands_seen = 0
    for owner in range(islands._owner.max() + 1):
        inside = np.argwhere((islands._owner == owner) & (islands._outline > 2 * module._SOFT))[5::40] * islands._step
        inside = inside[(inside.max(1) < 3000 - 16)] if len(inside) else inside
        if not len(inside):
            continue
        islands_seen += 1
        fits = [
            all((mirrored(piece, y + dy, x + dx) == pixels[y, x]).all() for y, x in inside)
            for piece in PIECES
            for dy, dx in [_offset(piece, pixels, *inside[0])]
        ]
        assert sum(fits) == 1
    assert islands_seen >= 3


def _offset(piece, pixels, y, x):
    """Positions in the mirrored piece of the pixel (y, x) and its neighbors."""
    n = 2 * len(piece)
    plane = np.concatenate([piece, piece[::-1]])
    plane = np.concatenate([plane, plane[:, ::-1]], axis=1)
    here = np.ones((n, n), bool)
    for dy in range(4):
        for dx in range(4):
            here &= (np.roll(plane, (-dy, -dx), (0, 1)) == pixels[y + dy, x + dx]).all(2)
    found = np.argwhere(here)
    return (found[0] - (y, x)) if len(found) else (0, 0)


def test_edges_are_soft():
    dark = [np.zeros((64, 64, 3), np.uint8)]
    pixels = whole(Islands(3000, 0.5, dark, BACKGROUND), 3000)[..., 1].astype(float)
    step = np.abs(np.diff(pixels, axis=1))
    assert step.max() < 60
    between = ((pixels > 30) & (pixels < 210)).mean()
    assert 0.002 < between < 0.2


def test_a_tile_does_not_depend_on_the_others():
    islands, again = (Islands(1500, 0.5, PIECES, BACKGROUND, seed=3) for _ in range(2))
    places = [(i, j) for i in range(0, 1500, TILE) for j in range(0, 1500, TILE)]
    first = [islands.tile(*place) for place in places]
    for place, tile in reversed(list(zip(places, first, strict=True))):
        np.testing.assert_array_equal(again.tile(*place), tile)
