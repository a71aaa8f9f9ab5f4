"""Files of a folder: links to folders and files, loops, what cannot be listed, and what is no file."""

import os

import pytest

from monai_iste.data.datasets import image_datalist
from monai_iste.errors import DataError
from monai_iste.io.folders import list_files
from monai_iste.io.image_reader import image_size


@pytest.fixture
def root(tmp_path):
    for name in ("in/b/1.png", "in/a.png", "in/.hidden/x.png", "in/.x.png", "out/2.png", "out/deep/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "in"


def listed(root):
    notes = []
    names = list_files(root, notes.append)
    return names, notes


def test_files_of_all_folders(root):
    assert listed(root) == (["a.png", "b/1.png"], [])


def test_links_to_folders_are_followed(root):
    (root / "link").symlink_to("../out")
    (root.parent / "out" / "deep" / "again").symlink_to(root.parent / "more")
    (root.parent / "more").mkdir()
    (root.parent / "more" / "4.png").touch()
    (root / "file.png").symlink_to("a.png")
    names = ["a.png", "b/1.png", "file.png", "link/2.png", "link/deep/3.png", "link/deep/again/4.png"]
    assert listed(root) == (names, [])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (".", "listed already"),
        ("b", "listed already"),
        ("..", "a folder that contains"),
        ("/", "a folder that contains"),
    ],
)
def test_loops_and_second_names_are_named(root, target, words):
    (root / "b" / "loop").symlink_to(root / target, target_is_directory=True)
    names, notes = listed(root)
    assert names == ["a.png", "b/1.png"]
    (note,) = notes
    assert str(root / "b" / "loop") in note
    assert words in note


def test_two_links_to_one_folder_and_links_in_a_circle(root):
    for name, target in (("x", "../out"), ("y", "../out")):
        (root / name).symlink_to(target)
    (root.parent / "out" / "deep" / "back").symlink_to(root.parent / "out")
    names, notes = listed(root)
    assert names == ["a.png", "b/1.png", "x/2.png", "x/deep/3.png"]
    assert len(notes) == 2


def test_links_that_lead_nowhere(root):
    (root / "gone.png").symlink_to("nothing.png")
    (root / "self.png").symlink_to("self.png")
    (root / "gone").symlink_to("nothing")
    assert listed(root)[0] == ["a.png", "b/1.png", "gone", "gone.png", "self.png"]
    notes = []
    items = image_datalist(root, log=notes.append)
    assert [item["name"] for item in items] == ["a", "b/1", "gone", "self"]
    assert notes == [f"{root / 'gone'} is left out: it is a link that leads nowhere"]
    for item in items[2:]:
        with pytest.raises(DataError, match=item["image"]):
            image_size(item["image"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_listed(root):
    os.mkfifo(root / "pipe.png")
    assert listed(root)[0] == ["a.png", "b/1.png", "pipe.png"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_named(root):
    (root / "b").chmod(0)
    names, notes = listed(root)
    (root / "b").chmod(0o755)
    assert names == ["a.png"]
    assert str(root / "b") in notes[0]


def test_a_folder_that_cannot_be_listed_is_named(root, monkeypatch):
    scandir = os.scandir

    def refuse(folder):
        if os.path.basename(folder) == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert listed(root) == (["a.png"], [f"{root / 'b'} is left out: it cannot be listed (Permission denied)"])
