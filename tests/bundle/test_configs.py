"""The bundle's configurations: complete, changed by overlays as their names say, packaged with what MONAI expects."""

import json
import shutil
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
import yaml
from bundle_workflows import CONFIGS, ROOT, TOY, train, workflow
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from monai.transforms import Identityd
from PIL import Image

from monai_iste.errors import (
    ShapeError,
)
from monai_iste.handlers import Checkpoints, TrainingProgress
from monai_iste.networks import ISTE


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["train.json"], "train"),
        (["train.json", "paper.json"], "train"),
        (["train.json", "paper.json", "paper_authors.json"], "train"),
        (["train.json", "light_release.json"], "train"),
        (["train.json", "light_release.json", "light_scans.json"], "train"),
        (["train.json", "multi_gpu_train.json"], "train"),
        (["evaluate.json"], "infer"),
        (["evaluate.json", "multi_gpu_evaluate.json"], "infer"),
        (["inference.json"], "infer"),
    ],
)
def test_monai_finds_every_property(names, kind, tmp_path, alone, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flow = workflow(*names, kind=kind, output_dir=str(tmp_path / "out"))
    flow.initialize()
    assert flow.check_properties() == []
    assert flow.bundle_root == str(ROOT)
    assert flow.version == "0.1.0"


def test_a_loading_process_need_not_be_forked(tmp_path):
    """Where processes are spawned, as on Windows, macOS and since Python 3.14, they get the data set as bytes."""
    flow = workflow("train.json", output_dir=str(tmp_path / "out"), **TOY)
    flow.initialize()
    dataset = flow.parser.get_parsed_content("train#dataset")
    received = ForkingPickler.loads(bytes(ForkingPickler.dumps(dataset)))
    assert len(received) == len(dataset)
    assert received[0].keys() == dataset[0].keys()
    assert received[0]["image"].shape == dataset[0]["image"].shape


def test_network_takes_and_gives_what_the_metadata_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verify_net_in_out("network_def", meta_file=str(CONFIGS / "metadata.json"), config_file=str(CONFIGS / "train.json"))


def test_the_recipe_for_scans_sees_all_pixels_alike(tmp_path):
    for name, size in {"train/a": (128, 128), "train/b": (512, 384), "val/c": (128, 128)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    names, out = ("train.json", "light_release.json", "light_scans.json"), str(tmp_path / "out")
    flow = workflow(*names, dataset_dir=str(tmp_path), output_dir=out, val_crop=64, batch_size=8, steps_per_epoch=500)
    flow.initialize()
    drawn = np.bincount(list(flow.parser.get_parsed_content("train#sampler")), minlength=2)
    assert drawn.sum() == 8 * 500
    assert drawn[1] / drawn.sum() == pytest.approx(12 / 13, abs=0.02)


def test_files_at_the_root_are_those_of_configs():
    for name in ("train.json", "metadata.json", "logging.conf"):
        assert (ROOT / name).resolve() == (CONFIGS / name).resolve()


def test_run_and_training_are_the_same(tmp_path):
    flow = workflow("train.json")
    assert flow.parser.get("training") == "$@run"
    train(tmp_path, run_id="training")
    assert (tmp_path / "out" / "model.pt").is_file()


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_overlays_change_what_they_name(form, tmp_path):
    overlay = tmp_path / f"overlay.{form}"
    change = {"preset": "iste_small", "network_def#use_lfi": False}
    overlay.write_text(json.dumps(change) if form == "json" else yaml.safe_dump(change))
    flow = ConfigWorkflow([str(CONFIGS / "train.json"), str(overlay)], logging_file=False)
    flow.initialize()
    network = flow.network_def
    assert network.encoder.groups is not None
    assert not hasattr(network.local_feature_interactor, "qkv")


@pytest.mark.parametrize(
    "stage", ["load", "crop", "augment", "degrade", "hide_blur", "sample", "normalize", "to_tensor"]
)
def test_an_overlay_replaces_a_stage_by_its_name(stage):
    flow = workflow("train.json", **{stage: {"_target_": "Identityd", "keys": "image"}})
    flow.initialize()
    steps = flow.parser.get_parsed_content("train#preprocessing").transforms
    assert [isinstance(step, Identityd) for step in steps].count(True) == 1
    assert len(steps) == (8 if stage == "augment" else 10)


def test_the_training_stages_in_their_order():
    flow = workflow("train.json")
    flow.initialize()
    steps = flow.parser.get_parsed_content("train#preprocessing").transforms  # one flat list: it decides the seeds
    assert [type(step).__name__ for step in steps] == [
        *("LoadRGBd", "RandArbitraryScaleCropd", "RandFlipd", "RandFlipd", "RandRotate90d", "BlurDegradationd"),
        *("RandHideBlurd", "RandSampleCoordinatesd", "ScaleIntensityRanged", "EnsureTyped"),
    ]


def test_an_overlay_changes_handlers_by_their_names():
    changes = {"train#checkpoints#save_dir": "elsewhere", "train#progress#_disabled_": True}
    flow = workflow("train.json", **changes)
    flow.initialize()
    handlers = flow.parser.get_parsed_content("train#handlers")
    assert next(h for h in handlers if isinstance(h, Checkpoints)).save_dir == "elsewhere"
    assert not any(isinstance(h, TrainingProgress) for h in handlers)


def test_experiment_tracking_adds_its_handlers(tmp_path):
    settings = tmp_path / "tracking.json"
    ids = {
        "trainer": {"id": "train#trainer", "handlers": "train#handlers"},
        "validator": {"id": "validate#evaluator", "handlers": "validate#handlers"},
    }
    handler = {"_target_": "StatsHandler", "tag_name": "tracked"}
    configs = {"trainer": handler, "validator": handler, "save_execute_config": False}
    settings.write_text(json.dumps({"handlers_id": ids, "configs": configs}))
    flow = workflow("train.json", tracking=str(settings))
    flow.initialize()
    for key, count in (("train#handlers", 8), ("validate#handlers", 2)):
        handlers = flow.parser.get_parsed_content(key)
        assert len(handlers) == count + 1
        assert type(handlers[-1]).__name__ == "StatsHandler"


def test_paper_overlay_is_the_papers_recipe():
    flow = workflow("train.json", "paper.json")
    flow.initialize()
    get = flow.parser.get_parsed_content
    assert sum(p.numel() for p in get("network_def").parameters()) == 12_670_506
    assert (get("lr_size"), get("num_points"), get("scale_range")) == (48, 48**2, (1.0, 4.0))
    assert (get("learning_rate"), get("lr_scheduler").eta_min, get("max_epochs")) == (1e-4, 1e-4, 1000)
    assert isinstance(get("optimizer"), torch.optim.Adam)
    assert isinstance(get("loss"), torch.nn.L1Loss)


def test_packaging(tmp_path):
    shutil.copytree(ROOT, tmp_path / "iste", symlinks=True, ignore=shutil.ignore_patterns("eval"))
    for name in ("LICENSE", "docs/README.md", "large_files.yml", "configs/metadata.json", "configs/logging.conf"):
        assert (tmp_path / "iste" / name).is_file()
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert "not for diagnosis" in metadata["intended_use"].lower()
    assert yaml.safe_load((ROOT / "large_files.yml").read_text()) == {"large_files": []}


def test_short_names_resolve_in_any_configuration():
    parser = ConfigParser(
        {"net": {"_target_": "ISTE", "texture_channels": 8}, "crop": {"_target_": "LoadRGBd", "keys": "image"}}
    )
    assert isinstance(parser.get_parsed_content("net"), ISTE)
    assert type(parser.get_parsed_content("crop")).__module__ == "monai_iste.transforms.io"
    with pytest.raises(ShapeError):
        parser.get_parsed_content("net")(torch.zeros(1, 1, 4, 4))
