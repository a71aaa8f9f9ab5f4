"""Nuclei on synthetic tissue: found where they were drawn, at any resolution, paired one to one; and the table."""

import json
from pathlib import Path

import numpy as np
import pytest
from experiment_files import table
from PIL import Image
from reference import assert_teaches
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from experiments import nuclei as module
from experiments.downstream import Reconstructor
from experiments.nuclei import nuclei
from experiments.nucleus_task import Agreement, agreement, centroids, find_nuclei
from experiments.tiles import pixel_sizes, source_of
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError, DataError, ShapeError
from monai_iste.io.image_reader import read_rgb

EOSIN, HEMATOXYLIN = (231, 149, 187), (86, 62, 132)
#: Centers (y, x) and radii, micrometers. The second and the third touch; the last is too small for a nucleus.
DISCS = [((10, 10), 4), ((12, 30), 4), ((12, 37.5), 4), ((30, 12), 3), ((34, 34), 5), ((22, 22), 1)]
NUCLEI = np.array([center for center, _ in DISCS[:-1]], float)


def drawn(mpp: float, discs=DISCS, side: float = 48.0) -> np.ndarray:
    """(3, H, W), uint8: discs on eosin with some noise; ``side`` in micrometers."""
    n = round(side / mpp)
    y, x = (np.mgrid[:n, :n] + 0.5) * mpp
    image = np.broadcast_to(np.array(EOSIN, float)[:, None, None], (3, n, n)).copy()
    for (cy, cx), radius in discs:
        image[:, (y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = np.array(HEMATOXYLIN, float)[:, None]
    return np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255).astype(np.uint8)


# --- the detector -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.62])
def test_nuclei_are_found_where_they_are_at_any_resolution(mpp):
    found = centroids(find_nuclei(drawn(mpp), mpp), mpp)
    assert agreement(NUCLEI, found, 0.6) == Agreement(5, 5, 5)


def test_crowded_nuclei_on_dark_ground_are_separated():
    """In a patch that is above Otsu's threshold all over, and would be one nucleus by it alone."""
    centers = [(y, x) for y in (50, 60, 70) for x in (50, 60, 70)]
    image = drawn(0.5, discs=[((60, 60), 45)], side=120)
    inside = drawn(0.5, discs=[(center, 3.5) for center in centers], side=120)[0] < 150
    image[:, inside] = (image[:, inside] * 0.4).astype(np.uint8)
    found = centroids(find_nuclei(image, 0.5), 0.5)
    assert agreement(np.array(centers, float), found, 1.0).matched == 9


@pytest.mark.parametrize("color", [(255, 255, 255), EOSIN, HEMATOXYLIN])
def test_one_color_has_no_nuclei(color):
    image = np.broadcast_to(np.array(color, np.uint8)[:, None, None], (3, 40, 50))
    assert find_nuclei(image, 0.5).max() == 0
    assert centroids(find_nuclei(image, 0.5), 0.5).shape == (0, 2)


def test_channels_come_first():
    with pytest.raises(ShapeError) as caught:
        find_nuclei(np.zeros((40, 50, 3), np.uint8), 0.5)
    assert_teaches(caught.value, "(40, 50, 3)")


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_as_many_pairs_as_there_can_be(seed):
    random = np.random.default_rng(seed)
    there, found = random.random((40, 2)) * 10, random.random((30, 2)) * 10
    possible = maximum_bipartite_matching(csr_matrix(cdist(there, found) <= 1.2))
    assert agreement(there, found, 1.2) == Agreement(40, 30, int((possible >= 0).sum()))


def test_f1():
    assert Agreement(4, 2, 2).f1 == pytest.approx(2 * 1.0 * 0.5 / (1.0 + 0.5))  # precision 1, recall 1/2
    assert Agreement(0, 0, 0).f1 == 1
    assert Agreement(3, 0, 0).f1 == 0
    nothing = np.zeros((0, 2))
    assert agreement(nothing, nothing, 1) == Agreement(0, 0, 0)
    assert agreement(NUCLEI, nothing, 1) == Agreement(5, 0, 0)


# --- pixel sizes ------------------------------------------------------------------------------------------------------


def test_pixel_sizes_by_collection_and_for_the_rest(tmp_path):
    items = [{"image": str(tmp_path / f"{name}.png"), "name": name} for name in ("a_1", "b_1", "c/d_1")]
    for item in items:
        Path(item["image"]).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(item["image"])
    assert pixel_sizes(items, "0.5") == {"a_1": 0.5, "b_1": 0.5, "c/d_1": 0.5}
    assert pixel_sizes(items, "0.5,a=0.25,c=1") == {"a_1": 0.25, "b_1": 0.5, "c/d_1": 1.0}
    with pytest.raises(DataError) as caught:
        pixel_sizes(items, "a=0.5")
    assert_teaches(caught.value, "b_1.png", "--mpp b=0.5")
    for wrong in ("wide", "a=", "-1"):
        with pytest.raises(ConfigError) as refused:
            pixel_sizes(items, wrong)
        assert_teaches(refused.value)
    assert source_of("a_1") == "a"


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiles(tmp_path) -> Path:
    """Three tiles of two collections, 0.5 um; one without a nucleus."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name, discs in (("a_1", DISCS), ("a_2", DISCS[:4]), ("b_1", DISCS[3:]), ("b_2", [])):
        image = drawn(0.5, discs) if discs else np.full((3, 96, 96), 255, np.uint8)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{name}.png")
    return folder


def test_the_table_and_a_second_run(tiles, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    nuclei(tiles, "0.5", out, scale=[2.0, 3.0], device="cpu")
    printed = capsys.readouterr().out
    assert "x2, all, 3 tiles" in printed
    assert "x3, b, 1 tile:" in printed
    assert "ISTE minus Bicubic" in printed
    rows = table(out / "nuclei-tiles.csv")
    assert [(r["scale"], r["method"], r["image"]) for r in rows] == [
        (scale, method, image)
        for scale in ("2.0", "3.0")
        for method in ("bicubic", DEFAULT_PRESET)
        for image in ("a_1", "a_2", "b_1")  # b_2 has nothing to compare
    ]
    for row in rows:
        high, _, again = Reconstructor(row["method"], scale=float(row["scale"]))(str(tiles / f"{row['image']}.png"))
        there, found = (centroids(find_nuclei(image, 0.5), 0.5) for image in (high, again))
        pairs = agreement(there, found, 3.0)
        assert (int(row["there"]), int(row["found"]), int(row["matched"])) == pairs
        assert float(row["f1"]) == pytest.approx(pairs.f1)
        assert float(row["bias"]) == pytest.approx(100 * (len(found) - len(there)) / len(there))
        assert float(row["count_error"]) == abs(float(row["bias"]))
    means = {(r["scale"], r["source"], r["method"]): r for r in table(out / "nuclei.csv")}
    own = [float(r["f1"]) for r in rows if (r["scale"], r["method"]) == ("3.0", DEFAULT_PRESET)]
    assert float(means["3.0", "all", DEFAULT_PRESET]["f1"]) == pytest.approx(np.mean(own))
    assert means["2.0", "a", "bicubic"]["tiles"] == "2"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["mpp"]["a_1"] == 0.5
    assert manifest["reconstructions"][1]["weights"]["file"] == f"{DEFAULT_PRESET}.safetensors"

    def nothing_again(*arguments):
        raise AssertionError

    monkeypatch.setattr(module, "_score", nothing_again)
    nuclei(tiles, "0.5", out, scale=[2.0, 3.0], device="cpu")
    assert capsys.readouterr().out == printed
    with pytest.raises(ConfigError, match="distance"):
        nuclei(tiles, "0.5", out, scale=[2.0, 3.0], distance=1.0, device="cpu")


def test_lost_nuclei_are_counted(tiles, tmp_path, monkeypatch):
    """An image with one nucleus painted over, in the network's place: one of five is missing, the rest is there."""

    class Painter(Reconstructor):
        def __call__(self, image):
            high, low, again = super().__call__(image)
            again = read_rgb(image)
            if self.preset != "bicubic":
                again[:, :40, :40] = np.array(EOSIN, np.uint8)[:, None, None]
            return high, low, again

    monkeypatch.setattr(module, "Reconstructor", Painter)
    nuclei(tiles, "0.5", tmp_path / "out", scale=[2.0], device="cpu")
    rows = {(r["method"], r["image"]): r for r in table(tmp_path / "out" / "nuclei-tiles.csv")}
    assert float(rows["bicubic", "a_1"]["f1"]) == 1
    assert float(rows[DEFAULT_PRESET, "a_1"]["bias"]) == pytest.approx(-20)
    assert float(rows[DEFAULT_PRESET, "a_1"]["f1"]) == pytest.approx(8 / 9)
    assert float(rows[DEFAULT_PRESET, "b_1"]["f1"]) == 1  # its nuclei are elsewhere


def test_tiles_without_nuclei_and_without_pixel_sizes(tmp_path):
    folder = tmp_path / "background"
    folder.mkdir()
    Image.new("RGB", (60, 60), "white").save(folder / "a.png")
    with pytest.raises(DataError) as caught:
        nuclei(folder, "0.5", tmp_path / "out", scale=[2.0], device="cpu")
    assert_teaches(caught.value)
    with pytest.raises(DataError, match=r"pixel size of .*a\.png"):
        nuclei(folder, None, tmp_path / "other", scale=[2.0], device="cpu")
    assert not (tmp_path / "other").exists()
