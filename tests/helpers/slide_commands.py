"""The command on slides, in the tests' process or as a program of its own, and its results."""

import os
import subprocess
import sys
import time

import tifffile
from PIL import ImageCms
from slide_files import picture
from typer.testing import CliRunner

from monai_iste.cli import main as cli
from monai_iste.functional import upscale
from monai_iste.networks import create_iste, load_weights

PIXELS = picture(230, 420)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
#: The command with one more preset, as a program of its own.
PROGRAM = """
from monai_iste.networks import PRESETS, EDSREncoder, presets
arguments = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}
PRESETS["tiny"] = presets.Preset("for tests", lambda: EDSREncoder(8, 1), arguments)
from monai_iste.cli.main import main
if __name__ == "__main__":
    main()
"""
OPTIONS = ("--preset", "tiny", "--weights", "tiny.safetensors", "--device", "cpu", "--threads", "1")


def run(*arguments):
    return CliRunner().invoke(cli.app, ["upscale", *(str(argument) for argument in arguments), *OPTIONS])


def succeeded(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(error, *arguments):
    """The message of a refusal; no files are left."""
    before = sorted(os.listdir())
    result = run(*arguments)
    assert result.exit_code == error.exit_code, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.output
    assert "Traceback" not in result.output
    assert sorted(os.listdir()) == before
    return lines[0]


def upscaled(scale, pixels=PIXELS):
    return upscale(pixels, scale, model=load_weights(create_iste("tiny"), "tiny.safetensors"))


def pixels_of(path, level=0):
    with tifffile.TiffFile(path) as tiff:
        return tiff.series[0].levels[level].asarray()


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "program.py", "upscale", *(str(argument) for argument in arguments), *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def done(target):
    path = f"{target}.work/ledger.txt"
    return len(open(path).read().splitlines()) if os.path.exists(path) else 0


def wait_until(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0] if process.poll() is not None else "nothing happened")
