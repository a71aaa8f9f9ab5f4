"""The training workflow: what it leaves behind, and errors that end it with a sentence."""

import errno
import io
import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from bundle_workflows import TOY, train, workflow
from ignite.engine import Events
from PIL import Image
from reference import assert_teaches

from monai_iste.errors import (
    DataError,
    OutputError,
    ScaleError,
    TrainingError,
    find_error,
)
from monai_iste.io.files import report_write_errors
from monai_iste.networks import create_iste, load_weights, weights
from monai_iste.networks.presets import DEFAULT_PRESET


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
        load_weights(create_iste(DEFAULT_PRESET), trained / name)
    assert json.loads((trained / "config.json").read_text())["max_epochs"] == 1
    assert not list(trained.glob(".*.part"))


def test_training_under_the_luma_protocol_still_draws_its_picture(tmp_path):
    train(tmp_path, protocol="y-shave-s", scales=[2])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"] == "y-shave-s"
    assert Image.open(tmp_path / "out" / "comparison.png").mode == "RGB"


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    out = tmp_path / "out"
    flow = workflow("train.json", output_dir=str(out), val_crop=64, **{**TOY, "max_epochs": 3})
    flow.initialize()
    network = flow.network_def

    @flow.trainer.on(Events.EPOCH_STARTED(once=3))
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


@pytest.mark.parametrize(("name", "value"), [("scales", 2), ("scales", []), ("scales", "abc"), ("scales", [0.5])])
def test_scales_that_cannot_be_are_refused(name, value, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path, **{name: value})
    assert isinstance(find_error(caught.value), ScaleError)


@pytest.mark.parametrize(
    ("full", "words"), [("checkpoint", "Free disk space and run"), ("model_best", "model_best.pt")]
)
def test_a_full_disk_ends_a_training_with_a_sentence(full, words, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 10_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    @contextmanager
    def on_a_full_disk(path, *arguments, open_output=weights.open_output, **options):
        with report_write_errors(path), open_output(path, *arguments, **options) as file:
            yield Full() if full in path.name else file

    monkeypatch.setattr(weights, "open_output", on_a_full_disk)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path)
    error = find_error(caught.value)
    assert isinstance(error, OutputError)
    assert_teaches(error, full, "No space left on device", words)


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
