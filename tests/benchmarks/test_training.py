"""The benchmark of training steps: consistency of its numbers."""

import json
import statistics

import pytest
from benchmark_inputs import table_rows

from benchmarks import training


def test_training(toy, tmp_path, capsys):
    file = tmp_path / "training.json"
    rows = training.training(toy, batch=2, lr_size=6, points=20, repeats=2, json_file=file)
    assert [row["what"] for row in rows] == ["ISTE", training.NAIVE, "LIIF", "LTE"]
    assert rows[0]["first_loss"] == pytest.approx(rows[1]["first_loss"], abs=1e-6)
    for row, shown in zip(rows, table_rows(capsys.readouterr().out, "Training step"), strict=True):
        assert len(row["seconds"]) == 2
        assert row["times_iste"] == [a / b for a, b in zip(row["seconds"], rows[0]["seconds"], strict=True)]
        assert row["macs"] > 0
        assert shown["seconds a step"].startswith(f"{statistics.median(row['seconds']):.3g} (")
    assert len(json.loads(file.read_text())["rows"]) == 4


def test_training_leaves_out_what_would_not_fit(toy):
    rows = training.training(toy, batch=1, lr_size=4, points=10, repeats=1, naive_gb=0.0, baselines=False)
    assert [row["what"] for row in rows] == ["ISTE", training.NAIVE]
    assert "GB" in rows[1]["note"]
