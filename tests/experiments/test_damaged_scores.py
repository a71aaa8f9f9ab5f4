"""Scores and settings of Tables III and IV and of the tile experiments that were edited, truncated or removed."""

from types import SimpleNamespace

import numpy as np
import pytest
from damaged import damaged, refused
from reference import assert_teaches

from experiments.classification import _score as score_patches
from experiments.downstream import claim_folder
from experiments.preparation.output_folder import MANIFEST, Plan, fill_folder
from experiments.reconstruction_scores import ScoreSpec, score_tiles
from experiments.segmentation import _score as score_glands
from experiments.tables import Metric
from experiments.tumor_task import PatchViews
from monai_iste.errors import DataError, OutputError
from monai_iste.io.json_files import write_json


class Maker:
    """Stand-in for a reconstructor: only its names are asked for where scores are read."""

    def __init__(self, preset):
        self.preset, self.scale, self.name, self.identity = preset, 2.0, f"{preset}-x2", {"preset": preset}

    def __call__(self, image):
        return image, image, image


SPEC = ScoreSpec("colors", {"error": Metric("error", "", 2, False)}, {"error": "own"}, ["error"], ("a", "b", "c"))


def score_two_tiles(folder):
    items = [{"image": np.full((3, 12, 12), value, np.uint8), "name": name} for name, value in (("a", 3), ("b", 200))]
    score = lambda name, high, found: [{"error": 1.0, "own": None}]  # noqa: E731
    return score_tiles(SPEC, [Maker("bicubic"), Maker("iste_light")], items, {}, score, folder, "cpu")


@damaged
def test_damaged_rows_of_a_reconstruction(content, tmp_path):
    score_two_tiles(tmp_path)
    file = tmp_path / "results" / "iste_light-x2.json"
    file.write_text(content)
    refused(lambda: score_two_tiles(tmp_path), file.name, "measured again")


def test_edited_rows_of_a_reconstruction(tmp_path):
    rows = score_two_tiles(tmp_path)
    assert score_two_tiles(tmp_path) == rows
    file = tmp_path / "results" / "iste_light-x2.json"
    own = rows[2:]
    for edited in (
        own[:1],
        own[::-1],
        [own[0], {**own[1], "error": "x"}],
        [own[0], {**own[1], "method": "bicubic"}],
        [own[0], {**own[1], "scale": 4.0}],
        [own[0], {key: own[1][key] for key in own[1] if key != "own"}],
    ):
        write_json(file, edited)
        refused(lambda: score_two_tiles(tmp_path), "results", "measured again")


@damaged
def test_damaged_scores_of_classifiers_and_segmentations(content, tmp_path):
    (tmp_path / "original.json").write_text(content)
    task = views = SimpleNamespace(setting="original")
    refused(lambda: score_patches(None, views, [], tmp_path / "original.json", "cpu"), "original.json")
    refused(lambda: score_glands(task, None, {"testA": [1], "testB": []}, tmp_path / "original"), "original.json")


@pytest.mark.parametrize("scores", [{"accuracy": 90.0}, {"accuracy": "90", "f1": 0.9}, {"accuracy": 90.0, "f1": None}])
def test_edited_scores_of_a_classifier(scores, tmp_path):
    write_json(tmp_path / "a.json", scores)
    refused(lambda: score_patches(None, None, [], tmp_path / "a.json", "cpu"), "a.json")


def test_edited_scores_of_a_segmentation(tmp_path):
    whole = {"f1": 0.5, "object_dice": 0.5, "object_hausdorff": 3.0}
    images = {"testA": [1], "testB": [1]}
    write_json(tmp_path / "a.json", {"testA": whole, "testB": whole})
    assert score_glands(None, None, images, tmp_path / "a")["testB"] == whole
    for other in ({"f1": 0.5}, 3, {**whole, "f1": "0.5"}):
        write_json(tmp_path / "a.json", {"testA": whole, "testB": other})
        refused(lambda: score_glands(None, None, images, tmp_path / "a"), "testB", "a.json")
    write_json(tmp_path / "a.json", {"testA": whole})
    refused(lambda: score_glands(None, None, images, tmp_path / "a"), "testB", "a.json")


@damaged
def test_damaged_settings(content, tmp_path):
    (tmp_path / "settings.json").write_text(content)
    refused(lambda: claim_folder(tmp_path, {"steps": 3}), "settings.json", "--output-dir")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\0" * 200, b"whole, but of other images"])
def test_damaged_reconstructions_that_were_kept(content, tmp_path):
    items = [{"image": np.full((3, 12, 12), 3, np.uint8), "label": 0, "name": "a"}]
    views = PatchViews("bicubic", Maker("bicubic"), tmp_path)
    ((images, _),) = views.blocks(items)
    assert images.shape == (1, 3, 12, 12)
    (file,) = tmp_path.glob("*/block-*.npy")
    if content.startswith(b"whole"):
        np.save(file, np.zeros((2, 3, 12, 12), np.uint8))
    else:
        file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(views.blocks(items))
    assert_teaches(caught.value, file.name, "Remove it: it is then computed again.")


@damaged
@pytest.mark.parametrize("name", [MANIFEST, ".preparing.json"])
def test_damaged_manifests_of_a_prepared_data_set(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_text("")
    refused(
        lambda: fill_folder(tmp_path, {"name": "x", "seed": 0}, lambda: Plan([], {}), quiet=True),
        name,
        error=OutputError,
    )


@pytest.mark.parametrize("missing", ["job", "counts", "files"])
def test_a_manifest_without_an_entry(missing, tmp_path):
    whole = {"job": {"name": "x"}, "counts": {"train": 1}, "files": {}}
    write_json(tmp_path / MANIFEST, whole)
    assert fill_folder(tmp_path, {"name": "x"}, lambda: Plan([], {}), quiet=True) == whole
    write_json(tmp_path / MANIFEST, {key: whole[key] for key in whole if key != missing})
    refused(lambda: fill_folder(tmp_path, {"name": "x"}, lambda: Plan([], {}), quiet=True), MANIFEST, error=OutputError)
