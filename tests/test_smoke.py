"""Commands as users type them: the subset that is run on every Python (``python -m pytest -m smoke``)."""

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from PIL import Image
from slide_files import picture, write_slide_file

import monai_iste
from monai_iste.inferers import Region
from monai_iste.io.image_writer import save_image
from monai_iste.slides.writers import SlideMetadata, write_slide

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "iste" / "configs"
COMMAND = Path(sysconfig.get_path("scripts")) / "monai-iste"
PIXELS = picture(60, 75)


def run(folder: Path, *arguments: object) -> str:
    done = subprocess.run([str(a) for a in arguments], cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def upscaled():
    return monai_iste.upscale(PIXELS, 2.5)


def test_everything_is_imported(tmp_path):
    """On the way no module warns of something deprecated in its own lines."""
    program = """
import importlib, pkgutil, warnings, monai_iste
warnings.filterwarnings("error", category=DeprecationWarning, module="monai_iste")
for module in pkgutil.walk_packages(monai_iste.__path__, "monai_iste."):
    # Those that need packages which the extra test does not bring are left out, and programs.
    if not any(part in module.name for part in (".label", ".napari", ".retrieval_triton", ".__main__")):
        importlib.import_module(module.name)
print(monai_iste.__version__)
"""
    assert run(tmp_path, sys.executable, "-c", program).splitlines()[-1] == monai_iste.__version__


def test_the_main_job(tmp_path):
    """Five steps on the offline sample, with a process that loads, and the scores of all three scales."""
    arguments = ("--config_file", BUNDLE / "train.json", "--max_epochs", 1, "--steps_per_epoch", 5)
    small = ("--batch_size", 2, "--val_crop", 64, "--output_dir", tmp_path / "out")
    said = run(tmp_path, sys.executable, "-m", "monai.bundle", "run", "training", *arguments, *small)
    assert "Wrote model.pt, metrics.json and comparison.png" in said
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    assert {row["scale"] for row in rows} == {2, 3, 4}


def test_upscale_an_image(tmp_path, upscaled):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    run(tmp_path, COMMAND, "upscale", "a.png", "b.png", "--scale", 2.5)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), upscaled)


def test_upscale_a_slide(tmp_path, upscaled):
    write_slide_file(tmp_path / "a.svs", PIXELS, mpp=0.5)
    run(tmp_path, COMMAND, "upscale", "a.svs", "b.ome.tiff", "--mpp", 0.2, "--compression", "lossless")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.ome.tiff"), upscaled)
    with OpenSlide(tmp_path / "b.ome.tiff") as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.2, rel=1e-2)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_image_writers(tmp_path, name):
    save_image(tmp_path / name, [PIXELS[:40], PIXELS[40:]], PIXELS.shape[:2], mpp=(0.5, 0.5))
    found = np.asarray(Image.open(tmp_path / name)).astype(int)
    assert np.abs(found - PIXELS).mean() <= (3 if name == "a.jpg" else 0)


@pytest.mark.parametrize("name", ["a.ome.tiff", "a.ome.zarr"])
def test_slide_writers(tmp_path, name):
    zarr = pytest.importorskip("zarr")
    pixels = picture(600, 530)

    def read(region: Region) -> np.ndarray:
        return pixels[region.slices]

    metadata = SlideMetadata(mpp=(0.5, 0.5), icc=None, provenance={})
    write_slide(tmp_path / name, read, (600, 530), metadata, tmp_path, compression="lossless")
    if name == "a.ome.zarr":
        found = np.asarray(zarr.open_group(tmp_path / name, mode="r")["0"]).transpose(1, 2, 0)
    else:
        found = tifffile.imread(tmp_path / name)
    np.testing.assert_array_equal(found, pixels)


def test_inference_by_the_bundle(tmp_path, upscaled):
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "in" / "a.png")
    arguments = ("--dataset_dir", tmp_path / "in", "--output_dir", tmp_path / "out", "--scale", 2.5)
    config = ("--config_file", BUNDLE / "inference.json")
    run(tmp_path, sys.executable, "-m", "monai.bundle", "run", "inference", *config, *arguments)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a_x2.5.png")), upscaled)


def test_the_viewer_comes_up_and_goes_down(tmp_path):
    write_slide_file(tmp_path / "a.svs", PIXELS)
    arguments = [str(COMMAND), "view", "a.svs", "--port", "0", "--no-browser"]
    windows = sys.platform == "win32"
    group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if windows else {}
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, text=True, **group) as process:
        try:
            said = process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
            with urllib.request.urlopen(f"{address}iiif/a/full/max/0/default.png", timeout=60) as response:
                assert Image.open(BytesIO(response.read())).size == (75, 60)
            os.kill(process.pid, signal.CTRL_BREAK_EVENT if windows else signal.SIGINT)
            assert process.wait(60) == 0 or windows
        finally:
            process.kill()
