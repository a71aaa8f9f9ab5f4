"""Trainings that end when their validation stops rising: the best weights, and the same end after an interruption."""

import json

import numpy as np
import pytest
import torch
from monai.data import Dataset
from torch import nn

from experiments import downstream
from experiments.downstream import train
from experiments.early_stopping import KeepBest, Validation
from experiments.segmentation import _hold_out

SCORES = [0.2, 0.5, 0.4, 0.7, 0.6, 0.7, 0.65, 0.9]  # of the validations, one after each epoch


def finished_epochs(folder):
    """Number of epochs before the present one, by the checkpoints."""
    return max((int(path.stem.partition("=")[2]) for path in folder.glob("checkpoint_epoch=*.pt")), default=0)


class Interrupted(Exception):
    pass


def training(folder, scores=SCORES, patience=3, steps=200, stop_at=None):
    """A training of five steps an epoch whose validations have these scores; optionally stopped at a step."""
    random = np.random.default_rng(0)
    items = [{"image": random.normal(size=(4,)).astype(np.float32), "label": i % 2} for i in range(10)]
    torch.manual_seed(0)
    network, validated, calls = nn.Linear(4, 2), [], 0

    def score(network):
        assert not network.training
        assert not torch.is_grad_enabled()
        validated.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return scores[finished_epochs(folder)]

    def loss(pred, label):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Interrupted
        return nn.functional.cross_entropy(pred, label)

    options = {"steps": steps, "batch_size": 4, "learning_rate": 1e-2, "seed": 0}
    train(network, lambda: Dataset(items), loss, folder, **options, validation=Validation(score, 1, patience))
    return network.state_dict(), validated, calls


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(downstream, "_STEPS_PER_EPOCH", 5)


def test_the_training_ends_without_a_rise_and_has_the_best_weights(tmp_path):
    weights, validated, calls = training(tmp_path / "run")
    assert calls == 7 * 5  # 0.7 of the fourth was not exceeded by the three that followed
    assert all(torch.equal(weights[name], validated[3][name]) for name in weights)
    assert not torch.equal(weights["weight"], validated[-1]["weight"])
    history = json.loads((tmp_path / "run" / "validation.json").read_text())
    assert history == [{"step": 5 * (i + 1), "score": score} for i, score in enumerate(SCORES[:7])]
    again, _, calls = training(tmp_path / "run")
    assert calls == 0
    assert torch.equal(again["weight"], weights["weight"])


def test_a_rise_lets_it_go_on_to_the_last_step(tmp_path):
    weights, validated, calls = training(tmp_path / "run", scores=[0.1 * i for i in range(9)], steps=40)
    assert calls == 40
    assert torch.equal(weights["weight"], validated[-1]["weight"])


@pytest.mark.parametrize("stop_at", [3, 12, 23, 34])
def test_an_interrupted_training_ends_at_the_same_step_with_the_same_weights(stop_at, tmp_path):
    whole, _, _ = training(tmp_path / "whole")
    with pytest.raises(Interrupted):
        training(tmp_path / "parts", stop_at=stop_at)
    resumed, _, _ = training(tmp_path / "parts")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    histories = [json.loads((tmp_path / name / "validation.json").read_text()) for name in ("whole", "parts")]
    assert histories[0] == histories[1]


def test_a_training_killed_after_the_decision_to_stop_does_not_go_on(tmp_path, monkeypatch):
    """The weights are there before the last checkpoint is."""
    from monai_iste.handlers import Checkpoints

    saved = Checkpoints._save

    def fail_at_the_end(self, engine):
        if engine.state.epoch == 7:
            raise Interrupted
        saved(self, engine)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_save", fail_at_the_end)
        with pytest.raises(Interrupted):
            training(tmp_path / "run")
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    _, _, calls = training(tmp_path / "run")
    assert calls == 0


def test_when_scores_have_stopped_rising():
    keeper = KeepBest(nn.Identity(), Validation(lambda network: 0.0, patience=2), lambda: None)
    assert not keeper.has_stopped_rising
    for scores, stopped in (([1.0], False), ([1.0, 1.0], False), ([1.0, 0.5, 1.0], True), ([1.0, 0.5, 1.1], False)):
        keeper.history = [{"step": i, "score": score} for i, score in enumerate(scores)]
        assert keeper.has_stopped_rising == stopped


def test_images_that_validate():
    items = [{"name": f"train_{i}"} for i in range(85)]
    learned, held = _hold_out(items)
    assert (len(learned), len(held)) == (71, 14)
    assert _hold_out(items[::-1])[1] == held
    assert not {item["name"] for item in learned} & {item["name"] for item in held}
    marked = [*items[:3], {"name": "val", "validation": True}]
    assert _hold_out(marked) == (items[:3], marked[3:])
