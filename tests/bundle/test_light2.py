"""The recipe of the second-generation light network: overlay ``light2.json`` on the bundle's training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from PIL import Image

from monai_iste.data import sample_datalists, training_datalists, truth_weights
from monai_iste.errors import ConfigError, DataError
from monai_iste.networks import create_iste, load_weights

CONFIGS = Path(__file__).parents[2] / "bundles" / "iste" / "configs"
TOY = {"lr_size": 16, "num_rows": 12, "batch_size": 4, "num_workers": 0, "val_crop": 64, "scales": [2]}
SHORT = {**TOY, "max_epochs": 2, "steps_per_epoch": 15, "val_interval": 2, "warmup_steps": 5}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def workflow(folder: Path, **changes) -> ConfigWorkflow:
    files = [str(CONFIGS / name) for name in ("train.json", "light2.json")]
    changes = {"output_dir": str(folder / "out"), **TOY, **changes}
    flow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **changes)
    flow.initialize()
    return flow


def run(flow: ConfigWorkflow, stop_at: int | None = None) -> list[float]:
    """Run a training, or stop it at a step as a crash would; return the loss of every step."""
    losses: list[float] = []
    trainer = flow.parser.get_parsed_content("train#trainer")

    def record(engine):
        losses.append(float(engine.state.output[0]["loss"]))
        if engine.state.iteration == stop_at:
            raise ZeroDivisionError

    trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
    flow.run()
    flow.finalize()
    return losses


def test_it_trains_and_lowers_the_loss(tmp_path):
    losses = run(workflow(tmp_path, **SHORT))
    assert len(losses) == 30
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    rows = {row["method"]: row["psnr"] for row in json.loads((tmp_path / "out/metrics.json").read_text())["rows"]}
    assert rows["iste"] > rows["iste, initial"] + 2
    weights = load_weights(create_iste("iste_light2"), tmp_path / "out/model.pt")
    assert weights.local_pixel_decoder.blend == "features"


def test_it_resumes_from_its_last_epoch(tmp_path, capsys):
    with pytest.raises((ZeroDivisionError, RuntimeError)):
        run(workflow(tmp_path, **SHORT), stop_at=20)
    capsys.readouterr()
    losses = run(workflow(tmp_path, **SHORT))
    assert "Resumed" in capsys.readouterr().out
    assert len(losses) == 15
    assert (tmp_path / "out/model.pt").is_file()


def test_the_learning_rate_rises_stays_and_falls(tmp_path):
    flow, rates = workflow(tmp_path, **{**SHORT, "learning_rate": 1e-3, "anneal_steps": 10}), []
    trainer = flow.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: rates.append(engine.optimizer.param_groups[0]["lr"])
    )
    run(flow)
    np.testing.assert_allclose(rates[:6], [2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1e-3])
    np.testing.assert_allclose(rates[5:21], 1e-3)
    assert np.all(np.diff(rates[20:]) < 0)
    assert 1e-5 < rates[-1] < 5e-5  # the step after it would have 1e-5


@pytest.fixture
def tiles(tmp_path):
    """A data set of two tiles of other sizes, one for validation, and a native tile."""
    tissue = sample_datalists()[0][0]["image"].transpose(1, 2, 0)
    for name, part in {
        "set/train/a": tissue[:150, :150],
        "set/train/b": tissue[:300, :150],
        "set/val/c": tissue[150:300, :150],
        "native/d": tissue[:, 200:],
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(part)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_native_tiles_are_drawn_with_their_share(tiles):
    flow = workflow(
        tiles, dataset_dir=str(tiles / "set"), native_dir=str(tiles / "native"), steps_per_epoch=500, native_share=0.3
    )
    dataset = flow.parser.get_parsed_content("train#dataset")
    drawn = np.bincount(list(flow.parser.get_parsed_content("train#sampler")), minlength=3) / 2000
    np.testing.assert_allclose(drawn, [0.7 / 3, 1.4 / 3, 0.3], atol=0.05)
    batch = next(iter(flow.parser.get_parsed_content("train#dataloader")))
    assert batch["image"].shape == (4, 3, 16, 16)
    assert batch["label"].shape == (4, 144, 3)
    assert batch["rows"].shape == batch["columns"].shape == (4, 12)
    assert [item["native"] for item in dataset.data] == [False, False, True]


def test_scales_begin_at_one(tmp_path):
    flow = workflow(tmp_path, batch_size=4, steps_per_epoch=100)
    cells = torch.cat([batch["cell"] for batch in flow.parser.get_parsed_content("train#dataloader")])
    scales = 2 / cells[:, 0]
    assert (cells[:, 0] == cells[:, 1]).all()
    assert 0.02 < (scales == 1).float().mean() < 0.1
    assert 0.6 < (scales <= 4).float().mean() < 0.9
    assert 7.5 < scales.max() <= 8


def test_native_tiles_are_listed_and_checked(tiles):
    train, val = training_datalists(tiles / "set", 64, tiles / "native")
    assert [(item["name"], item["native"]) for item in train] == [("a", False), ("b", False), ("d", True)]
    assert [item["name"] for item in val] == ["c"]
    assert all("native" not in item for item in training_datalists(tiles / "set", 64)[0])
    with pytest.raises(DataError):
        training_datalists(tiles / "set", 64, tiles / "missing")
    Image.new("RGB", (40, 40)).save(tiles / "native/small.png")
    with pytest.raises(DataError, match=r"small\.png of 40 x 40"):
        training_datalists(tiles / "set", 64, tiles / "native")


def test_weights_sum_to_one():
    tile = {"image": np.zeros((3, 20, 30), np.uint8)}
    wide = {"image": np.zeros((3, 20, 60), np.uint8)}
    assert truth_weights([tile, wide]) == [1 / 3, 2 / 3]
    native = {**wide, "native": True}
    np.testing.assert_allclose(truth_weights([tile, wide, native, native], 0.4), [0.2, 0.4, 0.2, 0.2])
    assert truth_weights([native, native]) == [0.5, 0.5]
    for share in (-0.1, 1.0):
        with pytest.raises(ConfigError):
            truth_weights([tile], share)


def test_monai_finds_every_property(tmp_path):
    assert workflow(tmp_path).check_properties() == []
