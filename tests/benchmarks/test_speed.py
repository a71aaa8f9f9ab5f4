"""The benchmark of speed: its modules, its comparison with the literal network, consistency of its numbers."""

import itertools
import json
import statistics
from functools import partial

import pytest
import torch
from benchmark_inputs import image_of, pair_of, table_rows, ticks
from typer.testing import CliRunner

from benchmarks import common, speed


def test_changed_retrievals_are_seen():
    expected, found = speed.retrievals(pair_of(seed=1)[0], pair_of(seed=0)[1], image_of(1, 3, 7, 5), 2)
    assert expected.shape == found.shape == (1, 14 * 10)
    assert not torch.equal(expected, found)


def test_modules_are_timed_each_for_itself():
    net = pair_of()[0]
    with torch.no_grad():
        before = net(image_of(1, 3, 5, 4), scale=2)
        with speed._timed_modules(net, ticks()) as seconds:
            after = net(image_of(1, 3, 5, 4), scale=2)
    assert torch.equal(before, after)
    assert seconds.keys() == speed.MODULES.keys()
    assert all(value > 0 for value in seconds.values())
    assert not any(name in vars(module) for module in net.modules() for name in speed._methods(module))


def test_a_module_called_by_another_counts_once():
    net = pair_of()[0]
    inner, counter = net.local_feature_interactor.forward, itertools.count()
    net.encoder.forward = lambda x: inner(x)  # one module inside another
    with torch.no_grad(), speed._timed_modules(net, lambda: float(next(counter))) as seconds:
        net.encoder(torch.zeros(1, 4, 3, 3))
    # The clock was looked at first and last by the encoder; all between adds up to that.
    assert sum(seconds.values()) == next(counter) - 1


def test_speed(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(common, "peak_macs", partial(common.peak_macs, side=32))  # emulated bf16 is slow
    file = tmp_path / "speed.json"
    options = {"sizes": "8,12", "scales": "2,2.5", "precision": "fp32,bf16", "repeats": 2, "json_file": file}
    rows = speed.speed(toy, naive_gb=4 * 24**4 / 1e9, **options)
    assert len(rows) == 2 * 2 * 2 * 7
    for row in rows:
        if "seconds" not in row:
            left_out = {speed.NAIVE: "fp32 only"}
            if row["precision"] == "fp32":
                left_out = {speed.NAIVE: "would need 0.00324 GB", speed.ALL_KEYS: "run where the literal network is"}
            assert row["note"] == left_out[row["what"]]
            continue
        pixels = round(row["lr"] * row["scale"]) ** 2
        assert len(row["seconds"]) == len(row["times_iste"]) == 2
        assert row["seconds_per_megapixel"] == pytest.approx(statistics.median(row["seconds"]) / pixels * 1e6)
        rate = row["macs"] / statistics.median(row["seconds"])
        assert row["share_of_peak"] == pytest.approx(rate / row["peak_macs_per_second"])
        assert (row["macs"] > 0) == (row["what"] != "bicubic")
        assert row["what"] != "ISTE" or row["times_iste"] == [1, 1]
    literal = [row for row in rows if row["what"] == speed.NAIVE and "seconds" in row]
    assert {(row["lr"], row["scale"]) for row in literal} == {(8, 2), (8, 2.5), (12, 2)}
    for row in literal:
        assert row["max_difference"] < 1e-5
        assert row["changed_retrievals"] == 0
    products = {(row["lr"], row["scale"], row["what"]): row.get("macs") for row in rows if row["precision"] == "fp32"}
    assert products[12, 2, speed.OTHER_CORNERS] > products[12, 2, "ISTE"]
    for row in (row for row in rows if "modules" in row):
        *parts, total = row["modules"].values()
        assert sum(parts) == pytest.approx(total)

    printed = capsys.readouterr().out
    assert len(table_rows(printed, "Speed")) == len(rows)
    assert len(table_rows(printed, "Modules of ISTE")) == 8
    assert f"{torch.get_num_threads()} thread(s)" in printed
    written = json.loads(file.read_text())
    assert len(written["rows"]) == len(rows)
    assert written["environment"]["hardware"]["threads"] == 1


def test_speed_as_a_command(toy):
    done = CliRunner().invoke(
        speed.app, ["--presets", toy, "--sizes", "6", "--scales", "2", "--repeats", "1", "--no-baselines"]
    )
    assert done.exit_code == 0, done.output
    assert [row["what"] for row in table_rows(done.output, "Speed")] == [
        "ISTE",
        speed.OTHER_CORNERS,
        speed.ALL_KEYS,
        speed.NAIVE,
    ]
