"""``monai-iste upscale`` on a folder: names of the results, what exists is skipped, a bad image ends no other."""

import json
import os

import pytest
from commands import TISSUE, assert_refused, files, run
from PIL import Image

from monai_iste.errors import DataError, OutputError


@pytest.fixture
def folder():
    os.makedirs("in/deep")
    for i, name in enumerate(["a.png", "b.bmp", "deep/c.jpg"]):
        Image.fromarray(TISSUE[i : 8 + i, : 6 + i]).save(f"in/{name}")
    os.remove("a.png")


def test_a_folder(folder):
    result = run("upscale", "in", "out", "--scale", 2)
    assert result.exit_code == 0, result.output
    assert files("out") == ["a.png", "b.bmp.png", "deep/c.jpg"]
    assert Image.open("out/b.bmp.png").size == (14, 16)
    assert len(result.stdout.splitlines()) == 3


def test_a_folder_resumes(folder):
    run("upscale", "in", "out", "--scale", 2)
    os.remove("out/b.bmp.png")
    before = os.stat("out/a.png").st_mtime_ns
    result = run("upscale", "in", "out", "--scale", 2, "--json")
    assert "2 of 3 are there already and are skipped" in result.stderr
    assert json.loads(result.stdout)["skipped"] == 2
    assert [image["output"] for image in json.loads(result.stdout)["images"]] == ["out/b.bmp.png"]
    assert os.stat("out/a.png").st_mtime_ns == before
    result = run("upscale", "in", "out", "--scale", 3)
    assert result.exit_code == OutputError.exit_code
    assert "24 x 18 pixels" in result.stderr
    assert "--overwrite" in result.stderr
    assert run("upscale", "in", "out", "--scale", 3, "--overwrite").exit_code == 0
    assert Image.open("out/a.png").size == (18, 24)


def test_one_bad_image_does_not_cost_the_others(folder):
    with open("in/b.bmp", "w") as file:
        file.write("no image")
    os.truncate("in/deep/c.jpg", os.path.getsize("in/deep/c.jpg") // 2)
    result = run("upscale", "in", "out", "--scale", 2, "--json")
    assert result.exit_code == DataError.exit_code
    assert result.stderr.count("error: ") == 2
    assert json.loads(result.stdout)["failed"] == 2
    assert files("out") == ["a.png"]


@pytest.mark.parametrize("target", ["in", "in/deep", "in/new", "./in/../in"])
def test_results_among_the_inputs_are_refused(folder, target):
    before = files()
    assert_refused(run("upscale", "in", target, "--scale", 2), OutputError, "outside in", left=before)


def test_a_folder_that_cannot_be_made(folder):
    result = run("upscale", "in", "/proc/out", "--scale", 2)
    assert result.exit_code == OutputError.exit_code
    assert result.stderr.splitlines()[-1].startswith("error: Expected to be able to make the folder /proc/out")


def test_a_folder_needs_a_folder(folder):
    open("file", "w").close()
    assert_refused(run("upscale", "in", "file", "--scale", 2), OutputError, "the file file", left=files())
    os.makedirs("none")
    assert_refused(run("upscale", "none", "out", "--scale", 2), DataError, "none", left=files())
