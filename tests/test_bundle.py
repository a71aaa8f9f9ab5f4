"""The bundle's configurations: valid, independent of the current folder, with clear errors for mistakes."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
import yaml
from fire.parser import DefaultParseValue
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from monai.transforms import Identityd
from openslide import OpenSlide
from PIL import Image
from reference import assert_teaches
from slide_files import picture, write_slide_file

from monai_iste import bundle
from monai_iste.data import sample_datalists
from monai_iste.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    OutputError,
    ScaleError,
    ShapeError,
    TrainingError,
    find_error,
)
from monai_iste.functional import upscale
from monai_iste.handlers import Checkpoints, LoadWeights, TrainingProgress, reports
from monai_iste.io.files import report_write_errors
from monai_iste.metrics import PROTOCOLS
from monai_iste.networks import ISTE, PRESETS, create_iste, load_weights, released_weights
from monai_iste.networks.presets import DEFAULT_PRESET

ROOT = Path(__file__).parents[1] / "bundles" / "iste"
CONFIGS = ROOT / "configs"
TOY = {"max_epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "lr_size": 16, "num_points": 32, "num_workers": 0}


def workflow(*names: str, kind: str = "train", **changes) -> ConfigWorkflow:
    return ConfigWorkflow([str(CONFIGS / name) for name in names], workflow_type=kind, logging_file=False, **changes)


def train(tmp_path: Path, *overlays: str, **changes) -> ConfigWorkflow:
    """A training of seconds on crops of the offline sample."""
    flow = workflow("train.json", *overlays, **{"output_dir": str(tmp_path / "out"), "val_crop": 64, **TOY, **changes})
    flow.initialize()
    flow.run()
    flow.finalize()
    return flow


def evaluate(tmp_path: Path, trained: Path, **changes) -> None:
    """An evaluation of the model that a training left in ``trained``."""
    changes = {"checkpoint": str(trained / "model.pt"), "output_dir": str(tmp_path), "crop": 64, **changes}
    flow = workflow("evaluate.json", kind="infer", **changes)
    flow.initialize()
    flow.run()
    flow.finalize()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder)
    return folder / "out"


@pytest.fixture
def alone(monkeypatch):
    """One process with the environment of torch.distributed.run."""
    for key, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}.items():
        monkeypatch.setenv(key, value)
    yield
    idist.finalize()  # Ignite remembers the group
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["train.json"], "train"),
        (["train.json", "paper.json"], "train"),
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


@pytest.mark.parametrize("config", [ROOT / "train.json", CONFIGS / "train.json"])
@pytest.mark.parametrize("folder", ["repository", "bundle", "elsewhere"])
def test_results_go_to_the_bundle_wherever_the_command_is_typed(config, folder, tmp_path, monkeypatch):
    monkeypatch.chdir({"repository": ROOT.parents[1], "bundle": ROOT, "elsewhere": tmp_path}[folder])
    name = str(config) if folder == "elsewhere" else str(config.relative_to(Path.cwd()))
    flow = ConfigWorkflow(name, logging_file=False)
    flow.initialize()
    assert flow.parser.get_parsed_content("output_dir") == str(ROOT / "eval")


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


@pytest.mark.parametrize("stage", ["load", "crop", "augment", "degrade", "sample", "normalize", "to_tensor"])
def test_an_overlay_replaces_a_stage_by_its_name(stage):
    flow = workflow("train.json", **{stage: {"_target_": "Identityd", "keys": "image"}})
    flow.initialize()
    steps = flow.parser.get_parsed_content("train#preprocessing").transforms
    assert [isinstance(step, Identityd) for step in steps].count(True) == 1
    assert len(steps) == (7 if stage == "augment" else 9)


def test_the_training_stages_in_their_order():
    flow = workflow("train.json")
    flow.initialize()
    steps = flow.parser.get_parsed_content("train#preprocessing").transforms  # one flat list: it decides the seeds
    assert [type(step).__name__ for step in steps] == [
        *("LoadRGBd", "RandArbitraryScaleCropd", "RandFlipd", "RandFlipd", "RandRotate90d", "BlurDegradationd"),
        *("RandSampleCoordinatesd", "ScaleIntensityRanged", "EnsureTyped"),
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
    for key, count in (("train#handlers", 7), ("validate#handlers", 2)):
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


def test_released_recipe_trains(tmp_path):
    train(tmp_path, "light_release.json")
    assert (tmp_path / "out" / "model.pt").is_file()


def test_training_can_start_from_weights(trained, tmp_path):
    before = json.loads((trained / "metrics.json").read_text())["images"]
    train(tmp_path, pretrained=str(trained / "model.pt"))
    after = json.loads((tmp_path / "out" / "metrics.json").read_text())["images"]
    start, end = (
        [r["psnr"] for r in rows if r["method"] == m] for rows, m in ((after, "iste, initial"), (before, "iste"))
    )
    assert start == pytest.approx(end, abs=1e-3)


def test_training_leaves_a_model_a_table_and_a_picture(trained):
    report = json.loads((trained / "metrics.json").read_text())
    assert report["protocol"] == "iste-rgb"
    assert [(r["scale"], r["method"]) for r in report["rows"]] == [
        (scale, method) for scale in (2, 3, 4) for method in ("bicubic", "iste, initial", "iste")
    ]
    assert all(10 < r["psnr"] < 60 and 0 < r["ssim"] < 1 for r in report["rows"])
    initial, after = (
        [r["psnr"] for r in report["rows"] if r["method"] == method] for method in ("iste, initial", "iste")
    )
    assert initial != after
    picture = Image.open(trained / "comparison.png")
    assert picture.width > picture.height > 600
    assert list((trained / "tensorboard").glob("events.*"))
    for name in ("model.pt", "model_best.pt"):
        load_weights(create_iste("iste_light"), trained / name)
    assert json.loads((trained / "config.json").read_text())["max_epochs"] == 1
    assert not list(trained.glob(".*.part"))


def test_evaluating_the_trained_model_repeats_its_table(trained, tmp_path, capsys):
    evaluate(tmp_path, trained)
    again = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    before = json.loads((trained / "metrics.json").read_text())["rows"]
    more = [{key: row.pop(key) for key in ("lr_psnr", "spectrum")} for row in again]  # an evaluation measures these too
    assert again == [row for row in before if row["method"] != "iste, initial"]
    assert all(row["lr_psnr"] > 30 > row["spectrum"] > 0 for row in more)
    assert "x4     iste " in capsys.readouterr().out


def test_results_say_what_they_were_measured_with(trained, tmp_path):
    weights = trained / "model.pt"
    evaluate(tmp_path, trained, protocol="bicubic-rgb", scales=[2])
    training, evaluation = (
        json.loads((folder / "metrics.json").read_text())["manifest"] for folder in (trained, tmp_path)
    )
    for report in (training, evaluation):
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        assert report["checkpoint"] == {"file": "model.pt", "sha256": sha256}
        assert report["dataset"] == training["dataset"]
        assert report["versions"]["torch"] == torch.__version__
        assert report["hardware"]["threads"] == 1
        assert report["precision"] == "float32"
        assert str(tmp_path.parent) not in json.dumps(report)
    assert training["seed"] == training["config"]["seed"] == 0
    assert training["training_dataset"]["count"] == 1
    assert training["training_dataset"] != training["dataset"]
    assert training["config"].items() >= {**TOY, "max_scale": 4.0, "degradation": "blur_bicubic"}.items()
    assert evaluation["seed"] is None
    assert evaluation["config"]["crop"] == 64
    assert evaluation["protocol"]["degradation"] == "bicubic"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_is_chosen_by_name(protocol, trained, tmp_path, capsys):
    evaluate(tmp_path, trained, protocol=DefaultParseValue(protocol), scales=[2, 3.7])
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["protocol"] == report["manifest"]["protocol"]["name"] == protocol
    assert f"protocol {protocol}" in capsys.readouterr().out
    with open(tmp_path / "metrics.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [{key: str(value) for key, value in row.items()} for row in report["images"]]
    assert {(line["scale"], line["method"]) for line in lines} == {
        (scale, method) for scale in ("2", "3.7") for method in ("bicubic", "iste")
    }


def test_protocols_do_not_agree(trained, tmp_path):
    bicubic = {}
    for name in PROTOCOLS:
        (tmp_path / name).mkdir()
        evaluate(tmp_path / name, trained, protocol=name, scales=[2])
        bicubic[name] = json.loads((tmp_path / name / "metrics.json").read_text())["rows"][0]["psnr"]
    assert bicubic["y-shave-s"] > bicubic["bicubic-rgb"] > bicubic["iste-rgb"]


def test_an_unknown_protocol_is_refused(trained, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path, trained, protocol="psnr")
    error = find_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "a protocol: iste-rgb, bicubic-rgb, y-shave-s, got 'psnr'" in str(error)


def test_training_under_the_luma_protocol_still_draws_its_picture(tmp_path):
    train(tmp_path, protocol="y-shave-s", scales=[2])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"] == "y-shave-s"
    assert Image.open(tmp_path / "out" / "comparison.png").mode == "RGB"


def test_inference_upscales_a_folder(tmp_path):
    network = create_iste("iste_light")
    for decoder in (network.local_pixel_decoder, network.local_texture_decoder):
        torch.nn.init.zeros_(decoder.mlp[-1].weight)
        torch.nn.init.zeros_(decoder.mlp[-1].bias)
    torch.save(network.state_dict(), tmp_path / "bicubic.pt")  # only the bicubic residual is left
    (tmp_path / "in" / "sub").mkdir(parents=True)
    tile = Image.fromarray(sample_datalists()[1][0]["image"][:, :30, :40].transpose(1, 2, 0))
    tile.save(tmp_path / "in" / "sub" / "tile.png")
    flow = workflow(
        "inference.json",
        kind="infer",
        checkpoint=str(tmp_path / "bicubic.pt"),
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        scale=3.7,
    )
    flow.initialize()
    flow.run()
    result = np.asarray(Image.open(tmp_path / "out" / "sub" / "tile_x3.7.png")).astype(float)
    expected = np.asarray(tile.resize((148, 111), Image.Resampling.BICUBIC)).astype(float)
    assert result.shape == expected.shape
    assert np.abs(result - expected).mean() < 1.5  # the kernels differ: a = -0.75 and -0.5


def test_inference_upscales_a_slide(tmp_path, capsys):
    """The same pixels as :func:`monai_iste.upscale`, with the pixel size that was asked for."""
    pytest.importorskip("zarr")
    pixels = picture(100, 120)
    options = {
        "slide": str(write_slide_file(tmp_path / "a.tif", pixels, mpp=0.5)),
        "output": str(tmp_path / "a.ome.tif"),
        "output_dir": str(tmp_path),
        "mpp": 0.2,
        "compression": "lossless",
    }
    for told in ("wrote", "is complete already"):
        flow = workflow("inference_wsi.json", kind="infer", **options)
        flow.initialize()
        flow.run()
        assert told in capsys.readouterr().out
    with OpenSlide(tmp_path / "a.ome.tif") as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.2)
        found = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    np.testing.assert_array_equal(found, upscale(pixels, 2.5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "--slide"),
        ({"slide": "a.svs"}, "a.svs, which does not exist"),
        ({"slide": "a.tif"}, "--output"),
        ({"slide": "a.tif", "output": "b.ome.tif", "scale": None}, "one of scale, size and mpp"),
        ({"slide": "a.tif", "output": "b.ome.tif", "compression": "zip"}, "a compression: jpeg, lossless"),
        ({"slide": "a.tif", "output": "b.ome.tif", "region": [0, 0, 9]}, "four whole numbers"),
    ],
)
def test_a_slide_that_cannot_be_upscaled(changes, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_slide_file(tmp_path / "a.tif", picture(40, 50))
    flow = workflow("inference_wsi.json", kind="infer", output_dir=".", **{"scale": 2, **changes})
    flow.initialize()
    with pytest.raises(RuntimeError) as caught:
        flow.run()
    assert words in str(find_error(caught.value))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]


def evaluated(folder: Path, name: str = "evaluate.json", **changes) -> tuple[str, str | None]:
    """The preset and the weights that an evaluation in ``folder`` takes."""
    flow = workflow(name, kind="infer", output_dir=str(folder), **changes)
    flow.initialize()
    handler = next(h for h in flow.parser.get_parsed_content("handlers") if isinstance(h, LoadWeights))
    own = flow.network_def.state_dict()
    assert own.keys() == create_iste(handler.preset).state_dict().keys()
    return handler.preset, handler.path


@pytest.mark.parametrize("name", ["evaluate.json", "inference.json"])
def test_released_weights_serve_where_nothing_was_trained(name, tmp_path, capsys):
    assert evaluated(tmp_path, name) == (DEFAULT_PRESET, str(released_weights(DEFAULT_PRESET)))
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    changes = {"scales": [2], "crop": 48} if name == "evaluate.json" else {"scale": 2}
    flow = workflow(name, kind="infer", output_dir=str(tmp_path / "out"), dataset_dir=str(tmp_path), **changes)
    flow.initialize()
    flow.run()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Network ")]
    assert line.startswith(f"Network {DEFAULT_PRESET} with the weights in ")
    assert line.endswith(f"{DEFAULT_PRESET}.safetensors")


@pytest.mark.parametrize("preset", ["iste_small", "iste_light"])
@pytest.mark.parametrize("config", [None, "name", "$'iste_' + ('light' if 1 else 'small')", "later run", "huge"])
def test_weights_that_were_trained_there_come_first(preset, config, tmp_path):
    torch.save(create_iste(preset).state_dict(), tmp_path / "model.pt")
    if config is not None:
        named = {"name": preset, "later run": "iste"}.get(config, config)
        (tmp_path / "config.json").write_text(json.dumps({"preset": named}))
    assert evaluated(tmp_path) == (preset, str(tmp_path / "model.pt"))


def test_of_two_presets_with_the_same_tensors_the_one_that_was_trained_is_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "iste_twin", PRESETS["iste_light"])
    torch.save(create_iste("iste_twin").state_dict(), tmp_path / "model.pt")
    assert bundle.default_preset(str(tmp_path)) == "iste_light"
    (tmp_path / "config.json").write_text(json.dumps({"preset": "iste_twin"}))
    assert bundle.default_preset(str(tmp_path)) == "iste_twin"


def test_named_weights_come_first(tmp_path):
    torch.save(create_iste("iste_small").state_dict(), tmp_path / "model.pt")
    released = str(released_weights(DEFAULT_PRESET))
    assert evaluated(tmp_path, preset="iste_small") == ("iste_small", str(tmp_path / "model.pt"))
    assert evaluated(tmp_path, preset=DEFAULT_PRESET) == (DEFAULT_PRESET, released)
    assert evaluated(tmp_path, checkpoint=released) == (DEFAULT_PRESET, released)
    assert evaluated(tmp_path / "out", checkpoint=str(tmp_path / "model.pt"))[0] == "iste_small"
    assert evaluated(tmp_path, preset="iste", checkpoint=released) == ("iste", released)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"preset": "iste"}, ConfigError, "a preset with released weights (iste_light), got 'iste', which has none"),
        ({"checkpoint": "missing.pt"}, CheckpointError, "missing.pt, which does not exist"),
        ({"preset": "iste", "checkpoint": str(released_weights(DEFAULT_PRESET))}, CheckpointError, "tensors that"),
    ],
)
def test_weights_that_are_not_there(changes, kind, words, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path, tmp_path, **{"checkpoint": None, **changes})
    error = find_error(caught.value)
    assert isinstance(error, kind)
    assert words in str(error)


def test_a_damaged_model_is_refused_and_not_replaced_by_released_weights(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"half")
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path, tmp_path, checkpoint=None)
    assert isinstance(find_error(caught.value), CheckpointError)


def test_an_interrupted_run_resumes_and_a_finished_one_starts_again(tmp_path, capsys):
    out = str(tmp_path / "out")
    train(tmp_path, max_epochs=2)
    first = json.loads((tmp_path / "out" / "metrics.json").read_text())
    flow = train(tmp_path, max_epochs=3)
    shown = capsys.readouterr()
    assert "Resumed" in shown.out
    assert "| 4/6 [" in shown.err  # the bar begins where the run does
    assert flow.trainer.state.iteration == 6
    assert flow.parser.get_parsed_content("lr_scheduler").last_epoch == 6
    second = json.loads((tmp_path / "out" / "metrics.json").read_text())
    kept = [[r for r in report["images"] if r["method"] == "iste, initial"] for report in (first, second)]
    assert kept[0] == kept[1]
    assert sorted(p.name for p in (tmp_path / "out").glob("checkpoint*")) == [
        "checkpoint_epoch=2.pt",
        "checkpoint_epoch=3.pt",
    ]
    assert bundle.resume_point(out, max_epochs=3) is None
    assert not list((tmp_path / "out").glob("checkpoint*"))


def test_a_checkpoint_cut_off_by_a_crash_is_passed_over(tmp_path):
    train(tmp_path, max_epochs=2)
    last = tmp_path / "out" / "checkpoint_epoch=2.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert bundle.resume_point(str(tmp_path / "out"), max_epochs=2).endswith("checkpoint_epoch=1.pt")


def test_an_unfinished_run_of_other_settings_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, max_epochs=2, network_def={"_target_": "create_iste", "preset": "iste_light", "use_lfi": False})
    error = find_error(caught.value)
    assert isinstance(error, CheckpointError)
    assert "another network_def. Repeat its settings to resume, add --resume False" in str(error)
    assert (tmp_path / "out" / "checkpoint_epoch=1.pt").is_file()
    train(tmp_path, max_epochs=1, resume=False, batch_size=1)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    train(tmp_path)
    (tmp_path / "out" / "config.json").unlink()
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, max_epochs=2, network_def={"_target_": "create_iste", "preset": "iste_light", "use_lfi": False})
    error = find_error(caught.value)
    assert isinstance(error, CheckpointError)
    assert "a checkpoint of the network that is being trained" in str(error)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    out = tmp_path / "out"
    flow = workflow("train.json", output_dir=str(out), val_crop=64, **{**TOY, "max_epochs": 3})
    flow.initialize()
    network = flow.network_def

    @flow.trainer.on(Events.EPOCH_COMPLETED(once=2))
    def _poison() -> None:
        with torch.no_grad():
            network.encoder.head.weight.fill_(torch.nan)

    with pytest.raises(RuntimeError) as caught:
        flow.run()
    error = find_error(caught.value)
    assert isinstance(error, TrainingError)
    assert "got nan at step 5. The last good checkpoint is kept" in str(error)
    assert not (out / "model.pt").exists()
    saved = torch.load(out / "checkpoint_epoch=1.pt", weights_only=True)
    assert all(torch.isfinite(v).all() for v in saved["network"].values())


def test_a_misspelled_key_is_refused(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, learnign_rate=1e-3)
    error = find_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "'learnign_rate'. Did you mean 'learning_rate'?" in str(error)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, **{"train#trainer#max_epoch": 3})
    assert "'max_epoch'" in str(find_error(caught.value))
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, degrad={"_target_": "RandMixedDegradationd"})
    assert "'degrad'. Did you mean 'degrade'?" in str(find_error(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 0), ("steps_per_epoch", "many"), ("batch_size", -2), ("lr_size", 16.5), ("num_points", True),
        ("val_interval", 0), ("num_workers", -1), ("seed", "abc"), ("learning_rate", "nan"), ("learning_rate", -1),
        ("max_scale", "abc"), ("resume", "false"), ("dataset_dir", 2024), ("output_dir", 5), ("device", "warp"),
        ("device", "cuda:99"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, **{name: value})
    error = find_error(caught.value)
    assert isinstance(error, ConfigError)
    assert_teaches(error, name, repr(value))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "value"), [("scales", 2), ("scales", []), ("scales", "abc"), ("scales", [0.5])])
def test_scales_that_cannot_be_are_refused(name, value, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, **{name: value})
    assert isinstance(find_error(caught.value), ScaleError)


def test_a_device_by_name(tmp_path, capsys):
    train(tmp_path, device="cpu")
    assert "No CUDA device: training iste_light on cpu" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", '{"a"', "[]", None])
def test_settings_that_a_crash_damaged_do_not_stop_a_run(text, tmp_path, capsys):
    train(tmp_path)
    saved = tmp_path / "out" / "config.json"
    if text is None:
        saved.unlink()
    else:
        saved.write_text(text)
    assert bundle.default_preset(str(tmp_path / "out")) == "iste_light"
    train(tmp_path, max_epochs=2)
    assert "Resumed" in capsys.readouterr().out
    assert json.loads(saved.read_text())["max_epochs"] == 2


def test_a_full_disk_ends_a_training_with_a_sentence(tmp_path, monkeypatch):
    def save(state, file, *arguments, save=torch.save, **options):
        if isinstance(file, (str, Path)):
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
        save(state, file, *arguments, **options)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path)
    error = find_error(caught.value)
    assert isinstance(error, OutputError)
    assert_teaches(error, "a checkpoint", "unexpected pos", "Free disk space")


def test_a_full_disk_ends_a_training_with_a_sentence_for_the_weights_too(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 10_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    @contextmanager
    def full(path, *arguments, **options):
        with report_write_errors(path):
            yield Full()

    monkeypatch.setattr(reports, "open_output", full)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path)
    error = find_error(caught.value)
    assert isinstance(error, OutputError)
    assert_teaches(error, "model_best.pt", "No space left on device")


def test_the_multi_gpu_overlay_alone_names_the_command_that_starts_it(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, "multi_gpu_train.json")
    assert "torch.distributed.run --standalone" in str(find_error(caught.value))


def test_packaging(tmp_path):
    shutil.copytree(ROOT, tmp_path / "iste", symlinks=True, ignore=shutil.ignore_patterns("eval"))
    for name in ("LICENSE", "docs/README.md", "large_files.yml", "configs/metadata.json", "configs/logging.conf"):
        assert (tmp_path / "iste" / name).is_file()
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert "not for diagnosis" in metadata["intended_use"].lower()
    assert yaml.safe_load((ROOT / "large_files.yml").read_text()) == {"large_files": []}


def bad_folder(tmp_path: Path, case: str) -> str:
    folder = tmp_path / "images"
    if case == "missing":
        return str(folder)
    folder.mkdir()
    if case == "corrupt":
        for name in ("a.png", "b.png"):
            (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n no image")
    if case == "small":
        for name in ("a.png", "b.png"):
            Image.new("RGB", (40, 300)).save(folder / name)
    if case == "one":
        Image.new("RGB", (300, 300)).save(folder / "a.png")
    return str(folder)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "images, which does not exist"),
        ("empty", "got none"),
        ("corrupt", ".png, got a damaged"),
        ("small", "at least 64 x 64 pixels, got"),
        ("one", "at least two images"),
    ],
)
def test_bad_folders(case, words, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, dataset_dir=bad_folder(tmp_path, case))
    error = find_error(caught.value)
    assert isinstance(error, DataError)
    assert words in str(error)
    assert not (tmp_path / "out" / "model.pt").exists()


def test_an_output_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, output_dir=str(tmp_path / "file" / "out"))
    error = find_error(caught.value)
    assert isinstance(error, OutputError)
    assert "Name another --output_dir" in str(error)


def test_short_names_resolve_in_any_configuration():
    parser = ConfigParser(
        {"net": {"_target_": "ISTE", "texture_channels": 8}, "crop": {"_target_": "LoadRGBd", "keys": "image"}}
    )
    assert isinstance(parser.get_parsed_content("net"), ISTE)
    assert type(parser.get_parsed_content("crop")).__module__ == "monai_iste.transforms.io"
    with pytest.raises(ShapeError):
        parser.get_parsed_content("net")(torch.zeros(1, 1, 4, 4))
