"""Folder of a prepared set: split, manifest, resumed preparations, and files that are never overwritten."""

import hashlib
import json
from types import SimpleNamespace

import pytest
from preparation_files import TWELVE, files, write_cores
from reference import assert_teaches

from experiments.preparation import output_folder, prepare_tma
from monai_iste.errors import OutputError
from monai_iste.io.files import checksum


@pytest.fixture
def cores(tmp_path):
    return write_cores(tmp_path / "source")


def test_the_split_depends_on_seed_and_names_alone():
    """Sorted here again by the hash of seed and name, and cut."""
    names = list("abcde")
    parts = {"train": 2, "val": 1, "test": 2}
    order = sorted(names, key=lambda name: hashlib.sha256(f"7:{name}".encode()).hexdigest())
    expected = dict.fromkeys(order[:2], "train") | dict.fromkeys(order[2:3], "val") | dict.fromkeys(order[3:], "test")
    assert dict(zip(names, output_folder.assign_folders(names, parts, 7), strict=True)) == expected
    backwards = dict(zip(names[::-1], output_folder.assign_folders(names[::-1], parts, 7), strict=True))
    assert backwards == expected
    assert len({tuple(output_folder.assign_folders(names, parts, seed)) for seed in range(6)}) > 1


def test_the_manifest_describes_the_files_and_names_no_source(cores, tmp_path):
    report = prepare_tma(cores, tmp_path / "root", seed=3, **TWELVE)
    text = (tmp_path / "root" / "dataset.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(report))
    assert (report["name"], report["seed"], report["mpp"]) == ("tma", 3, 0.504)
    assert report["files"] == {name: checksum(tmp_path / "root" / name) for name in files(tmp_path / "root")}
    assert report["fingerprints"]["val"]["count"] == 2
    assert report["versions"]["pillow"]
    assert "smith" not in text
    assert str(tmp_path) not in text
    assert not [path for path in (tmp_path / "root").rglob("*") if path.name.startswith(".")]


class Stopped(BaseException):
    """An interruption, as by Ctrl-C or a kill."""


def interrupted(monkeypatch, after, source, root):
    """Let ``after`` images be written, then stop in the middle of the next one."""
    save, count = output_folder.save_image, iter(range(100))

    def stop(path, bands, size, **options):
        def broken():
            yield bands[0][: size[0] // 2]
            raise Stopped

        save(path, broken() if next(count) == after else bands, size, **options)

    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "save_image", stop)
        with pytest.raises(Stopped):
            prepare_tma(source, root, **TWELVE)


@pytest.mark.parametrize("after", [0, 5, 11])
def test_an_interrupted_preparation_resumes_and_loses_nothing(after, cores, tmp_path, monkeypatch):
    whole = prepare_tma(cores, tmp_path / "whole", **TWELVE)
    interrupted(monkeypatch, after, cores, tmp_path / "root")
    assert len(files(tmp_path / "root")) == after
    assert not (tmp_path / "root" / "dataset.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "root").rglob("*.png")}
    report = prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert files(tmp_path / "root") == files(tmp_path / "whole")
    assert report["files"] == whole["files"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # those are not made again


def test_a_file_that_a_crash_left_short_is_made_again(cores, tmp_path, monkeypatch):
    interrupted(monkeypatch, 6, cores, tmp_path / "root")
    first, second, *_ = sorted((tmp_path / "root").rglob("*.png"))
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(b"")
    (tmp_path / "root" / "train" / ".tma-0001.png.123.part").write_bytes(b"of a killed process")
    prepare_tma(cores, tmp_path / "whole", **TWELVE)
    prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert files(tmp_path / "root") == files(tmp_path / "whole")
    assert not [path for path in (tmp_path / "root").rglob("*") if path.name.startswith(".")]


def test_a_finished_set_is_left_as_it_is_and_repaired_if_a_file_is_gone(cores, tmp_path, monkeypatch):
    first = prepare_tma(cores, tmp_path / "root", **TWELVE)
    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "save_image", lambda *_, **__: pytest.fail("it wrote again"))
        assert prepare_tma(cores, tmp_path / "root", **TWELVE)["date"] == first["date"]
    gone = next((tmp_path / "root" / "val").iterdir())
    gone.unlink()
    assert prepare_tma(cores, tmp_path / "root", **TWELVE)["files"] == first["files"]
    assert gone.exists()


@pytest.mark.parametrize(
    ("occupy", "received"),
    [
        (lambda root: root.write_text("a file"), "the file"),
        (lambda root: (root / "train").mkdir(parents=True) or (root / "train" / "mine.png").touch(), "something else"),
        (lambda root: root.mkdir() or (root / "dataset.json").write_text("[]"), "something else"),
    ],
)
def test_existing_files_are_never_overwritten(occupy, received, cores, tmp_path):
    root = tmp_path / "root"
    occupy(root)
    before = sorted((path, path.read_bytes()) for path in [root, *root.rglob("*")] if path.is_file())
    with pytest.raises(OutputError) as caught:
        prepare_tma(cores, root, **TWELVE)
    assert_teaches(caught.value, str(root), received, "Name another")
    assert before == sorted((path, path.read_bytes()) for path in [root, *root.rglob("*")] if path.is_file())


def test_another_preparation_is_refused_finished_or_not(cores, tmp_path, monkeypatch):
    interrupted(monkeypatch, 4, cores, tmp_path / "root")
    with pytest.raises(OutputError, match=r"started in .* other sources or options"):
        prepare_tma(cores, tmp_path / "root", seed=1, **TWELVE)
    (tmp_path / "root" / "train" / "mine.png").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"only files of the data set .* got mine\.png"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    (tmp_path / "root" / "train" / "mine.png").unlink()
    prepare_tma(cores, tmp_path / "root", **TWELVE)
    with pytest.raises(OutputError, match=r"the same data set .* a data set of other sources or options"):
        prepare_tma(cores, tmp_path / "root", seed=1, **TWELVE)
    next(cores.rglob("*.jpg")).write_bytes(b"another")
    with pytest.raises(OutputError, match="other sources or options"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(cores, tmp_path, monkeypatch):
    monkeypatch.setattr(output_folder.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(OutputError, match=r"up to 0\.00142 GB of free space .* got 0\.001 GB"):
        prepare_tma(cores, tmp_path / "root", **TWELVE)
    assert not files(tmp_path / "root")
