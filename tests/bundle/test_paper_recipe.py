"""The paper's recipe: epochs over the data set, and the schedule of the authors' code."""

from collections import Counter

import pytest
import torch
from bundle_workflows import train, workflow
from PIL import Image
from reference import assert_teaches

from monai_iste.data import steps_per_epoch
from monai_iste.data.seeded import SeededSampler
from monai_iste.errors import ConfigError, find_error


@pytest.fixture
def tiles(tmp_path):
    for part, count in (("train", 5), ("val", 1)):
        (tmp_path / "data" / part).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (192, 192), "pink").save(tmp_path / "data" / part / f"{number}.png")
    return tmp_path / "data"


def recipe(tiles, *overlays, **changes):
    options = {"dataset_dir": str(tiles), "output_dir": str(tiles / "out"), "preset": "iste_light", "num_workers": 0}
    flow = workflow("train.json", "paper.json", *overlays, **{**options, **changes})
    flow.initialize()
    return flow.parser.get_parsed_content


@pytest.mark.parametrize(("batch", "crops", "steps"), [(16, 1, 1), (2, 1, 3), (2, 3, 8), (5, 4, 4)])
def test_an_epoch_is_the_data_set(batch, crops, steps, tiles):
    get = recipe(tiles, batch_size=batch, crops_per_image=crops)
    assert get("steps_per_epoch") == steps
    assert get("train#trainer").state.epoch_length == steps
    drawn = Counter(map(int, get("train#sampler")))
    assert sum(drawn.values()) == batch * steps
    assert set(drawn) == set(range(5))  # every image, as often as the others but for the last, partial round
    assert max(drawn.values()) - min(drawn.values()) <= 1
    assert min(drawn.values()) >= crops


def test_the_authors_schedule(tiles):
    get = recipe(tiles, "paper_authors.json")
    assert (get("batch_size"), get("crops_per_image"), get("max_epochs")) == (4, 20, 1000)
    assert get("steps_per_epoch") == 25
    optimizer, schedule, rates = get("optimizer"), get("lr_scheduler"), {}
    for epoch in range(1001):
        rates[epoch] = optimizer.param_groups[0]["lr"]
        for _ in range(25):
            optimizer.step()
            schedule.step()
    expected = {0: 2e-4, 499: 2e-4, 500: 1e-4, 799: 1e-4, 800: 5e-5, 900: 2.5e-5, 949: 2.5e-5, 950: 1.25e-5}
    assert {epoch: rates[epoch] for epoch in expected} == pytest.approx(expected)
    assert rates[1000] == pytest.approx(1.25e-5)


def test_the_authors_schedule_trains(tmp_path):
    length = "$monai_iste.data.steps_per_epoch(@datalists[0], @crops_per_image, @batch_size)"  # TOY has another
    changes = {"max_epochs": 2, "steps_per_epoch": length, "crops_per_image": 4, "preset": "iste_light"}
    changes |= {"halved_at": [1], "num_points": 16, "lr_size": 16, "num_workers": 0}
    flow = train(tmp_path, "paper.json", "paper_authors.json", **changes)
    assert flow.parser.get_parsed_content("train#trainer").state.iteration == 4  # one image, 4 crops, 2 epochs
    assert flow.parser.get_parsed_content("optimizer").param_groups[0]["lr"] == pytest.approx(1e-4)
    assert (tmp_path / "out" / "model.pt").is_file()


def test_processes_share_an_epoch(monkeypatch):
    items = [{"image": "a.png"}] * 10
    assert steps_per_epoch(items, 2, 4) == 5
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert steps_per_epoch(items, 2, 4) == 3


def test_draws_without_replacement_depend_on_seed_and_epoch():
    sampler = SeededSampler(range(6), num_samples=12, seed=1, replacement=False)
    first = list(sampler)
    assert sorted(first[:6]) == sorted(first[6:]) == list(range(6))
    assert first[:6] != first[6:]
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)
    with pytest.raises(ConfigError) as caught:
        SeededSampler(range(3), 3, weights=[1, 1, 1], replacement=False)
    assert_teaches(caught.value)


def test_crops_of_an_image_are_checked(tiles):
    with pytest.raises(RuntimeError) as caught:  # MONAI wraps errors of its expressions
        recipe(tiles, crops_per_image=0)
    assert "crops_per_image to be a whole number" in str(find_error(caught.value))
