"""Trainings that are resumed for longer than was planned: the learning rate follows the new length."""

import pytest
from ignite.engine import Events
from trainings import TINY, prepare, train

RATE, LAST = 1e-3, 1e-5
RATES = {"learning_rate": RATE, "final_learning_rate": LAST}


@pytest.mark.parametrize("kill_at", [None, 8])
def test_the_learning_rate_of_a_training_that_is_made_longer(tmp_path, kill_at):
    train(tmp_path, kill_at=kill_at, **RATES)
    done = (TINY["max_epochs"] if kill_at is None else 2) * TINY["steps_per_epoch"]
    flow, rates = prepare(tmp_path, **RATES, max_epochs=8), []

    @flow.trainer.on(Events.ITERATION_COMPLETED)
    def _note(engine):
        rates.append(flow.parser.get_parsed_content("optimizer").param_groups[0]["lr"])

    flow.run()
    flow.finalize()
    total = 8 * TINY["steps_per_epoch"]
    assert len(rates) == total - done
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(LAST)
    assert rates[0] > (RATE - LAST) / 2 if kill_at else rates[0] > 100 * LAST * 0.4
