"""Measurements: order of the calls, ratios, operations; times themselves are not asserted."""

import sys

import pytest
import torch
import torch.nn.functional as F
from benchmark_inputs import ticks

from benchmarks import common, speed
from benchmarks.common import Measurement
from monai_iste.errors import ConfigError


def test_calls_alternate_after_one_round_to_warm_up():
    order = []
    measured = common.time_alternating({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, ticks(), 3)
    assert order == ["a", "b"] * 4
    assert measured["a"].seconds == measured["b"].seconds == (1, 1, 1)


def test_what_takes_long_runs_once():
    now, order = iter([0, 1, 1, 31, 40, 42, 50, 52]), []
    calls = {"quick": lambda: order.append("quick"), "slow": lambda: order.append("slow")}
    measured = common.time_alternating(calls, lambda: float(next(now)), 2, patience=20)
    assert order == ["quick", "slow", "quick", "quick"]
    assert measured["slow"].seconds == (30,)
    assert measured["quick"].seconds == (2, 2)
    assert common.ratios(measured["slow"], measured["quick"]) == [15, 15]


def test_ratios_are_taken_run_by_run():
    slow, fast = Measurement((4.0, 9.0), 0, None), Measurement((2.0, 3.0), 0, None)
    assert common.ratios(slow, fast) == [2, 3]
    assert slow.median == 6.5


def test_operations_are_counted():
    def attention():
        x = torch.rand(1, 2, 8, 4, requires_grad=True)
        F.scaled_dot_product_attention(x, x, x, attn_mask=torch.zeros(1, 2, 8, 8)).sum().backward()

    calls = {"product": lambda: torch.ones(3, 5) @ torch.ones(5, 7), "attention": attention}
    measured = common.time_alternating(calls, ticks(), 1)
    assert measured["product"].macs == 3 * 5 * 7
    assert measured["attention"].macs >= 2 * (2 * 8 * 8 * 4) * 3  # two products forward, at least four backward


@pytest.mark.parametrize("size", [(4, 6), (330, 7), (5, 1100)])
def test_tissue_of_any_size(size):
    image = common.sample_tissue(*size)
    assert image.shape == (1, 3, *size)
    assert image.dtype == torch.uint8
    assert image.float().std() > 1


def test_what_a_command_refuses_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speed", "--presets", "iste_huge"])
    with pytest.raises(SystemExit) as done:
        common.run(speed.app)
    assert done.value.code == ConfigError.exit_code
    assert capsys.readouterr().err.startswith("error: Expected a preset")
