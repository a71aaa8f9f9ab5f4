"""The command in the tests' process, and assertions about what it leaves."""

import os
import sys

from PIL import ImageCms
from skimage.data import immunohistochemistry
from typer.testing import CliRunner

from monai_iste.cli import main as cli

#: The command in a process of its own.
COMMAND = [sys.executable, "-c", "from monai_iste.cli.main import main; main()"]
TISSUE = immunohistochemistry()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def run(*arguments, preset="tiny", weights=None):
    if arguments[0] != "presets" and preset:
        arguments = (*arguments, "--preset", preset)
        arguments += ("--weights", str(weights or "../weights/tiny.safetensors"), "--device", "cpu")
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def files(folder="."):
    return sorted(
        os.path.relpath(os.path.join(root, name), folder) for root, _, names in os.walk(folder) for name in names
    )


def assert_refused(result, kind, *words, left=("a.png",)):
    """One sentence on standard error, the exit code of its kind, nothing on standard output, no other file."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == (kind if isinstance(kind, int) else kind.exit_code), result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert files() == sorted(left)
