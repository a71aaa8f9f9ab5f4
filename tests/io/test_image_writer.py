"""Writing images: pixels, profile and pixel size; files appear only when complete."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from reference import assert_teaches

from monai_iste.errors import OutputError
from monai_iste.io import image_writer, read_rgb
from monai_iste.io.files import open_output
from monai_iste.io.image_reader import probe
from monai_iste.io.image_writer import check_output, save_image

RGB = np.random.default_rng(0).integers(0, 256, (300, 517, 3), dtype=np.uint8)
SMOOTH = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None] * 5, (40, 30, 3))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SUFFIXES = ["png", "PNG", "tif", "tiff", "jpg", "jpeg"]


def bands(pixels: np.ndarray, rows: int = 130):
    return (pixels[top : top + rows] for top in range(0, len(pixels), rows))


def save(path, pixels=RGB, rows=130, **options):
    save_image(path, bands(pixels, rows), pixels.shape[:2], **options)
    return path


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (256, 256), (257, 513), (300, 517)])
@pytest.mark.parametrize("rows", [1, 130, 1000])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pixels_come_back_whatever_the_bands(tmp_path, shape, rows, suffix):
    pixels = RGB[: shape[0], : shape[1]]
    path = save(tmp_path / f"a.{suffix}", pixels, rows)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    np.testing.assert_array_equal(read_rgb(path).transpose(1, 2, 0), pixels)


def test_jpeg_comes_close(tmp_path):
    path = save(tmp_path / "a.jpg", SMOOTH)
    assert np.abs(np.asarray(Image.open(path)).astype(int) - SMOOTH).max() <= 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_profile_and_pixel_size_are_written(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", icc=SRGB, mpp=(0.25, 0.125))
    assert probe(path).icc == SRGB
    with Image.open(path) as image:
        assert image.info["icc_profile"] == SRGB
        assert image.info["dpi"][0] == pytest.approx(25_400 / 0.125, rel=1e-5)
        if suffix.startswith("jp"):
            assert image.getexif()[0x011B] == 10_000 / 0.25
        else:
            assert image.info["dpi"][1] == pytest.approx(25_400 / 0.25, rel=1e-5)
    assert probe(path).mpp == ((0.25, 0.125) if suffix.startswith("tif") else None)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_claimed_that_is_not_known(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}")
    assert probe(path).icc is None
    assert probe(path).mpp is None


def test_tiff_is_tiled_and_compressed_without_other_metadata(tmp_path):
    with tifffile.TiffFile(save(tmp_path / "a.tif", np.ascontiguousarray(SMOOTH), mpp=(0.5, 0.5))) as tiff:
        page = tiff.pages[0]
        assert page.is_tiled
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.tags["ResolutionUnit"].value == 3
        assert "ImageDescription" not in page.tags


@pytest.mark.parametrize("mpp", [0.2525, 0.4990 / 3.7, 0.62005, 1 / 3])
def test_pixel_size_survives(tmp_path, mpp):
    assert probe(save(tmp_path / "a.tif", mpp=(mpp, mpp))).mpp == pytest.approx((mpp, mpp), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}, (0.5, 0.25)),
        ({"resolution": (101_600, 101_600), "resolutionunit": "INCH"}, (0.25, 0.25)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),  # a screen's
        ({"resolution": (1e6, 1e6), "resolutionunit": "CENTIMETER"}, None),  # finer than light
        ({"resolution": (40_000, 40_000), "resolutionunit": "NONE"}, None),
    ],
)
def test_resolution_tags(tmp_path, options, expected):
    tifffile.imwrite(tmp_path / "a.tif", SMOOTH, photometric="rgb", **options)
    assert probe(tmp_path / "a.tif").mpp == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(0.5, "µm", 0.5), (0.5, None, 0.5), (250, "nm", 0.25), (0.0005, "mm", 0.5), (5, "pixel", None), (300, "µm", None)],
)
def test_ome_pixel_size(tmp_path, size, unit, expected):
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": 2 * size}
    if unit:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", SMOOTH, photometric="rgb", metadata=metadata)
    assert probe(tmp_path / "a.ome.tif").mpp == (expected and pytest.approx((2 * expected, expected)))


def test_a_gray_profile_does_not_describe_rgb(tmp_path):
    gray = SRGB[:16] + b"GRAY" + SRGB[20:]
    Image.fromarray(RGB[..., 0]).save(tmp_path / "a.png", icc_profile=gray)
    assert probe(tmp_path / "a.png").icc is None


# --- complete or not at all -------------------------------------------------------------------------------------------


def broken(error: BaseException, width: int = RGB.shape[1]):
    yield np.zeros((1, width, 3), np.uint8)
    raise error


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a defect")])
def test_nothing_is_left_behind(tmp_path, suffix, error):
    with pytest.raises(type(error)):
        save_image(tmp_path / f"a.{suffix}", broken(error), RGB.shape[:2])
    assert not list(tmp_path.iterdir())
    old = save(tmp_path / f"old.{suffix}")
    before = old.read_bytes()
    with pytest.raises(type(error)):
        save_image(old, broken(error), RGB.shape[:2], overwrite=True)
    assert old.read_bytes() == before
    assert list(tmp_path.iterdir()) == [old]


def test_what_a_killed_process_left_goes_with_the_next_file(tmp_path):
    pytest.importorskip("fcntl")
    (tmp_path / ".a.png.1.part").write_bytes(bytes(1000))
    save(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_disk_that_fills_up_is_a_sentence(tmp_path):
    with pytest.raises(OutputError) as caught:
        save_image(tmp_path / "a.tif", broken(OSError(28, "No space left on device")), RGB.shape[:2])
    assert_teaches(caught.value, "a.tif", "No space left on device")
    assert not list(tmp_path.iterdir())


def test_existing_files_are_kept_without_overwrite(tmp_path):
    path = save(tmp_path / "a.png")
    before = path.read_bytes()
    for attempt in (lambda: save(path, RGB[:9]), lambda: open_output(path).__enter__()):
        with pytest.raises(OutputError) as caught:
            attempt()
        assert_teaches(caught.value, "a.png, which exists", "--overwrite")
    assert path.read_bytes() == before
    save(path, RGB[:9], overwrite=True)
    assert Image.open(path).size == (517, 9)
    path.with_name("link.png").symlink_to("elsewhere.png")  # as of a disk that is not there today
    with pytest.raises(OutputError, match=r"link\.png, which exists"):
        save(path.with_name("link.png"))


def test_the_usual_permissions(tmp_path):
    (tmp_path / "b").touch()
    assert save(tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_refused_beforehand(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    refused = {
        "a.gif": (".png, .jpg, .jpeg, .tif, .tiff", "a.gif"),
        "a": (".png", "a"),
        "missing/a.png": ("existing folder", "missing"),
        "file/a.png": ("existing folder", "file"),
        "folder.png": ("name of a file", "the folder"),
    }
    for name, words in refused.items():
        with pytest.raises(OutputError) as caught:
            check_output(tmp_path / name, (9, 9), overwrite=True)
        assert_teaches(caught.value, *words)
    with pytest.raises(OutputError) as caught:
        check_output(tmp_path / "a.jpg", (9, 70_000))
    assert_teaches(caught.value, "65,500", "9 x 70,000", "TIFF")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 2 * 10**6, 2 * 10**6)
    )
    check_output(tmp_path / "a.tif", (800, 800))
    with pytest.raises(OutputError) as caught:
        check_output(tmp_path / "a.tif", (1000, 1000))
    assert_teaches(caught.value, "0.003 GB", "0.002 GB", "free space")


@pytest.mark.parametrize(("side", "version"), [(30_000, 42), (40_000, 43)])
def test_more_than_4_gb_is_bigtiff(side, version):
    file = io.BytesIO()
    with pytest.raises(KeyboardInterrupt):  # the header is written before the first band
        image_writer._write_tiff(file, broken(KeyboardInterrupt(), side), (side, side), None, None)
    assert file.getvalue()[2] == version


def test_a_pixel_size_that_no_format_holds_is_left_out(tmp_path):
    assert "dpi" not in Image.open(save(tmp_path / "a.png", mpp=(1e-4, 1e-4))).info


@pytest.mark.slow
def test_memory_stays_flat(tmp_path):
    """A 3500 x 1500 image at x4, to TIFF and PNG: the peak hardly exceeds that of a 1500 x 1500 one, 144 MB less.

    A network takes the same memory for every window, so a quick stand-in for one will do.
    """
    program = """
import resource, sys, torch
from monai_iste.io.image_writer import save_image
from monai_iste.functional import upscale_bands, to_range

class Flat(torch.nn.Module):
    def forward(self, image, coord, cell):
        return torch.zeros(1, coord.shape[1], 3)

torch.set_num_threads(1)
rows, path = int(sys.argv[1]), sys.argv[2]
image = torch.randint(0, 256, (3, rows, 1500), dtype=torch.uint8)
bands = upscale_bands(image, Flat(), (4 * rows, 6000))
save_image(path, (to_range(b, torch.uint8).permute(1, 2, 0).numpy() for b in bands), (4 * rows, 6000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

    def peak(rows: int, name: str) -> int:
        command = [sys.executable, "-c", program, str(rows), os.fspath(tmp_path / name)]
        # What is freed goes back to the system at once: the peak is what is held, not what the allocator keeps.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"}
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    small = peak(1500, "small.tif")
    assert peak(3500, "a.tif") < small + 70
    assert peak(3500, "a.png") < small + 70
