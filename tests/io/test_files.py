"""Locks of files: they end with their process, and parts that killed processes left are removed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from monai_iste.io.files import lock_file, remove_abandoned
from monai_iste.io.image_writer import save_image

pytest.importorskip("fcntl")

HOLDER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from monai_iste.io.files import lock_file
with ExitStack() as stack:
    assert all([stack.enter_context(lock_file(Path(name))) for name in sys.argv[1:]])
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(*paths):
    other = subprocess.Popen([sys.executable, "-c", HOLDER, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    return other


def test_what_a_living_process_holds_is_kept_and_what_a_dead_one_left_is_removed(tmp_path):
    file, folder, other = tmp_path / ".a[1].png.7.part", tmp_path / ".a[1].png.8.part", tmp_path / ".b.png.7.part"
    folder.mkdir()
    for path in (file, folder / "chunk", other, tmp_path / "a[1].png"):
        path.touch()
    with holding(file, folder) as process:
        with lock_file(file) as locked:
            assert not locked
        remove_abandoned(tmp_path / "a[1].png")
        assert file.exists()
        assert (folder / "chunk").exists()
        process.kill()
    remove_abandoned(tmp_path / "a[1].png")
    assert sorted(os.listdir(tmp_path)) == [".b.png.7.part", "a[1].png"]


def test_a_file_is_held_until_it_has_its_name(tmp_path):
    path = tmp_path / "a.png"

    def bands():
        remove_abandoned(path)  # as another process would that writes the same file
        assert [left.name for left in tmp_path.iterdir()] == [f".a.png.{os.getpid()}.part"]
        yield np.zeros((2, 2, 3), np.uint8)

    save_image(path, bands(), (2, 2))
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_file_or_folder_that_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(OSError, match="absent"), lock_file(tmp_path / "absent"):
        pass
