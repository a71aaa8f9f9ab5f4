"""The benchmark of memory: consistency of its numbers."""

import statistics

import pytest
from benchmark_inputs import table_rows
from reference import assert_teaches

from benchmarks import common, memory
from monai_iste.errors import ConfigError


def test_memory_in_processes_of_their_own(capsys):
    rows = memory.memory("iste_light", sizes="24", scale=2, modes="windowed", repeats=1)
    assert [(row["height"], row["width"]) for row in rows] == [(24, 24), (24, 48)]
    for row in rows:
        assert row["peak_mib"] >= row["idle_mib"] > 50
        assert row["above_idle_mib"] == pytest.approx(row["peak_mib"] - row["idle_mib"])
        assert row["maxrss_mib"] > 50
        assert row["output_megapixels"] == pytest.approx(4 * row["height"] * row["width"] / 1e6)
    assert rows[1]["time_ratio"] == pytest.approx(
        statistics.median(rows[1]["seconds"]) / statistics.median(rows[0]["seconds"])
    )
    assert rows[1]["memory_ratio"] == pytest.approx(rows[1]["above_idle_mib"] / rows[0]["above_idle_mib"])
    assert [row["LR"] for row in table_rows(capsys.readouterr().out, "Memory")] == ["24x24", "24x48"]


def test_memory_sees_a_large_result():
    """In processes of their own, as the command runs them: this one may hold freed memory that the result fits into."""
    case = {"preset": "iste_light", "mode": "whole", "width": 64, "scale": 4.0, "threads": 1}
    small, large = (common.run_isolated("memory", {**case, "height": height}) for height in (16, 256))
    assert large["above_idle_mib"] >= 3 * 4 * large["output_megapixels"] * 1e6 / 2**20  # float32 RGB
    assert large["above_idle_mib"] > small["above_idle_mib"]


def test_memory_refuses_an_unknown_mode(toy):
    with pytest.raises(ConfigError) as error:
        memory.memory(toy, modes="whole,tiled")
    assert_teaches(error.value, "tiled", "windowed")
