"""The evaluation workflow: it repeats the training's table, under the protocol that is named."""

import csv
import hashlib
import json

import pytest
import torch
from bundle_workflows import TOY, evaluate
from fire.parser import DefaultParseValue

from monai_iste.errors import (
    ConfigError,
    find_error,
)
from monai_iste.metrics import PROTOCOLS


def test_evaluating_the_trained_model_repeats_its_table(trained, tmp_path, capsys):
    evaluate(tmp_path, trained)
    again = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    before = json.loads((trained / "metrics.json").read_text())["rows"]
    more = [{key: row.pop(key) for key in ("lr_psnr", "spectrum")} for row in again]  # an evaluation measures these too
    assert again == [row for row in before if row["method"] != "iste, initial"]
    assert all(row["lr_psnr"] > 25 > row["spectrum"] > 0 for row in more), more
    assert "x4     iste " in capsys.readouterr().out


def test_results_say_what_they_were_measured_with(trained, tmp_path):
    weights = trained / "model.pt"
    evaluate(tmp_path, trained, protocol="bicubic-rgb", scales=[2])
    training, evaluation = (
        json.loads((folder / "metrics.json").read_text())["manifest"] for folder in (trained, tmp_path)
    )
    for report in (training, evaluation):
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        assert report["checkpoint"] == {"file": "model.pt", "sha256": sha256}
        assert report["dataset"] == training["dataset"]
        assert report["versions"]["torch"] == torch.__version__
        assert report["hardware"]["threads"] == 1
        assert report["precision"] == "float32"
        assert str(tmp_path.parent) not in json.dumps(report)
    assert training["seed"] == training["config"]["seed"] == 0
    assert training["training_dataset"]["count"] == 1
    assert training["training_dataset"] != training["dataset"]
    assert training["config"].items() >= {**TOY, "max_scale": 4.0, "degradation": "blur_bicubic"}.items()
    assert evaluation["seed"] is None
    assert evaluation["config"]["crop"] == 64
    assert evaluation["protocol"]["degradation"] == "bicubic"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_is_chosen_by_name(protocol, trained, tmp_path, capsys):
    evaluate(tmp_path, trained, protocol=DefaultParseValue(protocol), scales=[2, 3.7])
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["protocol"] == report["manifest"]["protocol"]["name"] == protocol
    assert f"protocol {protocol}" in capsys.readouterr().out
    with open(tmp_path / "metrics.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [{key: str(value) for key, value in row.items()} for row in report["images"]]
    assert {(line["scale"], line["method"]) for line in lines} == {
        (scale, method) for scale in ("2", "3.7") for method in ("bicubic", "iste")
    }


def test_protocols_do_not_agree(trained, tmp_path):
    bicubic = {}
    for name in PROTOCOLS:
        (tmp_path / name).mkdir()
        evaluate(tmp_path / name, trained, protocol=name, scales=[2])
        bicubic[name] = json.loads((tmp_path / name / "metrics.json").read_text())["rows"][0]["psnr"]
    assert bicubic["y-shave-s"] > bicubic["bicubic-rgb"] > bicubic["iste-rgb"]


def test_an_unknown_protocol_is_refused(trained, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path, trained, protocol="psnr")
    error = find_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "a protocol: iste-rgb, bicubic-rgb, y-shave-s, got 'psnr'" in str(error)
