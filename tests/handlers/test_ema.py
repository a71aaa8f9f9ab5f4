"""Averaged weights: equal to the formula, unchanged by an interruption, scored and saved by the bundle."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.engines import SupervisedTrainer
from reference import assert_teaches, randomise
from torch import nn

from monai_iste.errors import CheckpointError, ConfigError, find_error
from monai_iste.handlers import Checkpoints, LoadWeights
from monai_iste.handlers.ema import EMAWeights
from monai_iste.networks import load_weights, released_weights

CONFIGS = Path(__file__).parents[2] / "bundles" / "iste" / "configs"


def small_network(seed=0):
    """Convolution and norm: parameters, and buffers that are counted and that move."""
    return randomise(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)), seed)


def trainer(network, averaging, folder, epochs, resume_from=None, extra=()):
    """Three steps an epoch on fixed images."""
    images = torch.randn(3, 2, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    state = {"network": network, "optimizer": optimizer, "averaging": averaging}
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[{"image": image, "label": image.flip(-1)} for image in images],
        network=network,
        optimizer=optimizer,
        loss_function=nn.L1Loss(),
        decollate=False,
        train_handlers=[*extra, Checkpoints(str(folder), state, resume_from), averaging],
    )


def by_formula(history, decay, warmup):
    average = history[0]
    for t, weights in enumerate(history[1:], start=2):
        d = min(decay, t / (t + warmup - 1))
        average = d * average + (1 - d) * weights
    return average


@pytest.mark.parametrize(("decay", "warmup"), [(0.9, 1), (0.6, 4), (0.999, 10), (0, 1)])
def test_the_average_equals_the_formula(decay, warmup):
    network = small_network()
    averaging = EMAWeights(network, decay, warmup)
    history = []
    for step in range(8):
        randomise(network, step)
        history.append([parameter.detach().double().numpy().copy() for parameter in network.parameters()])
        averaging.update()
    for found, *values in zip(averaging.network.parameters(), *history, strict=True):
        np.testing.assert_allclose(found.double().numpy(), by_formula(values, decay, warmup), rtol=1e-5, atol=1e-6)


def test_every_step_of_a_training_counts_and_the_training_does_not_notice(tmp_path):
    alone, network = small_network(), small_network()
    averaging, history = EMAWeights(network, 0.7, 2), []
    run = trainer(network, averaging, tmp_path / "a", epochs=2)

    @run.on(Events.ITERATION_COMPLETED)
    def _note():
        history.append(network[0].weight.detach().double().numpy().copy())

    run.run()
    trainer(alone, EMAWeights(small_network(), 0.7), tmp_path / "b", epochs=2).run()
    assert len(history) == 6
    np.testing.assert_allclose(averaging.network[0].weight.numpy(), by_formula(history, 0.7, 2), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(network.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    for name, buffer in network.named_buffers():  # copied, not averaged
        assert torch.equal(averaging.network.get_buffer(name), buffer)
    assert not any(parameter.requires_grad for parameter in averaging.network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("interrupted_after", [1, 2])
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, interrupted_after):
    """Within the warm-up and after it: the decay depends on the steps, which the checkpoint must know."""
    network = small_network()
    whole = EMAWeights(network, 0.6, 4)
    trainer(network, whole, tmp_path / "whole", epochs=3).run()

    network = small_network()
    trainer(network, EMAWeights(network, 0.6, 4), tmp_path / "parts", interrupted_after).run()
    network = small_network(seed=9)
    parts = EMAWeights(network, 0.6, 4)
    point = str(tmp_path / "parts" / f"checkpoint_epoch={interrupted_after}.pt")
    trainer(network, parts, tmp_path / "parts", 3, resume_from=point).run()
    assert whole.state_dict().keys() == parts.state_dict().keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_before_the_first_step_it_is_the_network_with_its_pretrained_weights(tmp_path):
    """Read after the average was made, as LoadWeights does."""
    torch.save(small_network(seed=5).state_dict(), tmp_path / "pretrained.pt")
    network = small_network()
    averaging, seen = EMAWeights(network), []
    reading = LoadWeights(network, str(tmp_path / "pretrained.pt"), "small")
    run = trainer(network, averaging, tmp_path, epochs=1, extra=[reading])

    @run.on(Events.STARTED)
    def _look():
        seen.append([value.clone() for value in averaging.network.state_dict().values()])

    run.run()
    for value, expected in zip(seen[0], small_network(seed=5).state_dict().values(), strict=True):
        assert torch.equal(value, expected)


def test_a_checkpoint_without_averages_is_refused(tmp_path):
    network = small_network()
    run = trainer(network, EMAWeights(network), tmp_path, epochs=1)
    run.run()
    path = tmp_path / "checkpoint_epoch=1.pt"
    state = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "averaging"}, path)
    with pytest.raises(CheckpointError) as caught:
        trainer(network, EMAWeights(network), tmp_path, 2, resume_from=str(path)).run()
    assert_teaches(caught.value, "averaging")


@pytest.mark.parametrize(("options", "word"), [({"decay": 1}, "1 and"), ({"warmup": 0.5}, "0.5")])
def test_settings_that_cannot_be(options, word):
    with pytest.raises(ConfigError) as caught:
        EMAWeights(small_network(), **options)
    assert_teaches(caught.value, word)


# --- in the bundle ----------------------------------------------------------------------------------------------------


def release_recipe(folder, **changes):
    """Seconds of the recipe of the released weights, on the offline sample."""
    toy = {"steps_per_epoch": 2, "batch_size": 2, "lr_size": 16, "num_points": 32, "num_workers": 0}
    toy |= {"val_crop": 48, "val_interval": 1, "scales": [2], "learning_rate": 0.02, "final_learning_rate": 0.02}
    configs = [str(CONFIGS / name) for name in ("train.json", "light_release.json", "light_scans.json")]
    flow = ConfigWorkflow(
        configs, workflow_type="train", logging_file=False, output_dir=str(folder), **{**toy, **changes}
    )
    flow.initialize()
    return flow


def equal(weights, others):
    assert weights.keys() == others.keys()
    return all(torch.equal(value, others[name]) for name, value in weights.items())


def read(path):
    return torch.load(path, weights_only=True)


def test_the_release_recipe_scores_and_saves_averages_and_learns_on_with_raw_weights(tmp_path):
    pretrained = str(released_weights("iste_light"))
    flow = release_recipe(tmp_path, max_epochs=1, pretrained=pretrained)
    averaging, evaluator = (flow.parser.get_parsed_content(key) for key in ("averaging", "validate#evaluator"))
    scored = []

    @evaluator.on(Events.STARTED)
    def _note():
        scored.append({name: value.clone() for name, value in evaluator.network.state_dict().items()})

    flow.run()
    network, kept = flow.network_def.state_dict(), read(tmp_path / "checkpoint_epoch=1.pt")
    average = averaging.network.state_dict()
    load_weights(flow.network_def, pretrained)
    assert equal(scored[0], flow.network_def.state_dict())  # step 0: pretrained
    assert equal(scored[1], average)
    assert equal(scored[2], average)
    assert equal(read(tmp_path / "model.pt"), average)
    assert not equal(kept["network"], average)
    assert equal(kept["averaging"], {"n_averaged": torch.tensor(2), **{f"module.{k}": v for k, v in average.items()}})
    assert network.keys() == average.keys()
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert {row["method"] for row in report["rows"]} == {"bicubic", "iste, initial", "iste"}

    flow = release_recipe(tmp_path, max_epochs=2, pretrained=pretrained)
    flow.run()
    further = read(tmp_path / "checkpoint_epoch=2.pt")
    assert int(further["averaging"]["n_averaged"]) == 4
    assert flow.trainer.state.iteration == 4
    assert not equal(read(tmp_path / "model.pt"), average)


def test_an_unfinished_run_without_averages_does_not_resume_with_them(tmp_path):
    """The folder's recipe has changed: one sentence, and nothing is lost."""
    (tmp_path / "config.json").write_text("{}")
    torch.save({"network": {}}, tmp_path / "checkpoint_epoch=1.pt")
    with pytest.raises(RuntimeError) as caught:
        release_recipe(tmp_path, max_epochs=2).run()
    assert isinstance(find_error(caught.value), CheckpointError)
    assert (tmp_path / "checkpoint_epoch=1.pt").is_file()
