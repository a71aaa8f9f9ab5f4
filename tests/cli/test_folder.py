"""``monai-iste upscale`` on a folder: names of the results, what exists is skipped, a bad image ends no other."""

import json
import os

import pytest
from commands import TISSUE, assert_refused, files, run
from PIL import Image

from monai_iste.cli.folder import pair_folder
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


def test_links_are_followed_or_named(folder):
    os.makedirs("elsewhere")
    Image.fromarray(TISSUE[:9, :9]).save("elsewhere/d.png")
    for name, target in (("link", "../elsewhere"), ("loop", "."), ("gone.png", "nothing.png"), ("dead", "nowhere")):
        os.symlink(target, f"in/{name}")
    result = run("upscale", "in", "out", "--scale", 2)
    assert result.exit_code == DataError.exit_code
    assert files("out") == ["a.png", "b.bmp.png", "deep/c.jpg", "link/d.png"]
    *notes, error = [line for line in result.stderr.splitlines() if "in/" in line]
    assert sorted(note.split()[1] for note in notes) == ["in/dead", "in/loop"]
    assert all(note.startswith("note: ") for note in notes)
    assert error.startswith("error: ")
    assert "in/gone.png" in error


LONG = "x" * 250
BLOCKED = {
    "a folder has its name": (lambda: os.makedirs("out/b.bmp.png/deep"), "b.bmp.png"),
    "a file has its folder's name": (lambda: (os.makedirs("out"), open("out/deep", "w").close()), "deep"),
    "its name is too long": (lambda: os.rename("in/b.bmp", f"in/{LONG}.bmp"), LONG),
    "another image has its name": (
        lambda: (os.makedirs("out"), Image.new("RGB", (3, 3)).save("out/a.png")),
        "out/a.png",
    ),
    "a link that leads nowhere has its name": (
        lambda: (os.makedirs("out"), os.symlink("nowhere/x.png", "out/a.png")),
        "out/a.png",
    ),
}


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize(("block", "words"), BLOCKED.values(), ids=BLOCKED)
def test_one_name_that_cannot_be_written_does_not_cost_the_others(folder, block, words, dry_run):
    block()
    result = run("upscale", "in", "out", "--scale", 2, *dry_run)
    assert result.exit_code == OutputError.exit_code
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "Traceback" not in result.stderr
    assert len(result.stdout.splitlines()) == 2


def test_every_input_has_an_output_of_its_own(tmp_path):
    names = ["a.svs", "a.ndpi", "a.svs.ome.tiff", "b.bmp", "b.bmp.png", "c.svs", "c.ome.tiff", "d.PNG", "d.png"]
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).touch()
    pairs = pair_folder(tmp_path / "in", tmp_path / "out", print)
    assert {source.name: target.name for source, target in pairs} == {
        **{name: name for name in ("a.svs.ome.tiff", "b.bmp.png", "c.ome.tiff", "d.PNG", "d.png")},
        **{"a.ndpi": "a.ndpi.ome.tiff", "a.svs": "a.svs-2.ome.tiff", "b.bmp": "b.bmp-2.png", "c.svs": "c.svs.ome.tiff"},
    }
