"""Inputs that are refused leave nothing behind, and are refused in the same sentence the second time."""

import os
from contextlib import nullcontext
from itertools import count

import numpy as np
import pytest
import tifffile
from commands import run
from PIL import Image
from slide_files import picture

from monai_iste.errors import DataError
from monai_iste.slides import Slide

IMAGE = picture(300, 420)


def one_bit(name):
    Image.fromarray(IMAGE).convert("1").save(f"{name}.png")
    return f"{name}.png"


def deep_gray(name):
    tifffile.imwrite(f"{name}.tif", IMAGE[..., 0].astype(np.uint16) * 257, tile=(64, 64))
    return f"{name}.tif"


def float_out_of_range(name):
    tifffile.imwrite(f"{name}.tif", IMAGE.astype(np.float32), photometric="rgb")
    return f"{name}.tif"


def cut_jpeg(name):
    Image.fromarray(IMAGE).save(f"{name}.jpg")
    os.truncate(f"{name}.jpg", os.path.getsize(f"{name}.jpg") // 2)
    return f"{name}.jpg"


def cut_png(name):
    Image.fromarray(IMAGE).save(f"{name}.png")
    os.truncate(f"{name}.png", os.path.getsize(f"{name}.png") * 3 // 4)
    return f"{name}.png"


def damaged_tile(number, compression="zlib", ending="tif"):
    """A tiled TIFF with one tile of zeros, which is found when the tile is read."""

    def make(name):
        path = f"{name}.{ending}"
        description = "Aperio Image Library v11.2.1 |MPP = 0.5" if ending == "svs" else ""
        tifffile.imwrite(
            path,
            IMAGE,
            tile=(64, 64),
            photometric="rgb",
            compression=compression,
            description=description,
            metadata=None,
        )
        with tifffile.TiffFile(path) as tiff:
            offset, count = (values[number] for values in (tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts))
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(bytes(count))
        return path

    return make


def cut_tiff(name):
    tifffile.imwrite(f"{name}.tif", IMAGE, photometric="rgb")
    os.truncate(f"{name}.tif", os.path.getsize(f"{name}.tif") - 9)
    return f"{name}.tif"


def stack(name):
    tifffile.imwrite(f"{name}.tif", np.stack([IMAGE] * 3), photometric="rgb", tile=(64, 64))
    return f"{name}.tif"


REFUSED = {
    "1 bit": one_bit,
    "16-bit gray": deep_gray,
    "float": float_out_of_range,
    "JPEG cut": cut_jpeg,
    "PNG cut": cut_png,
    "first tile": damaged_tile(0),
    "tile in the middle": damaged_tile(17),
    "last tile": damaged_tile(-1),
    "last tile, JPEG": damaged_tile(-1, "jpeg"),
    "last tile, SVS": damaged_tile(-1, "jpeg", "svs"),
    "TIFF cut": cut_tiff,
    "stack": stack,
}
OUTPUTS = {
    "pyramid": ["out.ome.tiff"],
    "Zarr": ["out.ome.zarr"],
    "work elsewhere": ["out.ome.tiff", "--work-dir", "new/work"],
    "tissue": ["out.ome.tiff", "--tissue-only", "--consistency"],
    "plain": ["out.png"],
    "part": ["out.tif", "--region", "0,0,299,420"],
    "overwrite": ["out.ome.tiff", "--overwrite"],
}


CASES = [(kind, "pyramid") for kind in REFUSED] + [("last tile", output) for output in OUTPUTS if output != "pyramid"]


@pytest.mark.parametrize(("make", "output"), [(REFUSED[a], OUTPUTS[b]) for a, b in CASES], ids=map(", ".join, CASES))
def test_nothing_is_left_and_the_second_try_says_the_same(make, output):
    source = make("input")
    before = _everything()
    first = run("upscale", source, *output, "--scale", 1.3)
    assert isinstance(first.exception, SystemExit), first.exception
    assert (first.exit_code, first.stdout) == (DataError.exit_code, "")
    (sentence,) = [line for line in first.stderr.splitlines() if line.startswith("error: Expected ")]
    assert source in sentence
    assert _everything() == before
    second = run("upscale", source, *output, "--scale", 1.3)
    assert second.stderr.splitlines()[-1] == first.stderr.splitlines()[-1]
    assert _everything() == before


def test_work_that_is_resumed_is_kept(monkeypatch):
    """Windows that were computed before are not lost to a file that cannot be read now."""
    source = damaged_tile(-1)("input")
    with monkeypatch.context() as patch:
        patch.setattr("monai_iste.cli.jobs.leave_nothing", lambda job: nullcontext())
        assert run("upscale", source, "out.ome.tiff", "--scale", 1.3).exit_code == DataError.exit_code
    before = _everything()
    assert "./out.ome.tiff.work" in before
    assert run("upscale", source, "out.ome.tiff", "--scale", 1.3, "--resume").exit_code == DataError.exit_code
    assert "./out.ome.tiff.work" in _everything()


def test_work_is_kept_where_only_one_reading_failed(monkeypatch):
    """As on a network disk that failed for a moment."""
    tifffile.imwrite("input.tif", IMAGE, photometric="rgb", tile=(64, 64))
    read, calls = Slide.read, count()

    def fail_once(self, region, level=0):
        if next(calls) == 3:
            raise DataError("readable pixels in input.tif", "an error", "Copy it again.")
        return read(self, region, level)

    monkeypatch.setattr(Slide, "read", fail_once)
    assert run("upscale", "input.tif", "out.ome.tiff", "--scale", 1.3).exit_code == DataError.exit_code
    assert "./out.ome.tiff.work" in _everything()
    result = run("upscale", "input.tif", "out.ome.tiff", "--scale", 1.3, "--resume")
    assert result.exit_code == 0, result.output
    assert "are done and are kept" in result.stderr


def test_a_folder_of_refused_inputs_leaves_nothing():
    os.makedirs("in/deep")
    for name, make in (("deep/a", one_bit), ("b", cut_jpeg), ("deep/c", damaged_tile(-1)), ("deep/d", stack)):
        make(f"in/{name}")
    before = _everything()
    for _ in range(2):
        result = run("upscale", "in", "out", "--scale", 1.3)
        assert result.exit_code == DataError.exit_code
        assert result.stderr.count("error: ") == 4
        assert _everything() == before


def _everything():
    """Files and folders below the working directory."""
    return sorted(os.path.join(root, name) for root, folders, names in os.walk(".") for name in (*folders, *names))
