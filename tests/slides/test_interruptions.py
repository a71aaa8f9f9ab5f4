"""Jobs that are killed at any instant, damaged anywhere on the disk, or started twice: always the same result."""

import hashlib
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from slide_commands import OPTIONS
from slide_files import picture, write_slide_file
from tiny_preset import add_tiny_preset, save_tiny_weights

pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

JOB = ("upscale", "a.tif", "b.ome.tiff", "--scale", 1.3, "--consistency", "--tissue-only", *OPTIONS)
WINDOWS = 9
FILES = ["a.tif", "b.consistency.png", "b.consistency.tif", "b.ome.tiff", "tiny.safetensors"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    add_tiny_preset(monkeypatch)
    folder = tmp_path / "folder"
    folder.mkdir()
    save_tiny_weights(folder / "tiny.safetensors")
    pixels = picture(420, 560)
    pixels[:, 380:] = 240
    write_slide_file(folder / "a.tif", pixels)
    return folder


def sums(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(os.listdir(folder))}


def finish(server, folder, *options):
    command = server.start(*JOB, *options, folder=folder)
    assert command.wait() == 0, command.output
    return command.output


def lines(folder):
    path = folder / "b.ome.tiff.work" / "ledger.txt"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def stored(folder):
    """Windows of which a chunk is on the disk; the ledger follows, some at once."""
    return sum(1 for path in (folder / "b.ome.tiff.work" / "windows.zarr" / "interior").glob("c/*/*"))


def until(condition, command):
    while command.poll() is None and not condition():
        time.sleep(0.001)


def remove_results(folder):
    for path in folder.iterdir():
        if path.name not in ("a.tif", "tiny.safetensors"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
def test_killed_at_fifty_instants(server, folder):
    """Twenty among the windows, ten while the result is written, and twenty after it has its name."""
    assert f'"windows": {WINDOWS}' in finish(server, folder, "--json")
    expected = sums(folder)
    assert sorted(expected) == FILES
    rng, result, after_windows, after_name = random.Random(0), folder / "b.ome.tiff", 0, 0
    instants = [
        (lambda n=n: stored(folder) >= n, 0.02 * rng.random()) for n in (rng.randrange(WINDOWS) for _ in range(20))
    ]
    instants += [(lambda: lines(folder) >= WINDOWS, 0.3 * rng.random() ** 2) for _ in range(10)]
    instants += [(result.exists, 0.15 * rng.random() ** 2) for _ in range(20)]
    for reached, seconds in instants:
        was_running = False
        while not was_running:
            remove_results(folder)
            command = server.start(*JOB, folder=folder)
            until(reached, command)
            time.sleep(seconds)
            was_running = command.kill()
            seconds /= 2  # it was too late
        assert "Traceback" not in command.output
        after_windows += lines(folder) == WINDOWS or result.exists()
        after_name += result.exists()
        finish(server, folder, "--resume")
        assert sums(folder) == expected
    assert after_windows >= 10
    assert after_name >= 5


@pytest.mark.slow
def test_random_bytes_of_the_work_folder_are_damaged(server, folder):
    """Twenty folders of unfinished work, each damaged once, and each finished by one run."""
    finish(server, folder)
    expected = sums(folder)
    remove_results(folder)
    command = server.start(*JOB, folder=folder)
    until(lambda: lines(folder) == WINDOWS, command)
    assert command.kill()
    ledger = folder / "b.ome.tiff.work" / "ledger.txt"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:6]))  # as if killed after six
    work, kept, rng = folder / "b.ome.tiff.work", folder.parent / "kept", random.Random(1)
    shutil.copytree(work, kept)
    names = sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file() and path.stat().st_size)
    small = [name for name in names if name.parts[0] != "windows.zarr" or name.name == "zarr.json"]
    assert {"plan.json", "ledger.txt", "tissue.npy"} <= {name.name for name in small}
    for trial in range(20):
        remove_results(folder)
        shutil.copytree(kept, work)
        for name in rng.sample(small if trial % 2 else names, rng.randint(1, 3)):
            data = bytearray((work / name).read_bytes())
            for place in rng.sample(range(len(data)), min(len(data), rng.randint(1, 8))):
                data[place] ^= rng.randint(1, 255)
            (work / name).write_bytes(data)
        finish(server, folder, "--resume")
        assert sums(folder) == expected, trial


@pytest.mark.slow
def test_two_processes_on_one_new_output(server, folder):
    """At any distance one works and ends; the other is told that the work is in use, or that the output exists."""
    finish(server, folder)
    expected = sums(folder)
    for distance in (0, 0, 0, 0.001, 0.003, 0.003, 0.01, 0.02, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        remove_results(folder)
        begin = time.time() + 0.05
        both = [server.start(*JOB, folder=folder, at=begin + i * distance) for i in range(2)]
        codes = sorted(command.wait() for command in both)
        texts = [command.output for command in both]
        assert codes == [0, 4], texts
        refused = next(command.output for command in both if command.wait() == 4)
        assert "in use" in refused or "exists" in refused
        assert not any("Traceback" in text for text in texts)
        assert sums(folder) == expected


def test_the_second_process_is_told(server, folder):
    both = [server.start(*JOB, folder=folder, at=time.time() + 0.2) for _ in range(2)]
    assert sorted(command.wait() for command in both) == [0, 4]
    refused = next(command.output for command in both if command.wait() == 4)
    assert "error: Expected" in refused
    assert "Traceback" not in "".join(command.output for command in both)
    assert sorted(os.listdir(folder)) == FILES


def test_a_file_that_appears_meanwhile_is_kept(server, folder):
    command = server.start(*JOB, "--work-dir", folder.parent, folder=folder)
    until(lambda: (folder.parent / "b.ome.tiff.work" / "ledger.txt").exists(), command)
    (folder / "b.ome.tiff").write_text("mine")
    assert command.wait() == 4, command.output
    assert "exists" in command.output
    assert Path(folder / "b.ome.tiff").read_text() == "mine"
    assert sorted(os.listdir(folder)) == ["a.tif", "b.ome.tiff", "tiny.safetensors"]
