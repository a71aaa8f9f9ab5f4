"""Files that a benchmark continues from, edited or truncated between two runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import assert_teaches

from benchmarks import search
from benchmarks import weights as module
from benchmarks.slide_quality import _read_scores
from benchmarks.weights import weights
from monai_iste.errors import DataError
from monai_iste.io.json_files import write_json
from monai_iste.networks import Bicubic

CONTENTS = {"empty": "", "truncated": '{"rows": [1, 2', "zeros": "\0" * 64, "a list": "[]", "a number": "3"}
damaged = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())


def refused(run, *words):
    with pytest.raises(DataError) as caught:
        run()
    assert_teaches(caught.value, *words)


def changed(content, index, **values):
    rows = [{**row, **values} if i == index else row for i, row in enumerate(content["rows"])]
    return {**content, "rows": rows}


def without(content, index, key):
    rows = [{name: row[name] for name in row if i != index or name != key} for i, row in enumerate(content["rows"])]
    return {**content, "rows": rows}


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """A file of scores of one tile, and a function that continues from it."""
    (tmp_path / "tiles").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "tiles" / "a.png")
    monkeypatch.setattr("benchmarks.contenders.load_network", lambda *arguments: Bicubic().eval())
    file = tmp_path / "scores.json"

    def run():
        return weights([tmp_path / "tiles"], protocols="iste-rgb", scales="2", crop=48, json_file=file)

    run()
    monkeypatch.setattr(module, "score", None)  # nothing is scored again
    return file, run


@damaged
def test_damaged_scores_of_weights(content, scores):
    file, run = scores
    file.write_text(content)
    refused(run, "scores.json", "restore the file, or remove it")
    assert file.read_text() == content


def test_edited_scores_of_weights(scores):
    file, run = scores
    whole = json.loads(file.read_text())
    assert run() == whole["rows"]
    edits = [
        {"rows": whole["rows"]},
        {"title": whole["title"]},
        {**whole, "title": 3},
        {**whole, "rows": {}},
        {**whole, "rows": ["x"]},
        changed(whole, 1, psnr="31"),
        changed(whole, 1, scale=None),
        changed(whole, 0, image=["a"]),
        without(whole, 0, "image_sha256"),
        without(whole, 1, "crop"),
    ]
    for edited in edits:
        write_json(file, edited)
        refused(run, "scores.json", "restore the file, or remove it")


def test_as_a_command(scores, tmp_path):
    file, _ = scores
    file.write_text('{"title": "Sco')
    words = [str(tmp_path / "tiles"), "--scales", "2", "--json", str(file)]
    root = Path(module.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.weights", *words], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == DataError.exit_code
    assert (
        done.stderr.strip().splitlines()[-1].startswith(f"error: Expected JSON in {file}, got a file that is damaged")
    )
    assert "Traceback" not in done.stderr


# --- slides -----------------------------------------------------------------------------------------------------------

BLOCK = {"method": "bicubic", "weights": None, "top": 0, "left": 0, "pixels": 9, "squared_error": 1.5, "ssim": 2}
COUNTED = {**BLOCK, "method": "LIIF", "weights": "ab12", "there": 3, "found": 4, "matched": 2}


@damaged
def test_damaged_scores_of_a_slide(content, tmp_path):
    (tmp_path / "scores.json").write_text(content)
    refused(lambda: _read_scores(tmp_path / "scores.json"), "scores.json", "measured again")


def test_edited_scores_of_a_slide(tmp_path):
    file, whole = tmp_path / "scores.json", {"rows": [BLOCK, COUNTED]}
    assert _read_scores(file) == []
    write_json(file, whole)
    assert _read_scores(file) == whole["rows"]
    for key in BLOCK:
        write_json(file, without(whole, 0, key))
        refused(lambda: _read_scores(file), repr(key), "scores.json")
    for key in ("found", "matched"):
        write_json(file, without(whole, 1, key))
        refused(lambda: _read_scores(file), repr(key), "scores.json")
    for values in ({"weights": 3}, {"top": "0"}, {"pixels": 1.5}, {"ssim": None}, {"there": "many"}):
        write_json(file, changed(whole, 1, **values))
        refused(lambda: _read_scores(file), f"].{next(iter(values))}", "scores.json")


# --- search -----------------------------------------------------------------------------------------------------------


def train_variant(folder):
    return search._train_variant(folder, folder, "iste_light2", "preset", 1, "")


@damaged
def test_damaged_scores_of_a_variant(content, tmp_path):
    (tmp_path / "metrics.json").write_text(content)
    refused(lambda: train_variant(tmp_path), "metrics.json", "trained again")


def test_edited_scores_of_a_variant(tmp_path):
    rows = [{"scale": scale, "method": name, "psnr": 30.0} for name in ("bicubic", "iste") for scale in (2, 4)]
    write_json(tmp_path / "metrics.json", {"rows": rows})
    assert train_variant(tmp_path) == rows
    for edited in ([], rows[:2], rows[1:], rows[:3], [*rows[:3], {**rows[3], "psnr": "31"}], [*rows[:3], {"scale": 4}]):
        write_json(tmp_path / "metrics.json", {"rows": edited})
        refused(lambda: train_variant(tmp_path), "metrics.json", "trained again")
