"""What the system does not grant, closed streams, and SIGTERM of the viewer."""

import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from http.client import HTTPException

import pytest
import typer
from commands import COMMAND
from PIL import Image
from typer.testing import CliRunner
from viewer_requests import PIXELS, fetch

from monai_iste.cli.options import sentences
from monai_iste.errors import lacking_resource


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (MemoryError(), "ulimit -v"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "ulimit -v"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "ulimit -v"),
    ],
)
def test_what_is_used_up_is_one_sentence(error, word):
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @sentences()
    def fail():
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("a transform failed") from cause

    result = CliRunner().invoke(app)
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: Expected ")
    assert word in line


def test_a_defect_keeps_its_traceback():
    assert lacking_resource(RuntimeError("shapes differ")) is None
    assert lacking_resource(ImportError("No module named 'x'")) is None


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    Image.fromarray(PIXELS[:24, :24]).save(tmp_path / "a.png")
    words = " ".join(["exec", '"$0" "$@"', closed])
    result = subprocess.run(
        ["bash", "-c", words, *COMMAND, "upscale", "a.png", "b.png", "--scale", "2", "--threads", "1"], cwd=tmp_path
    )
    assert result.returncode == 0
    with Image.open(tmp_path / "b.png") as found:
        found.load()
        assert found.size == (48, 48)


@pytest.mark.slow
def test_sigterm_ends_the_viewer_at_once(tmp_path):
    Image.fromarray(PIXELS).resize((1500, 1500)).save(tmp_path / "a.png")
    words = [*COMMAND, "view", "a.png", "--port", "0", "--no-browser", "--threads", "1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        port = int(re.search(r"127\.0\.0\.1:(\d+)/", process.stdout.readline())[1])
        address = "/iiif/a-sr/0,0,6000,6000/3000,3000/0/default.png"
        threading.Thread(target=_ask, args=(port, address), daemon=True).start()
        while b'"running": 0' in fetch(port, "/api/status")[1]:
            time.sleep(0.05)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert time.monotonic() - started < 2
        assert process.stdout.read() == ""
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()


def _ask(port, address):
    with suppress(OSError, HTTPException):  # the connection ends with the server
        fetch(port, address)
