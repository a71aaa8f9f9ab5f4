"""A slide on several workers: one of them killed, Ctrl-C, a scheduler that is not there."""

import os
import signal

import numpy as np
import pytest
from slide_commands import done, pixels_of, refused, start, upscaled, wait_until
from slide_files import picture, write_slide_file

from monai_iste.errors import ConfigError

pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")
pytestmark = pytest.mark.usefixtures("command_folder")


@pytest.mark.slow
def test_two_workers_one_killed(tmp_path):
    pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    pixels = picture(1000, 1100)
    write_slide_file(tmp_path / "c.tif", pixels)
    process = start("c.tif", "c.ome.tiff", "--scale", 1.3, "--compression", "lossless", "--workers", 2)
    wait_until(lambda: done("c.ome.tiff") >= 12, process)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("spawn_main" in word for word in child.cmdline())
    ]
    assert len(workers) == 2
    workers[0].kill()
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    np.testing.assert_array_equal(pixels_of("c.ome.tiff"), upscaled(1.3, pixels))


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_without_their_messages():
    """A terminal sends it to all processes of a command."""
    pytest.importorskip("distributed")
    process = start("a.tif", "b.ome.tiff", "--scale", 2, "--workers", 2, start_new_session=True)
    wait_until(lambda: done("b.ome.tiff") >= 3, process)  # two are computed before there are workers
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 130
    assert "--resume" in output
    assert "Traceback" not in output


def test_an_unreachable_scheduler_is_refused():
    pytest.importorskip("distributed")
    for address in ("tcp://127.0.0.1:9", ""):
        assert "scheduler" in refused(ConfigError, "a.tif", "b.ome.tiff", "--scale", 2, "--scheduler", address)
