"""Training tiles from TCGA slides: tissue, equal numbers, splits, and errors for unusable slides."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from preparation_files import PUBLIC, QUIET, TILE, counts, files, write_slides
from reference import assert_teaches
from slide_files import picture, write_slide_file

from experiments.preparation import prepare_tcga
from experiments.preparation.tcga import tissue_fractions
from monai_iste.errors import ConfigError, DataError
from monai_iste.io import read_rgb
from monai_iste.io.files import checksum
from monai_iste.slides.tissue import TissueMask


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    return write_slides(tmp_path_factory.mktemp("slides"))


def test_shares_of_tissue_equal_the_mask_asked_point_by_point():
    samples = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
    mask = TissueMask(samples, (210, 300))
    shares = tissue_fractions(mask, 96)
    assert shares.shape == (2, 3)
    for row in range(2):
        for column in range(3):
            hits = 0
            for i in range(32):
                for j in range(32):
                    y, x = row * 96 + (i + 0.5) * 3 - 0.5, column * 96 + (j + 0.5) * 3 - 0.5
                    hits += weight(samples, (210, 300), y, x) > 0.5
            assert shares[row, column] == hits / 1024


def weight(samples, size, y, x):
    """Bilinear, by the definition of the mask."""
    t = [min(max((p + 0.5) * n / side - 0.5, 0), n - 1) for p, n, side in zip((y, x), samples.shape, size, strict=True)]
    total = 0.0
    for i in range(samples.shape[0]):
        for j in range(samples.shape[1]):
            total += max(0, 1 - abs(t[0] - i)) * max(0, 1 - abs(t[1] - j)) * samples[i, j]
    return total / 255


def test_tiles_come_from_tissue_in_equal_numbers_and_are_the_slides_own_pixels(slides, tmp_path):
    root = tmp_path / "root"
    report = prepare_tcga(slides, root, counts=(12, 2, 2), slides=3, tile=TILE, **QUIET)
    assert counts(root) == [12, 2, 2]
    about = report["source"]["slides"]
    assert [slide["candidates"] for slide in about] == [12, 12, 4]
    assert [sum(slide["tiles"].values()) for slide in about] == [6, 6, 4]  # the third has no more to give
    assert [slide["name"] for slide in about] == [PUBLIC, None, None]
    assert about[1]["sha256"] == checksum(slides / "smith-b.tif")
    assert report["mpp"] == 0.25
    assert "smith" not in (root / "dataset.json").read_text()
    paths = sorted(slides.iterdir())
    for file in root.rglob("*.png"):
        number, row, column = (int(word.lstrip("slidrec")) for word in file.stem.split("-"))
        pixels = tifffile.imread(paths[number - 1])[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        np.testing.assert_array_equal(read_rgb(file), pixels.transpose(2, 0, 1))
        assert number != 3 or row == 2  # the others are background
        with Image.open(file) as image:
            assert round(1e6 / 0.25) == round(image.info["dpi"][0] / 0.0254)


def test_a_seed_fixes_the_tiles_and_another_draws_others(slides, tmp_path):
    options = {"counts": (4, 1, 1), "slides": 3, "tile": TILE, **QUIET}
    prepare_tcga(slides, tmp_path / "a", seed=1, **options)
    prepare_tcga(slides, tmp_path / "b", seed=1, **options)
    prepare_tcga(slides, tmp_path / "c", seed=2, **options)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a").keys() != files(tmp_path / "c").keys()


def test_split_by_slide_keeps_a_slide_on_one_side(slides, tmp_path):
    root = tmp_path / "root"
    prepare_tcga(slides, root, counts=(4, 3, 2), slides=3, tile=TILE, split_by="slide", **QUIET)
    assert counts(root) == [4, 3, 2]
    sides = [{file.name.split("-")[0] for file in (root / part).iterdir()} for part in ("train", "val", "test")]
    assert sorted(name for side in sides for name in side) == ["slide1", "slide2", "slide3"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"counts": (27, 1, 1)}, DataError, ["29 tiles with enough tissue", "28 (12, 12, 4)", "--min-tissue"]),
        ({"slides": 5}, DataError, ["5 slides in", "got 3", "--slides"]),
        ({"input_mpp": 0.5}, DataError, ["40x, 0.2 to 0.3 um", "0.5 um", "another slide"]),
        ({"tile": 100}, ConfigError, ["at least 192 pixels", "100", "3072"]),
        ({"min_tissue": 0.0}, ConfigError, ["min_tissue above 0", "0.0", "0.5"]),
        ({"split_by": "patient"}, ConfigError, ["by tile or by slide", "'patient'", "need tile"]),
        ({"split_by": "slide", "slides": 2}, ConfigError, ["at least 3 slides", "got 2", "Name more"]),
        ({"counts": (1, 1)}, ConfigError, ["counts of train, val and test", "(1, 1)", "320,40,40"]),
        ({"counts": (1, 0, 1)}, ConfigError, ["each at least 1", "(1, 0, 1)", "320,40,40"]),
    ],
)
def test_unusable_slides_and_options_are_said(options, error, words, slides, tmp_path):
    with pytest.raises(error) as caught:
        prepare_tcga(slides, tmp_path / "root", **{"counts": (4, 1, 1), "slides": 3, "tile": TILE, **QUIET, **options})
    assert_teaches(caught.value, *words)
    assert not (tmp_path / "root").exists()


def test_a_slide_without_a_pixel_size_needs_the_users_word(tmp_path):
    write_slide_file(tmp_path / "source.tif", picture(2 * TILE, 2 * TILE), mpp=None)
    options = {"counts": (2, 1, 1), "slides": 1, "tile": TILE, **QUIET}
    with pytest.raises(DataError, match="--input-mpp"):
        prepare_tcga(tmp_path, tmp_path / "root", **options)
    assert prepare_tcga(tmp_path, tmp_path / "root", input_mpp=0.25, **options)["mpp"] == 0.25


def test_links_to_folders_are_followed_once_and_hidden_files_left_out(slides, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "disk").symlink_to(slides)
    (source / "again").symlink_to(slides)
    (source / "loop").symlink_to(source)
    (source / "._smith.svs").write_bytes(b"left by macOS")
    linked = prepare_tcga(source, tmp_path / "linked", counts=(2, 1, 1), slides=3, tile=TILE, **QUIET)
    direct = prepare_tcga(slides, tmp_path / "direct", counts=(2, 1, 1), slides=3, tile=TILE, **QUIET)
    assert [slide["sha256"] for slide in linked["source"]["slides"]] == [
        slide["sha256"] for slide in direct["source"]["slides"]
    ]
    assert files(tmp_path / "linked") == files(tmp_path / "direct")
