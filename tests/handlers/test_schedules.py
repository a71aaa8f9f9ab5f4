"""Learning rates that rise, stay and fall."""

import numpy as np
import pytest
import torch
from reference import assert_teaches
from torch.optim.lr_scheduler import LambdaLR

from monai_iste.errors import ConfigError
from monai_iste.handlers import hold_then_cosine
from monai_iste.handlers.schedules import change_length


def test_the_rise_the_plateau_and_the_fall():
    factor = hold_then_cosine(total=100, warmup=10, anneal=40, floor=0.2)
    values = np.array([factor(step) for step in range(101)])
    np.testing.assert_allclose(values[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(values[10:61], 1)
    steps = np.arange(41)
    np.testing.assert_allclose(values[60:], 0.2 + 0.8 * (1 + np.cos(np.pi * steps / 40)) / 2)
    assert factor(1000) == pytest.approx(0.2)


@pytest.mark.parametrize(("total", "warmup", "anneal"), [(10, 4, 100), (3, 4, 100), (0, 0, 0), (5, 0, 0), (5, 9, 0)])
def test_short_trainings_have_what_fits(total, warmup, anneal):
    factor = hold_then_cosine(total, warmup, anneal)
    values = [factor(step) for step in range(total + 1)]
    assert all(0 < value <= 1 for value in values)
    rising = values[: min(warmup, total)]
    assert rising == [(step + 1) / warmup for step in range(len(rising))]


def test_a_checkpoint_does_not_hold_the_schedule():
    """A training that is continued for longer falls at its own end."""
    weight = torch.nn.Parameter(torch.zeros(1))

    def scheduler(total):
        return LambdaLR(torch.optim.SGD([weight], lr=1.0), hold_then_cosine(total, 0, 5))

    short, long = scheduler(10), scheduler(100)
    for _ in range(8):
        short.optimizer.step()
        short.step()
    long.load_state_dict(short.state_dict())
    long.optimizer.step()
    long.step()
    assert long.last_epoch == 9
    assert long.get_last_lr() == [1.0]


@pytest.mark.parametrize("wrong", [{"warmup": -1}, {"anneal": -5}, {"floor": 1.5}, {"total": -1}])
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(ConfigError) as error:
        hold_then_cosine(**{"total": 10, **wrong})
    name, value = next(iter(wrong.items()))
    assert_teaches(error.value, f"{name} {value}")


@pytest.mark.parametrize("done", [1, 7, 10])
def test_a_cosine_of_another_length_goes_on_where_one_so_long_would_be(done):
    def cosine(length):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=length, eta_min=1e-6)

    def rates(schedule, steps):
        found = []
        for _ in range(steps):
            schedule.optimizer.step()
            schedule.step()
            found.append(schedule.optimizer.param_groups[0]["lr"])
        return found

    short, long = cosine(10), cosine(30)
    rates(short, done)
    change_length(short, 30)
    expected = rates(long, done)[-1:] + rates(long, 30 - done)
    found = [short.get_last_lr()[0], *rates(short, 30 - done)]
    assert found == pytest.approx(expected)
    assert found[-1] == pytest.approx(1e-6)
    kept = short.state_dict()
    change_length(short, 30)
    assert short.state_dict() == kept
