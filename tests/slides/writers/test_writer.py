"""All formats of slides: level 0 is read once, in constant memory; files appear only when complete; early errors."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from reference import assert_teaches
from written_slides import KNOWN, UNKNOWN, assert_levels, reader, save, texture, tifffile_levels, zarr_levels

from monai_iste.errors import ConfigError, OutputError, ShapeError
from monai_iste.io.image_writer import SLIDE_SUFFIXES
from monai_iste.slides.writers import pyramid, writer
from monai_iste.slides.writers.pyramid import Pyramid, halve, level_sizes
from monai_iste.slides.writers.writer import check_slide_output, write_slide

zarr = pytest.importorskip("zarr")

# --- levels, pixel size, memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ome.tiff", ".ome.zarr"])
@pytest.mark.parametrize("value", [0, 255])
def test_a_slide_of_one_color_is_written_whole(tmp_path, suffix, value):
    """zarr leaves out chunks of the fill value unless it is told not to."""
    pixels = np.full((600, 1100, 3), value, np.uint8)
    path = save(tmp_path / f"a{suffix}", pixels, compression="lossless")
    assert_levels(zarr_levels(path) if path.is_dir() else tifffile_levels(path), pixels)
    if path.is_dir():
        chunks = [chunk for level in path.glob("[0-9]") for chunk in (level / "c").rglob("*") if chunk.is_file()]
        assert len(chunks) == 2 * 3 + 2 + 1


def test_level_0_is_asked_for_once_per_tile_in_order_and_progress_adds_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid.os, "cpu_count", lambda: 1)
    pixels, asked, done = texture(600, 1100), [], []

    def read(region):
        asked.append(region)
        return reader(pixels)(region)

    write_slide(tmp_path / "a.ome.tif", read, (600, 1100), KNOWN, tmp_path, progress=done.append)
    rows, columns = [(0, 512), (512, 88)], [(0, 512), (512, 512), (1024, 76)]
    assert asked == [(top, left, height, width) for top, height in rows for left, width in columns]
    assert len(done) == 6
    assert sum(done) == 600 * 1100


def test_halving_and_sizes():
    assert level_sizes((512, 512)) == [(512, 512)]
    assert level_sizes((3, 1025)) == [(3, 1025), (2, 513), (1, 257)]
    assert halve(np.array([[[255]]], np.uint8)).tolist() == [[[255]]]
    pixels = np.random.default_rng(1).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    corner = pixels[36, 48:50].astype(float).mean(axis=0)  # the last row counts twice
    assert halve(pixels)[18, 24].tolist() == np.floor(corner + 0.5).tolist()


def test_levels_come_in_order():
    with Pyramid(reader(texture(600, 20)), (600, 20)) as levels, pytest.raises(ValueError, match="level 0 comes next"):
        next(levels.tiles(1, lambda tile, pixels: pixels))


def test_an_unknown_pixel_size_is_not_stated(tmp_path):
    path = save(tmp_path / "a.ome.tif", texture(600, 1100), UNKNOWN)
    with OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties
        assert slide.color_profile is None
    with tifffile.TiffFile(path) as tiff:
        assert "PhysicalSize" not in tiff.ome_metadata
        assert tiff.pages[0].tags["ResolutionUnit"].value == 1  # no unit
        assert tiff.pages[0].tags["XResolution"].value == (1, 1)
    axes = zarr.open_group(save(tmp_path / "a.ome.zarr", texture(9, 9), UNKNOWN)).attrs["ome"]["multiscales"][0]["axes"]
    assert all("unit" not in axis for axis in axes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_memory_does_not_grow_with_the_slide(tmp_path, name):
    """Four times the width: one row of tiles would take 74 MB more."""
    program = """
import sys, threading, time
import numpy as np
from pathlib import Path
from monai_iste.slides.writers.writer import SlideMetadata, write_slide

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) // 1024

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.01)

tile = np.random.default_rng(0).integers(100, 140, (512, 512, 3), dtype=np.uint8)
read = lambda region: tile[: region.height, : region.width] + np.uint8((region.top + region.left) // 512 % 100)
path, metadata = Path(sys.argv[1]), SlideMetadata((0.25, 0.25), None, {})
write_slide(path, read, (600, 600), metadata, path.parent, overwrite=True)  # whatever is loaded once
peak = [0]
threading.Thread(target=watch, daemon=True).start()
write_slide(path, read, (2048, int(sys.argv[2])), metadata, path.parent, overwrite=True)
print(peak[0])
"""

    def peak(width: int) -> int:
        command = [sys.executable, "-c", program, os.fspath(tmp_path / name), str(width)]
        # What is freed goes back to the system at once: the peak is what is held, not what the allocator keeps.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"}
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    assert peak(64_000) < peak(16_000) + 25


# --- complete, or not at all ------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(error: BaseException, after: int = 3):
    """A reader that fails at its fourth tile."""
    calls = []

    def read(region):
        calls.append(region)
        if len(calls) > after:
            raise error
        return np.zeros((*region[2:], 3), np.uint8)

    return read


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no")])
@pytest.mark.parametrize("after", [0, 3])
def test_a_failure_leaves_nothing(tmp_path, suffix, error, after):
    with pytest.raises(type(error)):
        write_slide(tmp_path / f"a{suffix}", failing(error, after), (2000, 2000), KNOWN, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_failure_leaves_the_old_slide(tmp_path, suffix):
    pixels = texture(600, 700)
    path = save(tmp_path / f"a{suffix}", pixels, compression="lossless")
    with pytest.raises(RuntimeError):
        write_slide(path, failing(RuntimeError()), (2000, 2000), KNOWN, tmp_path, overwrite=True)
    assert names(tmp_path) == [path.name, "work"]
    assert_levels(zarr_levels(path) if path.is_dir() else tifffile_levels(path), pixels)
    save(path, pixels[:50], compression="lossless", overwrite=True)
    assert names(tmp_path) == [path.name, "work"]
    assert_levels(zarr_levels(path) if path.is_dir() else tifffile_levels(path), pixels[:50])


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_what_a_killed_process_left_goes_with_the_next_slide(tmp_path, suffix):
    pytest.importorskip("fcntl")
    (tmp_path / f".a{suffix}.1.part").mkdir()
    (tmp_path / f".a{suffix}.1.part" / "chunk").touch()
    (tmp_path / f".a{suffix}.2.part").touch()
    save(tmp_path / f"a{suffix}", texture(600, 700))
    assert names(tmp_path) == [f"a{suffix}", "work"]


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_full_disk_is_one_sentence(tmp_path, suffix, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pyramid._StoredLevel, "write", full)
    with pytest.raises(OutputError) as caught:
        write_slide(tmp_path / f"a{suffix}", reader(texture(600, 700)), (600, 700), KNOWN, tmp_path)
    assert_teaches(caught.value, f"a{suffix}", "No space left")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("suffix", "lost"), [(".ome.tif", ""), (".ome.zarr", ""), (".ome.zarr", "*/*"), (".ome.zarr", "*/*/c/0/1")]
)
def test_a_folder_that_vanishes_is_one_sentence(tmp_path, suffix, lost):
    """zarr would make it again, and read what was in it as background."""
    pixels, folder = texture(1600, 600), tmp_path / "gone"
    folder.mkdir()

    def read(region):
        if region.top >= 1024:
            for path in folder.glob(lost) if lost else [folder]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return reader(pixels)(region)

    with pytest.raises(OutputError) as caught:
        write_slide(folder / f"a{suffix}", read, (1600, 600), KNOWN, tmp_path)
    assert_teaches(caught.value, f"a{suffix}")


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.ome.zarr"

    def read(region):
        path.mkdir(exist_ok=True)
        (path / "mine").touch()
        return np.zeros((*region[2:], 3), np.uint8)

    with pytest.raises(OutputError) as caught:
        write_slide(path, read, (20, 20), KNOWN, tmp_path)
    assert_teaches(caught.value, "a.ome.zarr")
    assert names(tmp_path) == ["a.ome.zarr"]
    assert names(path) == ["mine"]


@pytest.mark.parametrize("wrong", [(512, 512), (512, 512, 4), (511, 512, 3)])
def test_a_reader_that_returns_something_else_is_refused(tmp_path, wrong):
    with pytest.raises(ShapeError) as caught:
        write_slide(tmp_path / "a.ome.tif", lambda *_: np.zeros(wrong, np.uint8), (600, 700), KNOWN, tmp_path)
    assert_teaches(caught.value, "(512, 512, 3)", str(wrong))


# --- refused early ----------------------------------------------------------------------------------------------------


def test_what_can_be_refused_early(tmp_path):
    (tmp_path / "there.ome.tif").touch()
    (tmp_path / "folder.ome.tif").mkdir()
    (tmp_path / "file.ome.zarr").touch()
    (tmp_path / "there.ome.zarr").mkdir()
    cases = [
        ("a.svs", False, OutputError, SLIDE_SUFFIXES),
        ("a.tif", True, OutputError, (".ome.tif",)),
        ("there.ome.tif", False, OutputError, ("exists", "--overwrite")),
        ("there.ome.zarr", False, OutputError, ("exists", "--overwrite")),
        ("folder.ome.tif", True, OutputError, ("folder",)),
        ("file.ome.zarr", True, OutputError, ("file",)),
        ("no/a.ome.tif", False, OutputError, ("existing folder", "no")),
    ]
    for name, overwrite, error, words in cases:
        with pytest.raises(error) as caught:
            check_slide_output(tmp_path / name, (20, 30), KNOWN, overwrite)
        assert_teaches(caught.value, *words)
    for name in ("there.ome.tif", "there.ome.zarr"):
        check_slide_output(tmp_path / name, (20, 30), KNOWN, overwrite=True)
    check_slide_output(tmp_path / "NEW.OME.TIFF", (20, 30), UNKNOWN)
    with pytest.raises(ShapeError) as caught:
        check_slide_output(tmp_path / "a.ome.tif", (0, 30), KNOWN)
    assert_teaches(caught.value, "0 x 30")


def test_an_unknown_compression_is_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        save(tmp_path / "a.ome.tif", texture(9, 9), compression="webp")
    assert_teaches(caught.value, "jpeg", "lossless", "webp")


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.setitem(sys.modules, "wsidicomizer", None)
    check_slide_output(tmp_path / "a.ome.tif", (20, 30), KNOWN)
    for name, package, extra in (("a.ome.zarr", "zarr", "[slides]"), ("a.dcm", "wsidicomizer", "[dicom]")):
        with pytest.raises(ConfigError) as caught:
            check_slide_output(tmp_path / name, (20, 30), KNOWN)
        assert_teaches(caught.value, package, f'pip install -e ".{extra}"')


def test_the_names_that_are_offered():
    assert writer.SLIDE_SUFFIXES == (".ome.tif", ".ome.tiff", ".ome.zarr", ".dcm")
