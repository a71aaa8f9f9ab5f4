"""Checkpoints: a resumed training equals an uninterrupted one bit for bit; damage and NaN are noticed."""

import random
import shutil

import numpy as np
import pytest
import torch
from ignite.engine import Events
from PIL import Image
from reference import assert_teaches
from trainings import RELEASE, differences, prepare, read, run_differences, train

from monai_iste.bundle.resume import find_damage
from monai_iste.errors import CheckpointError, DataError, TrainingError, find_error


@pytest.fixture(scope="module", params=[pytest.param((), marks=pytest.mark.slow), RELEASE], ids=["main", "release"])
def whole(request, tmp_path_factory):
    """An uninterrupted run, and its overlays."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, *request.param)
    return folder, request.param


@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_was_killed_at_a_random_step_ends_like_one_that_was_not(seed, whole, tmp_path):
    reference, overlays = whole
    step = random.Random(seed).randint(4, 12)  # after the first checkpoint
    flow = train(tmp_path, *overlays, kill_at=step)
    assert flow.trainer.state.iteration == step
    torch.manual_seed(step)  # a process that resumes has other generators
    random.seed(step)
    flow = train(tmp_path, *overlays)
    assert flow.trainer.state.iteration == 12
    assert run_differences(tmp_path, reference) == []


def test_a_run_that_is_killed_again_and_again(whole, tmp_path):
    reference, overlays = whole
    for step in (5, 7, 12):
        train(tmp_path, *overlays, kill_at=step)
    train(tmp_path, *overlays)
    assert run_differences(tmp_path, reference) == []


def test_the_comparison_sees_another_seed(whole, tmp_path):
    reference, overlays = whole
    train(tmp_path, *overlays, seed=1)
    assert len(run_differences(tmp_path, reference)) > 50


def test_loading_processes_make_no_difference(whole, tmp_path):
    reference, overlays = whole
    train(tmp_path, *overlays, num_workers=2, kill_at=8)
    train(tmp_path, *overlays, num_workers=1, cache_bytes=0)
    assert run_differences(tmp_path, reference) == []


def test_random_steps_of_the_network_are_repeated_too(tmp_path):
    """Dropout, and a schedule that advances at the end of epochs, after the checkpoint's place in the list."""

    def with_dropout(folder, kill_at=None):
        flow = prepare(folder, **{"train#schedule#epoch_level": True})
        network = flow.network_def
        network.encoder.register_forward_hook(
            lambda module, _, features: torch.nn.functional.dropout(features, 0.3, module.training)
        )
        if kill_at:

            @flow.trainer.on(Events.ITERATION_STARTED(once=kill_at))
            def _kill():
                raise KeyboardInterrupt

        try:
            flow.run()
        except KeyboardInterrupt:
            return
        flow.finalize()

    with_dropout(tmp_path / "whole")
    with_dropout(tmp_path / "parts", kill_at=8)
    with_dropout(tmp_path / "parts")
    assert run_differences(tmp_path / "parts", tmp_path / "whole") == []


def test_a_run_that_was_killed_in_its_last_scoring_is_finished_by_the_same_command(whole, tmp_path):
    reference, overlays = whole
    flow = prepare(tmp_path, *overlays)
    report = flow.parser.get_parsed_content("train#report")
    report._score = _interrupt_second_call(report._score)
    with pytest.raises(KeyboardInterrupt):
        flow.run()
    assert (tmp_path / "checkpoint_epoch=4.pt").is_file()
    assert not (tmp_path / "model.pt").exists()
    flow = train(tmp_path, *overlays)
    assert flow.trainer.state.iteration == 12
    assert run_differences(tmp_path, reference) == []


def _interrupt_second_call(score):
    calls = []

    def interrupted():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score()

    return interrupted


# --- damage -----------------------------------------------------------------------------------------------------------


def zeros(content, generator):
    start = generator.randrange(len(content) - 4096)
    return content[:start] + bytes(4096) + content[start + 4096 :]


def flips(content, generator):
    changed = bytearray(content)
    for _ in range(4):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def cut(content, generator):
    return content[: generator.randrange(len(content))]


@pytest.mark.parametrize("damage", [zeros, flips, cut])
def test_damage_anywhere_is_found_or_harmless(damage, whole, tmp_path):
    file = whole[0] / "checkpoint_epoch=4.pt"
    content, original, generator = file.read_bytes(), read(file), random.Random(0)
    assert find_damage(file) is None
    path, found = tmp_path / "checkpoint_epoch=4.pt", 0
    for _ in range(30):
        path.write_bytes(damage(content, generator))
        if find_damage(path) is None:
            assert differences(read(path), original) == []  # padding between tensors
        else:
            found += 1
    assert found >= 25


@pytest.mark.parametrize("damage", [zeros, flips])
def test_the_checkpoint_before_a_damaged_one_is_taken_and_the_run_ends_alike(damage, whole, tmp_path, capsys):
    reference, overlays = whole
    train(tmp_path, *overlays, kill_at=11)
    last, generator = tmp_path / "checkpoint_epoch=3.pt", random.Random(1)
    content = last.read_bytes()
    while find_damage(last) is None:
        last.write_bytes(damage(content, generator))
    train(tmp_path, *overlays)
    assert "checkpoint_epoch=3.pt is damaged: resuming from checkpoint_epoch=2.pt." in capsys.readouterr().out
    assert run_differences(tmp_path, reference) == []


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_keeps_its_files(tmp_path):
    train(tmp_path, kill_at=8)
    for path in tmp_path.glob("checkpoint*"):
        path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path)
    assert isinstance(find_error(caught.value), CheckpointError)
    assert_teaches(find_error(caught.value), "checkpoint_epoch=2.pt, which is damaged", "--resume False")
    assert len(list(tmp_path.glob("checkpoint*"))) == 2


# --- values -----------------------------------------------------------------------------------------------------------


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    flow = prepare(tmp_path)

    @flow.trainer.on(Events.ITERATION_COMPLETED(once=6))
    def _spoil():
        with torch.no_grad():
            flow.network_def.encoder.head.bias.fill_(torch.inf)

    with pytest.raises(RuntimeError) as caught:
        flow.run()
    error = find_error(caught.value)
    assert isinstance(error, TrainingError)
    assert_teaches(error, "after epoch 2", "network.encoder.head.bias", "The last good checkpoint is kept")
    assert [path.name for path in tmp_path.glob("checkpoint*")] == ["checkpoint_epoch=1.pt"]


@pytest.mark.parametrize("part", ["network", "optimizer"])
def test_a_checkpoint_with_values_that_are_not_finite_is_refused(part, tmp_path):
    train(tmp_path, kill_at=5)
    path = tmp_path / "checkpoint_epoch=1.pt"
    content = read(path)
    state = content["network"] if part == "network" else content["optimizer"]["state"][0]
    next(value for value in state.values() if value.numel() > 1).view(-1)[0] = torch.nan
    torch.save(content, path)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path)
    error = find_error(caught.value)
    assert isinstance(error, CheckpointError)
    assert_teaches(error, f"NaN or infinity in {part}")


# --- images -----------------------------------------------------------------------------------------------------------


def tiles(folder, seed=0):
    for name in ("train/a", "train/b", "val/c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(seed).randint(0, 200, (70, 72, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        seed += 1
    return folder


@pytest.mark.parametrize("name", ["train/b", "val/c"])
def test_images_that_are_replaced_under_their_names_are_noticed(name, tmp_path):
    images, out = tiles(tmp_path / "images"), tmp_path / "out"
    train(out, dataset_dir=str(images), kill_at=5)
    kept = images / f"{name}.png"
    before = kept.read_bytes()
    pixels = np.asarray(Image.open(kept)).copy()
    pixels[3, 4, 1] += 1
    Image.fromarray(pixels).save(kept)
    with pytest.raises(RuntimeError) as caught:
        train(out, dataset_dir=str(images))
    error = find_error(caught.value)
    assert isinstance(error, CheckpointError)
    assert_teaches(error, "the images of the unfinished run", "--resume False")
    kept.write_bytes(before)  # restored, at another time: the run resumes
    train(out, dataset_dir=str(images))
    assert (out / "model.pt").is_file()


def test_images_that_are_replaced_while_a_training_runs_end_it(tmp_path):
    images, out = tiles(tmp_path / "images"), tmp_path / "out"
    flow = prepare(out, dataset_dir=str(images), cache_bytes=0)

    @flow.trainer.on(Events.EPOCH_COMPLETED(once=1))
    def _replace():
        shutil.rmtree(images)
        tiles(images, seed=9)

    with pytest.raises(RuntimeError) as caught:
        flow.run()
    assert isinstance(find_error(caught.value), DataError)
    assert "images that the training began with" in str(find_error(caught.value))
