"""``monai-iste view``: what it refuses, and that it serves until Ctrl-C."""

import io
import re
import signal
import socket
import subprocess
import sys

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from viewer_requests import PIXELS, fetch

from monai_iste.cli import view as command
from monai_iste.cli.options import sentences
from monai_iste.errors import ConfigError, DataError, OutputError

pytest.importorskip("fastapi.testclient", reason="needs the extra viewer, and httpx")


@pytest.fixture
def slides(tmp_path):
    """A folder with one image."""
    (tmp_path / "slides").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "slides" / "Tissue A.png")
    return tmp_path / "slides"


def run(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(sentences()(command.view))
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "kind", "word"),
    [
        (["missing.svs"], DataError, "missing.svs"),
        (["{slides}", "--preset", "huge"], ConfigError, "huge"),
        (["{slides}", "--preset", "tiny"], ConfigError, "tiny"),
        (["{slides}", "--preset", "tiny", "--weights", "none.pt"], ConfigError, "none.pt"),
        (["{slides}", "--precision", "fp8"], ConfigError, "fp8"),
        (["{slides}", "--host", "203.0.113.7"], OutputError, "203.0.113.7"),
        (["{slides}", "--host", ""], OutputError, "127.0.0.1"),
        (["{slides}", "--host", "\u00e9" * 70], OutputError, "\u00e9"),
        (["{slides}", "--device", "warp"], ConfigError, "'warp'"),
    ],
)
def test_what_the_command_refuses(slides, arguments, kind, word):
    result = run(*(argument.replace("{slides}", str(slides)) for argument in arguments))
    assert result.exit_code == kind.exit_code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Expected ")
    assert word in last


def test_a_port_that_is_taken(slides):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run(slides, "--port", other.getsockname()[1])
    assert result.exit_code == OutputError.exit_code
    assert "--port 0" in result.stderr


def test_without_the_extra_the_error_names_the_command(slides, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run(slides)
    assert result.exit_code == ConfigError.exit_code
    assert "pip install -e" in result.stderr
    assert '[viewer]"' in result.stderr


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(slides):
    code = (
        "import typer; from monai_iste.cli.options import sentences; from monai_iste.cli.view import view; "
        "app = typer.Typer(); app.command()(sentences()(view)); app()"
    )
    arguments = [str(slides), "--port", "0", "--no-browser"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        port = int(re.search(r"1 image at http://127\.0\.0\.1:(\d+)/", said)[1])
        status, body = fetch(port, "/iiif/tissue-a/full/max/0/default.png")
        assert status == 200
        assert Image.open(io.BytesIO(body)).size == (75, 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
