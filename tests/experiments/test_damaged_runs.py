"""Runs of the bundle and scores of a study that were edited, truncated or removed between two runs."""

import json

import pytest
from damaged import damaged, refused
from typer.testing import CliRunner

from experiments import runs, study
from experiments.__main__ import app
from experiments.methods import METHODS, Budget
from experiments.study import Study
from monai_iste.errors import ISTEError
from monai_iste.io.json_files import write_json

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
