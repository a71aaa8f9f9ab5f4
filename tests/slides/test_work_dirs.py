"""Jobs whose unfinished work is elsewhere: one at a time on one output, killed at any instant, without locks."""

import errno
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from slide_commands import OPTIONS, run, succeeded
from slide_files import picture, write_slide_file
from tiny_preset import add_tiny_preset, save_tiny_weights

from monai_iste.errors import ConfigError, OutputError
from monai_iste.io import files
from monai_iste.slides.writers.writer import SlideMetadata, check_slide_output

zarr = pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")
pytest.importorskip("fcntl")

JOB = ("upscale", "in/a.tif", "b.ome.tiff", "--scale", 1.3, *OPTIONS)
INPUTS = ["in", "tiny.safetensors"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    add_tiny_preset(monkeypatch)
    folder = tmp_path / "folder"
    (folder / "in").mkdir(parents=True)
    save_tiny_weights(folder / "tiny.safetensors")
    write_slide_file(folder / "in" / "a.tif", picture(420, 560))
    monkeypatch.chdir(folder)
    return folder


def until(condition, command):
    while command.poll() is None and not condition():
        time.sleep(0.001)


@pytest.mark.parametrize("first", [["--work-dir", "../one"], []])
@pytest.mark.parametrize("second", [["--work-dir", "../two"], []])
def test_a_second_job_of_one_output_is_told_wherever_its_work_is(server, folder, first, second):
    if not (first or second):
        first = ["--work-dir", "./"]
    work = folder.parent / "one" if first == ["--work-dir", "../one"] else folder
    running = server.start(*JOB, *first, folder=folder)
    until(lambda: (work / "b.ome.tiff.work" / "ledger.txt").exists(), running)
    told = server.start(*JOB, *second, folder=folder)
    assert told.wait() == OutputError.exit_code, told.output
    assert "in use" in told.output
    assert "Traceback" not in told.output
    assert running.wait() == 0, running.output
    assert sorted(os.listdir(folder)) == ["b.ome.tiff", *INPUTS]


def test_unfinished_work_beside_the_output_is_kept_by_a_job_whose_work_is_elsewhere(server, folder):
    command = server.start(*JOB, folder=folder)
    until(lambda: (folder / "b.ome.tiff.work" / "ledger.txt").exists(), command)
    assert command.kill()
    before = sorted(os.listdir("b.ome.tiff.work"))
    assert server.start(*JOB, "--work-dir", "../one", folder=folder).wait() == 0
    assert sorted(os.listdir("b.ome.tiff.work")) == before
    assert not os.listdir("../one")


def test_a_refused_input_leaves_no_reservation(server, folder):
    data = bytearray((folder / "in" / "a.tif").read_bytes())
    with tifffile.TiffFile("in/a.tif") as tiff:
        offset = tiff.pages.first.dataoffsets[-1]
    data[offset : offset + 40] = bytes(40)
    (folder / "in" / "a.tif").write_bytes(data)
    command = server.start(*JOB, "--work-dir", "../one", folder=folder)
    assert command.wait() != 0
    assert "Traceback" not in command.output
    assert sorted(os.listdir(folder)) == INPUTS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["b.ome.tiff", "b.ome.zarr", "b.dcm"])
def test_killed_at_random_instants_with_work_elsewhere_and_an_old_result(server, folder, name):
    if name.endswith("dcm"):
        pytest.importorskip("wsidicomizer")
        try:
            check_slide_output(Path(name), (546, 728), SlideMetadata((0.5, 0.5), None, {}))
        except ConfigError as error:  # libturbojpeg is missing
            pytest.skip(str(error))
    job = ("upscale", "in/a.tif", name, "--scale", 1.3, "--work-dir", "../one", "--consistency", *OPTIONS)
    assert server.start(*job, folder=folder).wait() == 0
    maps = ["b.consistency.png", "b.consistency.tif"]
    expected, rng, killed = pixels(name), random.Random(2), 0
    begin = time.time()
    assert server.start(*job, "--overwrite", folder=folder).wait() == 0
    duration = time.time() - begin
    for _ in range(16):
        command = server.start(*job, "--overwrite", folder=folder)
        time.sleep(duration * rng.random())
        was_running = command.kill()
        killed += was_running
        duration *= 1 if was_running else 0.7  # it was too late: other programs may have ended meanwhile
        assert "Traceback" not in command.output
        assert (pixels(name) == expected).all()  # the old result or the new one, which are equal
        resumed = server.start(*job, "--overwrite", "--resume", folder=folder)
        assert resumed.wait() == 0, resumed.output
        assert (pixels(name) == expected).all()
        assert sorted(os.listdir(folder)) == [*maps, name, *INPUTS]
        assert not os.listdir("../one")
    assert killed >= 8


def pixels(name):
    if name.endswith("dcm"):
        with OpenSlide(min(Path(name).iterdir())) as slide:
            return np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    return zarr.open_group(name, mode="r")["0"][:] if name.endswith("zarr") else tifffile.imread(name)


@pytest.mark.parametrize("where", ["b.ome.tiff.work", "../one/b.ome.tiff.work"])
def test_the_folder_that_cannot_be_locked_is_the_one_that_is_named(folder, monkeypatch, where):
    flock = files.fcntl.flock

    def without_locks_there(descriptor, operation):
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == os.path.realpath(f"{where}/lock"):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return flock(descriptor, operation)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs names of open files")
    monkeypatch.setattr(files.fcntl, "flock", without_locks_there)
    result = succeeded("in/a.tif", "b.ome.tiff", "--scale", 1.1, "--work-dir", "../one")
    named = [line for line in result.stderr.splitlines() if "cannot be locked here" in line]
    assert len(named) == 1
    assert os.path.realpath(named[0].split(": ")[1].split(" cannot")[0]) == os.path.realpath(where)
    assert sorted(os.listdir()) == ["b.ome.tiff", *INPUTS]
    assert not os.listdir("../one")


def test_a_disk_without_locks_is_named(folder, monkeypatch):
    def without_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", without_locks)
    result = succeeded("in/a.tif", "b.ome.tiff", "--scale", 1.1)
    assert "cannot be locked here" in result.stderr
    assert sorted(os.listdir()) == ["b.ome.tiff", *INPUTS]
    (folder / ".b.ome.tiff.7.part").touch()  # perhaps another process writes it
    shutil.copy("b.ome.tiff", "before")
    assert run("in/a.tif", "b.ome.tiff", "--scale", 1.1, "--overwrite").exit_code == 0
    assert (folder / ".b.ome.tiff.7.part").exists()
    with files.lock_file(folder) as is_locked:
        assert is_locked is None
