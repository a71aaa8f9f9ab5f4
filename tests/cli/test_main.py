"""The program: usage errors, the list of presets, its output and signals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from commands import COMMAND, TISSUE, files, run
from PIL import Image
from typer.testing import CliRunner

from monai_iste import networks
from monai_iste.cli import main as cli
from monai_iste.errors import OutputError
from monai_iste.networks import PRESETS


def test_usage_errors():
    many = ["upscale", "a.png", "b.png", "--scale", "2", "--threads", "100000"]  # the system would end the process
    for arguments in (["upscale"], ["upscale", "a.png", "b.png", "--scale", "much"], ["enlarge"], many):
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 2
        assert "Usage:" in result.stderr


def test_presets_are_listed(monkeypatch, weights):
    monkeypatch.setattr(networks, "released_weights", lambda name: weights if name == "tiny" else None)
    lines = run("presets").stdout.splitlines()
    assert [line.split()[0] for line in lines[::3]] == list(PRESETS)
    assert "12.67 M  no weights" in lines[0]
    assert "weights, 0.0 MB" in lines[3 * list(PRESETS).index("tiny")]
    assert all("terms:" in line for line in lines[2::3])


# --- as a program of its own ------------------------------------------------------------------------------------------


def test_as_a_program():
    untrained = ["--preset", "iste_small", "--allow-untrained", "--device", "cpu"]
    arguments = ["upscale", "a.png", "b.png", "--scale", "1.5", "--json", *untrained]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"][0]["output_size"] == [30, 45]
    assert files() == ["a.png", "b.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_an_undecodable_name_does_not_stop_a_folder():
    os.mkdir("in")
    for name in (b"in/M\xfcller.png", b"in/z.png"):
        shutil.copy("a.png", os.fsdecode(name))
    arguments = ["upscale", "in", "out", "--scale", "1.5"]
    for words in ("wrote out/M\\udcfcller.png", "2 of 2 are there already"):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout + done.stderr
    assert sorted(os.listdir(b"out")) == [b"M\xfcller.png", b"z.png"]
    random = ["--preset", "iste_small", "--allow-untrained"]  # another network: its results are not these
    done = subprocess.run([*COMMAND, *arguments, *random], capture_output=True, text=True)
    assert done.returncode == OutputError.exit_code
    assert "error: Expected out/M\\udcfcller.png to be absent" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_report_that_cannot_be_written():
    arguments = ["upscale", "a.png", "b.png", "--scale", "1.5", "--preset", "iste_small", "--allow-untrained"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == OutputError.exit_code
    assert done.stderr.splitlines()[-1] == "error: No space left on device: standard output"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, *arguments, "--overwrite"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 1
    assert "rror" not in done.stderr
    assert files() == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_leaves_nothing_half_written(number, code, word):
    Image.fromarray(TISSUE).save("large.png")
    untrained = ["--preset", "iste_light", "--allow-untrained", "--device", "cpu"]
    arguments = ["upscale", "large.png", "b.tif", "--scale", "8", *untrained]
    running = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not any(name.endswith(".part") for name in files()):
        time.sleep(0.05)
    running.send_signal(number)
    message = running.communicate(timeout=60)[1]
    assert running.returncode == code, message
    assert message.splitlines()[-1].startswith(f"{word}: ")
    assert "Traceback" not in message
    assert files() == ["a.png", "large.png"]
