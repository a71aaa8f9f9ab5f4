"""Jobs of ``monai-iste upscale``: what exists, reports, dry runs, full disks."""

import errno
import json
import shutil

import torch
from commands import TISSUE, assert_refused, files, run
from PIL import Image

import monai_iste
from monai_iste.cli import image_job
from monai_iste.errors import OutputError


def test_existing_outputs_need_overwrite():
    Image.fromarray(TISSUE[:2, :2]).save("b.png")
    assert_refused(run("upscale", "a.png", "b.png", "--scale", 2), OutputError, "which exists", left=("a.png", "b.png"))
    assert Image.open("b.png").size == (2, 2)
    assert run("upscale", "a.png", "b.png", "--scale", 2, "--overwrite").exit_code == 0
    assert Image.open("b.png").size == (60, 40)


def test_report_in_json(weights):
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--json", "--input-mpp", 0.5, "--precision", "bf16")
    report = json.loads(result.stdout)
    (image,) = report.pop("images")
    assert image.pop("seconds") >= 0
    sizes = {"input_size": [20, 30], "output_size": [40, 60], "scale": [2.0, 2.0], "mpp": [0.25, 0.25]}
    stated = {"mpp": [0.5, 0.5], "source": "--input-mpp", "stated": None, "not_believed": None}
    assert image == {
        "input": "a.png",
        "output": "b.png",
        **sizes,
        "input_pixel_size": stated,
        "note": "",
        "warning": "",
    }
    assert report.pop("weights").endswith("tiny.safetensors")
    about = {
        "version": monai_iste.__version__,
        "preset": "tiny",
        "device": "cpu",
        "precision": "bf16",
        "input_blur": None,
    }
    assert report == {**about, "dry_run": False, "skipped": 0, "failed": 0}


def test_dry_run_changes_nothing():
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--dry-run")
    assert result.exit_code == 0
    assert "would write b.png: 20 x 30 -> 40 x 60" in result.stdout
    assert run("upscale", "a.png", "b.png", "--scale", 2, "--dry-run", "--json").exit_code == 0
    assert files() == ["a.png"]
    assert_refused(run("upscale", "a.png", "b.gif", "--scale", 2, "--dry-run"), OutputError, "b.gif")


def test_too_small_a_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5000, 5000))
    assert_refused(run("upscale", "a.png", "b.tif", "--scale", 2), OutputError, "of free space", "5e-06 GB")


def test_a_disk_that_fills_up_meanwhile(monkeypatch):
    def fill(*arguments):
        yield torch.zeros(3, 1, 60)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image_job.Tiler, "bands", fill)
    result = run("upscale", "a.png", "b.png", "--scale", 2)
    assert result.exit_code == OutputError.exit_code
    assert result.stderr.splitlines()[-1].startswith("error: Expected to be able to write b.png, got No space left")
    assert files() == ["a.png"]
