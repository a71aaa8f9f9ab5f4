"""Stamps, and writing to the disk."""

import os

import pytest

from monai_iste.io import disk
from monai_iste.io.disk import Stamp, sync, sync_folders, sync_tree


def test_a_stamp_tells_another_content_of_the_same_size_and_date(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    before, found = os.stat(file), Stamp.of(file)
    assert Stamp.of(file) == found
    other = tmp_path / "b"
    other.write_bytes(b"2")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)
    assert Stamp.of(file) != found
    assert (Stamp.of(file).size, Stamp.of(file).modified) == (found.size, found.modified)


def test_everything_in_a_folder_is_written_to_the_disk(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("1", "a/2", "a/b/3"):
        (tmp_path / name).write_text(name)
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(disk.os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino) or fsync(fd))
    sync_tree(tmp_path)
    names = ("1", "a/2", "a/b/3", "a/b", "a", "")
    assert sorted(synced) == sorted((tmp_path / name).stat().st_ino for name in names)
    assert synced[-1] == tmp_path.stat().st_ino  # names come after what they name


def test_a_missing_file_is_an_error_and_a_folder_that_cannot_be_synced_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        sync([tmp_path / "absent"])
    sync([])
    sync_folders([tmp_path / "absent"])
