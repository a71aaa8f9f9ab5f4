"""Identity of a slide: every change of any of its files is noticed, and a copy is the same slide."""

import hashlib
import os
import shutil

import openslide
import pytest
from reference import assert_teaches
from slide_files import picture, write_slide_file

from monai_iste.errors import DataError
from monai_iste.slides import source as sources
from monai_iste.slides.source import Source


@pytest.fixture
def path(tmp_path):
    """A slide with more than a MiB at each end, so that nothing but its middle may be changed."""
    file = tmp_path / "a.tif"
    file.write_bytes(os.urandom(3 * 2**20))
    return file


@pytest.fixture(params=[True, False], ids=["young", "old"])
def age(request, monkeypatch):
    """Files that are younger than a step of the clock, and files that are not."""
    monkeypatch.setattr(sources, "_is_recent", lambda stamps: request.param)
    sources._hash_once.cache_clear()


def rewrite(path, data, keep_date=True):
    stat = os.stat(path)
    path.write_bytes(data)
    if keep_date:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(path, data):
    stat = os.stat(path)
    other = path.with_name("other")
    other.write_bytes(data)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.usefixtures("age")
@pytest.mark.parametrize("change", [rewrite, replace])
def test_another_content_of_the_same_size_and_date_is_noticed(path, change):
    source, data = Source(path), bytearray(path.read_bytes())
    assert source.digest == hashlib.sha256(data).hexdigest()
    assert source.check()
    version = source.version
    data[len(data) // 2] ^= 1
    change(path, data)
    assert source.is_changed()
    for attempt in (source.check, source.confirm):
        with pytest.raises(DataError) as caught:
            attempt()
        assert_teaches(caught.value, str(path), "--resume", "--overwrite")
    assert Source(path).version != version
    assert Source(path).digest == hashlib.sha256(data).hexdigest()


@pytest.mark.usefixtures("age")
@pytest.mark.parametrize("change", [rewrite, replace, lambda path, data: rewrite(path, data, keep_date=False)])
def test_the_same_content_written_again_is_told(path, change):
    source, data = Source(path), path.read_bytes()
    digest = source.digest
    change(path, data)
    assert not source.check()
    assert source.check()
    source.confirm()
    assert source.digest == digest == Source(path).digest


@pytest.mark.usefixtures("age")
def test_a_change_before_the_content_was_hashed_is_noticed(path):
    source = Source(path)
    rewrite(path, bytes(3 * 2**20))
    for attempt in (lambda: source.digest, source.check, source.confirm):
        with pytest.raises(DataError, match="stay as it was"):
            attempt()


@pytest.mark.usefixtures("age")
def test_a_removed_or_shortened_file_is_noticed(path):
    source = Source(path)
    assert source.digest
    os.truncate(path, 2000)
    with pytest.raises(DataError, match="stay as it was"):
        source.check()
    path.unlink()
    assert source.is_changed()
    with pytest.raises(DataError, match="stay as it was"):
        source.check()


def test_a_change_within_a_step_of_the_clock_is_noticed(path, monkeypatch):
    source = Source(path)
    assert source.digest
    stamps = source._read_stamps()
    path.write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(Source, "_read_stamps", lambda self: stamps)  # as a coarse clock would show it
    assert source.check()
    with pytest.raises(DataError, match="stay as it was"):
        source.confirm()


def test_the_content_is_hashed_once(path, monkeypatch):
    monkeypatch.setattr(sources, "_is_recent", lambda stamps: False)
    read = []
    monkeypatch.setattr(sources, "checksum", lambda file: read.append(file) or "1")
    assert Source(path).digest == Source(path).digest == "1"
    assert read == [path]


def test_a_moved_slide_has_the_same_content_and_another_version(tmp_path):
    write_slide_file(tmp_path / "a.tif", picture(60, 60))
    shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif")
    one, other = (Source(tmp_path / name) for name in ("a.tif", "b.tif"))
    assert one.digest == other.digest
    assert one.version != other.version


def test_all_files_of_a_mirax_slide_count(tmp_path):
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8thumbnail")
    (tmp_path / "a").mkdir()
    for name in ("Slidedat.ini", "Data0000.dat", "Data0001.dat", "Index.dat"):
        (tmp_path / "a" / name).write_bytes(os.urandom(100))
    (tmp_path / "b.mrxs").write_bytes(b"another slide")
    assert openslide.OpenSlide.detect_format(tmp_path / "a.mrxs") == "mirax"
    source = Source(tmp_path / "a.mrxs")
    assert [file.name for file in source.files] == [
        "a.mrxs",
        "Data0000.dat",
        "Data0001.dat",
        "Index.dat",
        "Slidedat.ini",
    ]
    digest = source.digest
    rewrite(tmp_path / "a" / "Data0001.dat", os.urandom(100))
    with pytest.raises(DataError, match=r"a\.mrxs"):
        source.check()
    assert Source(tmp_path / "a.mrxs").digest != digest


def test_all_files_of_a_vms_slide_count(tmp_path):
    lines = ["[Virtual Microscope Specimen]", "NoLayers=1", "NoJpegColumns=2", "NoJpegRows=1"]
    (tmp_path / "a.vms").write_text("\n".join([*lines, "ImageFile=a.jpg", "ImageFile(1,0)=b.jpg", ""]))
    for name in ("a.jpg", "b.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(os.urandom(9))
    assert openslide.OpenSlide.detect_format(tmp_path / "a.vms") == "hamamatsu"
    assert [file.name for file in Source(tmp_path / "a.vms").files] == ["a.vms", "a.jpg", "b.jpg"]


def test_all_instances_of_a_dicom_series_count(tmp_path):
    def write(name, series, explicit=True):
        value = series.encode()
        length = b"UI" + len(value).to_bytes(2, "little") if explicit else len(value).to_bytes(4, "little")
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" + bytes(50) + b"\x20\x00\x0e\x00" + length + value + b"x")

    for name, series, explicit in (("1.dcm", "1.2.3", True), ("2.dcm", "1.2.3", False), ("3.dcm", "1.2.4", True)):
        write(name, series, explicit)
    (tmp_path / "notes.txt").write_text("1.2.3")
    assert [file.name for file in Source(tmp_path / "2.dcm").files] == ["2.dcm", "1.dcm"]
    assert [file.name for file in Source(tmp_path / "3.dcm").files] == ["3.dcm"]
