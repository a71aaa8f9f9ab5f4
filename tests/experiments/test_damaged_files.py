"""Files of an experiment that were edited, truncated or removed between two runs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from reference import assert_teaches
from typer.testing import CliRunner

from experiments import runs, study
from experiments.__main__ import app
from experiments.check import check_pages
from experiments.classification import _score as score_patches
from experiments.downstream import claim_folder
from experiments.methods import METHODS, Budget
from experiments.page_sources import PHRASES, TABLES
from experiments.preparation.output_folder import MANIFEST, Plan, fill_folder
from experiments.reconstruction_scores import ScoreSpec, score_tiles
from experiments.segmentation import _score as score_glands
from experiments.study import Study
from experiments.tables import Metric
from experiments.tiles import TABLE, label_tiles
from experiments.tumor_task import PatchViews
from monai_iste.errors import DataError, ISTEError, OutputError
from monai_iste.io.json_files import write_json

# As an editor or a full disk leaves them.
CONTENTS = {
    "empty": "",
    "truncated": '{"a": [1, 2',
    "zeros": "\0" * 64,
    "a list": "[]",
    "a number": "3",
    "null": "null",
}
damaged = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())


def refused(run, *words, error=DataError):
    with pytest.raises(error) as caught:
        run()
    assert_teaches(caught.value, *words)
    assert "restore" in str(caught.value).lower()


# --- runs of the bundle -----------------------------------------------------------------------------------------------

RECORD = {"workflow": "training", "configs": ["train"], "options": {"seed": "0"}}
RECORD |= {"cpu_seconds": 3.0, "seconds": 4.0, "finished": True}


def run_again(folder):
    return runs.run_bundle("training", ["train"], {"seed": 0}, folder)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@damaged
def test_a_damaged_record_of_a_run(content, folder):
    (folder / "run.json").write_text(content)
    for run in (run_again, runs.is_finished, runs.seconds_of):
        refused(lambda run=run: run(folder), "run.json", "remove")
    assert (folder / "run.json").read_text() == content


@pytest.mark.parametrize("key", RECORD)
def test_a_record_without_an_entry(key, folder):
    write_json(folder / "run.json", {name: RECORD[name] for name in RECORD if name != key})
    refused(lambda: run_again(folder), repr(key), "run.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workflow", 3),
        ("configs", "train"),
        ("configs", [3]),
        ("options", [1]),
        ("options", {"seed": 0}),
        ("cpu_seconds", "3"),
        ("cpu_seconds", -1),
        ("cpu_seconds", float("nan")),
        ("seconds", float("inf")),
        ("seconds", None),
        ("finished", "no"),
    ],
)
def test_a_record_with_another_value(key, value, folder):
    write_json(folder / "run.json", {**RECORD, key: value})
    refused(lambda: run_again(folder), "run.json")


def test_an_undamaged_record(folder):
    write_json(folder / "run.json", RECORD)
    assert run_again(folder) == RECORD
    assert runs.is_finished(folder)


# --- scores of a study ------------------------------------------------------------------------------------------------


def rows(names=("a", "b"), scales=(2, 4)):
    row = {"psnr": 30.0, "ssim": 0.9}
    return [
        {"image": name, "scale": scale, "method": method, **row}
        for method in ("bicubic", "iste")
        for name in names
        for scale in scales
    ]


def change(images, index, **values):
    return [{**row, **values} if i == index else row for i, row in enumerate(images)]


REPORTS = {
    "no images": {"images": []},
    "no list": {"images": "x"},
    "half of them": {"images": rows()[:4]},
    "an odd number": {"images": rows()[:-1]},
    "one removed on both sides": {"images": [*rows()[1:4], *rows()[4:7]]},
    "two networks": {"images": change(rows(), 7, method="liif")},
    "no bicubic": {"images": change(rows(), 0, method="lanczos")},
    "another image": {"images": change(rows(), 5, image="c")},
    "a text for a number": {"images": change(rows(), 5, psnr="30")},
    "no score": {"images": change(rows(), 5, ssim=None)},
    "fid without rows": {"images": rows(), "fid": {}},
    "fid as text": {"images": rows(), "fid": {"rows": [{"scale": 2, "method": "iste", "fid": "low"}]}},
}


@pytest.fixture
def evaluation(root, tmp_path, monkeypatch):
    """A study whose evaluation is finished; returns a function that writes its report and reads it again."""
    folder = tmp_path / "out"
    table = Study(
        {"iste": METHODS["iste"]}, root, Budget("light", 2, 8, 32, 1024, 1e-3, 1e-5, True), "iste-rgb", folder
    )
    (run,) = table.plan_runs("iste", (2, 4), 1)
    monkeypatch.setattr(study, "run_bundle", lambda workflow, configs, options, folder: {})
    place = folder / "runs" / run.name / "iste-rgb-x2-x4"
    place.mkdir(parents=True)

    def read(text):
        if text is not None:
            (place / "metrics.json").write_text(text)
        return table.evaluate(run, (2, 4))

    return read


@damaged
def test_damaged_scores_of_a_finished_evaluation(content, evaluation):
    refused(lambda: evaluation(content), "metrics.json", "remove")


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
def test_edited_scores(report, evaluation):
    refused(lambda: evaluation(json.dumps(report)), "metrics.json", "remove")


def test_scores_that_are_gone(evaluation):
    refused(lambda: evaluation(None), "no metrics.json", "remove")


def test_scores_as_they_were(evaluation):
    for report in (
        {"images": rows()},
        {"images": rows(), "fid": {"rows": [{"scale": 2, "method": "iste", "fid": None}]}},
    ):
        assert evaluation(json.dumps(report)) == report


def test_the_command_ends_with_a_sentence(root, tmp_path, bundle):
    """And with the exit code of data; a second training does not begin."""
    words = ["table1", "--root", str(root), "--output-dir", str(tmp_path / "out"), "--methods", "iste", "--steps", "2"]
    assert CliRunner().invoke(app, words).exit_code == 0
    (record,) = tmp_path.glob("out/runs/iste-2-seed0/run.json")
    record.write_text('{"cpu_seconds": 1')
    count = len(bundle)
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ISTEError)
    assert "run.json" in str(result.exception)
    assert result.exception.exit_code == 3
    assert len(bundle) == count


# --- scores and settings of the other experiments ---------------------------------------------------------------------


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


# --- tables of tiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\0" * 64,
        b"case,file\n1,a.png\n2",
        b"file,case\na.png,1\n\0\0\0\0",
        b'file,case\na.png,"1',
        b"file,case\na.png,\xff",
        b"file,case\na.png,",
        b"file,case\na.pn",
    ],
    ids=repr,
)
def test_a_damaged_table_of_tiles(content, tmp_path):
    """It must not count as no table: every tile would silently be a case of its own."""
    (tmp_path / TABLE).write_bytes(content)
    with pytest.raises(DataError) as caught:
        label_tiles([{"image": str(tmp_path / "a.png"), "name": "a"}], tmp_path)
    assert_teaches(caught.value, TABLE)


def test_a_foreign_file_of_that_name_is_no_table(tmp_path):
    (tmp_path / TABLE).write_text("key,value\nx,1\n")
    (found,) = label_tiles([{"image": str(tmp_path / "a.png"), "name": "a"}], tmp_path)
    assert found["case"] == "a"


# --- the check of the pages -------------------------------------------------------------------------------------------

PAGE = """<!-- from {} -->
| at x4 | bicubic |
|---|---|
| PSNR | 23.51 dB |
"""


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("content", [*CONTENTS.values(), '{"rows": {}}', '[{"by": "tile"}]', '{"rows": [3]}'])
@pytest.mark.parametrize("maker", ["quality atlas iste-rgb bicubic iste_light2", "gains atlas"])
@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_damaged_files_of_scores_are_differences(maker, content, name, clone):
    (clone / "README.md").write_text(PAGE.format(f"{name} {name} {name}: {maker}"))
    (clone / "docs" / "results" / name).write_text(content)
    found = check_pages(clone).differences
    assert found
    assert all(line.startswith("README.md:2: ") for line in found)


@pytest.mark.parametrize("cell", [None, 3, ["a"]])
@pytest.mark.parametrize("makers", [TABLES, PHRASES], ids=["table", "phrases"])
def test_a_cell_that_is_no_text_is_a_difference(makers, cell, clone, monkeypatch):
    """A truncated CSV file has rows without their last columns, an edited JSON file has anything."""
    monkeypatch.setitem(makers, "labels", lambda rows: [["at x4", cell]] if makers is TABLES else [cell, "PSNR"])
    page = PAGE if makers is TABLES else "<!-- from {} -->\nPSNR is higher.\n"
    (clone / "README.md").write_text(page.format("a.json: labels"))
    write_json(clone / "docs" / "results" / "a.json", [])
    (line,) = check_pages(clone).differences
    assert line.startswith("README.md:2: Expected scores for labels, got a.json")
    assert line.endswith("Correct the comment, or measure again.")


@pytest.mark.parametrize("comment", ['a.csv: quality "atlas', "'a.csv: quality atlas", 'a.csv: ""', "a.csv:  "])
def test_comments_with_broken_quotation_marks(comment, clone):
    (clone / "README.md").write_text(PAGE.format(comment))
    (line,) = check_pages(clone).differences
    assert line.startswith("README.md:2: ")


def test_a_page_that_is_no_text(clone):
    (clone / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError) as caught:
        check_pages(clone)
    assert_teaches(caught.value, "text in UTF-8", "README.md", "Restore the page.")
