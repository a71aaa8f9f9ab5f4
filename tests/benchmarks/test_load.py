"""The benchmark of a busy machine: its programs begin and end with it, and its ratios are those of its numbers."""

import pytest
import torch
from benchmark_inputs import table_rows
from reference import assert_teaches

from benchmarks import load
from monai_iste.errors import ConfigError


def test_busy_programs_run_and_end():
    with load.busy_programs(2) as programs:
        assert [program.poll() for program in programs] == [None, None]
    assert all(program.returncode is not None for program in programs)
    with pytest.raises(KeyboardInterrupt), load.busy_programs(1) as programs:
        raise KeyboardInterrupt
    assert programs[0].returncode is not None


def test_every_case_is_measured_in_every_round(toy, capsys):
    rows = load.load(toy, side=24, scale=2, threads=2, busy="0,1", repeats=2)
    assert [(row["way"], row["busy"]) for row in rows] == [(w, n) for w in load.WAYS for n in (0, 1)]
    for row in rows:
        alone = next(other for other in rows if other["way"] == row["way"])
        for seconds, of_alone, speed, rate in zip(
            row["seconds"], alone["seconds"], row["speed_ratio"], row["megapixels_per_second"], strict=True
        ):
            assert speed == pytest.approx(of_alone / seconds)
            assert rate == pytest.approx(48 * 48 / 1e6 / seconds)
        assert row["cpu_ratio"] == pytest.approx(
            [own / of_alone for own, of_alone in zip(row["cpu_seconds"], alone["cpu_seconds"], strict=True)]
        )
        assert len(row["seconds"]) == 2
    assert torch.get_num_threads() == 1
    assert [row["busy programs"] for row in table_rows(capsys.readouterr().out, "Load")] == ["0", "1", "0", "1"]


@pytest.mark.parametrize(("options", "named"), [({"ways": "windows,both"}, "both"), ({"busy": "0,-1"}, "-1")])
def test_what_cannot_be_measured_is_refused(toy, options, named):
    with pytest.raises(ConfigError) as error:
        load.load(toy, **options)
    assert_teaches(error.value, named)
