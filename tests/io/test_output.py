"""Outputs at every instant: the old one or the new one, and never one of somebody else."""

import os
import threading

import numpy as np
import pytest
from reference import assert_teaches

from monai_iste.errors import OutputError
from monai_iste.io import files
from monai_iste.io.files import check_writable, open_output, open_output_folder, part_path, remove_abandoned
from monai_iste.io.image_writer import check_output, save_image

pytest.importorskip("fcntl")


def write_folder(path, text, overwrite=True):
    with open_output_folder(path, overwrite) as folder:
        (folder / "content").write_text(text)


def test_a_folder_is_the_old_or_the_new_one_at_every_instant(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_folder(path, "0")
    if not files._exchange(*(tmp_path / name for name in ("a.ome.zarr", "a.ome.zarr"))):
        pytest.skip("this disk cannot exchange names")
    seen, errors, running = set(), [], True

    def watch():
        while running:
            try:
                seen.add((path / "content").read_text())
            except OSError as error:
                errors.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    for number in range(1, 60):
        write_folder(path, str(number))
    running = False
    thread.join()
    # Between the look-up of the folder and that of the file in it, the folder may have been exchanged and removed.
    assert not [error for error in errors if not path.exists()]
    assert len(seen) > 2
    assert (path / "content").read_text() == "59"
    assert os.listdir(tmp_path) == ["a.ome.zarr"]


def test_the_name_of_a_replaced_folder_is_never_free(tmp_path, monkeypatch):
    path = tmp_path / "a.ome.zarr"
    write_folder(path, "old")
    exchange, seen = files._exchange, []

    def watched(first, second):
        seen.append((path / "content").read_text())
        done = exchange(first, second)
        seen.append((path / "content").read_text())
        return done

    monkeypatch.setattr(files, "_exchange", watched)
    monkeypatch.setattr(files.os, "rename", None)  # nothing else gives it another name
    write_folder(path, "new")
    assert seen == ["old", "new"]


def test_a_disk_that_cannot_exchange_names(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    path = tmp_path / "a.ome.zarr"
    for text in ("old", "new"):
        write_folder(path, text)
        assert (path / "content").read_text() == text
    assert os.listdir(tmp_path) == ["a.ome.zarr"]
    rename, calls = os.rename, []

    def killed(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        write_folder(path, "newer")
    assert (path / "content").read_text() == "new"
    assert os.listdir(tmp_path) == ["a.ome.zarr"]


def test_an_old_folder_that_was_put_aside_comes_back(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_folder(path, "old")
    aside = part_path(path).with_suffix(".old")
    os.rename(path, aside)  # as if the process had been killed here
    remove_abandoned(path)
    assert (path / "content").read_text() == "old"
    aside.mkdir()
    remove_abandoned(path)
    assert os.listdir(tmp_path) == ["a.ome.zarr"]


def test_a_link_to_a_folder_is_replaced_and_its_folder_stays(tmp_path):
    real, path = tmp_path / "real", tmp_path / "a.ome.zarr"
    write_folder(real, "real")
    path.symlink_to(real)
    write_folder(path, "new")
    assert not path.is_symlink()
    assert (path / "content").read_text() == "new"
    assert (real / "content").read_text() == "real"
    assert sorted(os.listdir(tmp_path)) == ["a.ome.zarr", "real"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, has_links):
    if not has_links:

        def link(source, target):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(files.os, "link", link)
    path = tmp_path / "a.bin"
    file = open_output(path)
    file.__enter__().write(b"ours")
    path.write_bytes(b"theirs")
    with pytest.raises(OutputError, match="exists"):
        file.__exit__(None, None, None)
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.bin"]
    with open_output(path, overwrite=True) as file:
        file.write(b"ours")
    with open_output(tmp_path / "b.bin") as file:
        file.write(b"ours")
    assert [(tmp_path / name).read_bytes() for name in ("a.bin", "b.bin")] == [b"ours", b"ours"]
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "b.bin"]


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    events, fsync, link = [], os.fsync, os.link
    inode = os.stat(tmp_path).st_ino

    def note_sync(descriptor):
        events.append("folder" if os.fstat(descriptor).st_ino == inode else "content")
        fsync(descriptor)

    def note_name(source, target):
        events.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(files.os, "link", note_name)
    with open_output(tmp_path / "a.bin") as file:
        file.write(b"1")
    assert events == ["content", "name", "folder"]


@pytest.mark.parametrize("length", [100, 240, 255])
def test_the_longest_names_can_be_written(tmp_path, length):
    name = "a" * (length - 4) + ".png"
    check_output(tmp_path / name, (2, 2))
    save_image(tmp_path / name, [np.zeros((2, 2, 3), np.uint8)], (2, 2))
    assert os.listdir(tmp_path) == [name]


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    with pytest.raises(OutputError) as caught:
        check_output(tmp_path / ("a" * 256 + ".png"), (2, 2))
    assert_teaches(caught.value, "too long")
    if os.path.isdir("/proc/self"):
        for is_folder in (False, True):
            with pytest.raises(OutputError) as caught:
                check_writable(files.Path("/proc/self/a.png"), is_folder)
            assert_teaches(caught.value, "/proc/self/a.png")
    check_writable(tmp_path / "a.png")
    check_writable(tmp_path / "a.zarr", is_folder=True)
    assert os.listdir(tmp_path) == []
