"""Slides that are written: every level's pixels, what every reader sees of them, and nothing left of a failure."""

import base64
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.data import WSIReader
from openslide import OpenSlide
from PIL import ImageCms
from reference import assert_teaches

from monai_iste.errors import ConfigError, DataError, OutputError, ShapeError
from monai_iste.slides import ome_tiff, pyramid, writer
from monai_iste.slides.pyramid import Pyramid, halve, level_sizes
from monai_iste.slides.writer import SLIDE_SUFFIXES, SlideMetadata, check_slide_output, write_slide

pytest.importorskip("imagecodecs")
zarr = pytest.importorskip("zarr")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MPP = (0.2503, 0.2498)  # (y, x)
PROVENANCE = {"software": "monai_iste 9.9", "scale": "2.5", "notice": "super-resolved, not for diagnosis"}
KNOWN = SlideMetadata(MPP, SRGB, PROVENANCE)
UNKNOWN = SlideMetadata(None, None, PROVENANCE)
SIZES = [(1, 1), (511, 513), (512, 512), (1300, 2001)]


def texture(height: int, width: int) -> np.ndarray:
    """Smooth waves of every channel with a little noise: JPEG keeps it, and no two tiles are alike."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(y / (17 + 3 * c) + c) + np.cos(x / (23 + 5 * c) + y / 300) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 1))
    return np.clip(150 + 40 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def reader(pixels: np.ndarray):
    return lambda top, left, height, width: pixels[top : top + height, left : left + width]


def save(path: Path, pixels: np.ndarray, metadata: SlideMetadata = KNOWN, **options) -> Path:
    work = path.parent / "work"
    work.mkdir(exist_ok=True)
    write_slide(path, reader(pixels), pixels.shape[:2], metadata, work, **options)
    assert not list(work.iterdir())
    return path


def literal_levels(pixels: np.ndarray) -> list[np.ndarray]:
    """The mean of 2 x 2 pixels, in float, with the edge repeated, until 512 pixels hold the longest side."""
    levels = [pixels]
    while max(levels[-1].shape[:2]) > 512:
        above = levels[-1].astype(np.float64)
        above = np.pad(above, [(0, n % 2) for n in above.shape[:2]] + [(0, 0)], mode="edge")
        rows, columns = above.shape[0] // 2, above.shape[1] // 2
        levels.append(np.floor(above.reshape(rows, 2, columns, 2, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8))
    return levels


def openslide_levels(slide: OpenSlide) -> list[np.ndarray]:
    return [
        np.asarray(slide.read_region((0, 0), level, size))[..., :3] for level, size in enumerate(slide.level_dimensions)
    ]


def tifffile_levels(path: Path) -> list[np.ndarray]:
    with tifffile.TiffFile(path) as tiff:
        return [level.asarray() for level in tiff.series[0].levels]


def zarr_levels(path: Path) -> list[np.ndarray]:
    group = zarr.open_group(path, mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    return [group[dataset["path"]][:].transpose(1, 2, 0) for dataset in datasets]


def assert_levels(found: list[np.ndarray], pixels: np.ndarray, mean: float = 0.0) -> None:
    expected = literal_levels(pixels)
    assert [level.shape for level in found] == [level.shape for level in expected]
    for ours, literal in zip(found, expected, strict=True):
        assert np.abs(ours.astype(int) - literal).mean() <= mean


@pytest.fixture(params=["classic", "BigTIFF"])
def kind(request, monkeypatch):
    if request.param == "BigTIFF":
        monkeypatch.setattr(ome_tiff, "_may_pass_4_gb", lambda sizes: True)
    return request.param


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compression", ["jpeg", "lossless"])
def test_every_reader_finds_every_level_of_ome_tiff(tmp_path, size, compression, kind):
    pixels, mean = texture(*size), {"jpeg": 2, "lossless": 0}[compression]
    path = save(tmp_path / "a.ome.tif", pixels, compression=compression)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == (kind == "BigTIFF")
    assert_levels(tifffile_levels(path), pixels, mean)
    with OpenSlide(path) as slide:
        assert_levels(openslide_levels(slide), pixels, mean)
    monai = WSIReader("openslide")
    image = monai.read(path)
    assert monai.get_level_count(image) == len(literal_levels(pixels))
    for level, expected in enumerate(literal_levels(pixels)):
        region, _ = monai.get_data(image, level=level)
        assert region.shape == (3, *expected.shape[:2])
        assert np.abs(region.transpose(1, 2, 0).astype(int) - expected).mean() <= mean


@pytest.mark.parametrize("size", SIZES)
def test_ome_zarr_holds_every_level_exactly(tmp_path, size):
    pixels = texture(*size)
    assert_levels(zarr_levels(save(tmp_path / "a.ome.zarr", pixels)), pixels)


@pytest.mark.parametrize("suffix", [".ome.tiff", ".ome.zarr"])
@pytest.mark.parametrize("value", [0, 255])
def test_a_slide_of_one_colour_is_written_whole(tmp_path, suffix, value):
    """zarr leaves out chunks of the fill value unless it is told not to."""
    pixels = np.full((600, 1100, 3), value, np.uint8)
    path = save(tmp_path / f"a{suffix}", pixels, compression="lossless")
    assert_levels(zarr_levels(path) if path.is_dir() else tifffile_levels(path), pixels)
    if path.is_dir():
        chunks = [chunk for level in path.glob("[0-9]") for chunk in (level / "c").rglob("*") if chunk.is_file()]
        assert len(chunks) == 2 * 3 + 2 + 1


def test_colour_is_kept_at_full_resolution_along_y(tmp_path):
    """Rows of red and of green have one brightness: colour of half resolution would make them all brown."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[::2, :, 0] = 200
    pixels[1::2, :, 1] = 100
    found = tifffile_levels(save(tmp_path / "a.ome.tif", pixels))[0]
    assert np.abs(found.astype(int) - pixels).mean() < 8


def test_the_padding_of_tiles_does_not_shine_through(tmp_path):
    """The slide ends inside a block of 8 x 8 pixels, which a black margin would darken."""
    pixels = np.full((515, 515, 3), 240, np.uint8)
    found = tifffile_levels(save(tmp_path / "a.ome.tif", pixels))[0]
    assert np.abs(found.astype(int) - 240).max() <= 1


def test_level_0_is_asked_for_once_per_tile_in_order_and_progress_adds_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid.os, "cpu_count", lambda: 1)
    pixels, asked, done = texture(600, 1100), [], []

    def read(*region):
        asked.append(region)
        return reader(pixels)(*region)

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


@pytest.mark.parametrize("side", [20_000, 30_000, 33_000, 40_000])
def test_bigtiff_as_soon_as_incompressible_tiles_could_pass_4_gb(side):
    worst = sum(3.001 * 512**2 * (-(-height // 512)) ** 2 for height, _ in level_sizes((side, side)))
    big = ome_tiff._may_pass_4_gb(level_sizes((side, side)))
    assert big or worst < 2**32
    assert not big or side > 30_000


# --- what a slide says about itself -----------------------------------------------------------------------------------


def test_pixel_size_profile_and_provenance_of_ome_tiff(tmp_path, kind):
    path = save(tmp_path / "a.ome.tif", texture(600, 1100))
    with OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(MPP[0], rel=1e-6)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP[1], rel=1e-6)
        assert slide.color_profile.tobytes() == SRGB
    monai = WSIReader("openslide")
    assert monai.get_mpp(monai.read(path), 1) == pytest.approx((2 * MPP[0], 2 * MPP[1]), rel=0.01)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].software == "monai_iste 9.9"
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == MPP
        assert pixels["PhysicalSizeYUnit"] == pixels["PhysicalSizeXUnit"] == "µm"
        for key, text in PROVENANCE.items():
            assert f'<M K="{key}">{text}</M>' in tiff.ome_metadata
        for level, page in enumerate(tiff.pages[0].pages, start=1):
            assert page.subfiletype == 1
            assert page.tags["InterColorProfile"].value == SRGB
            top, y = page.tags["YResolution"].value
            assert 1e4 * y / top == pytest.approx(2**level * MPP[0], rel=1e-6)


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


def test_the_directories_of_a_hybrid_share_their_tiles(tmp_path, kind):
    """Two ways to each lower level, through the SubIFDs and through the chain, and one copy of the pixels."""
    path = save(tmp_path / "a.ome.tif", texture(1300, 2001))
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 3
        assert [len(page.subifds or ()) for page in tiff.pages] == [2, 0, 0]
        for chained, nested in zip(tiff.pages[1:], tiff.pages[0].pages, strict=True):
            assert chained.offset != nested.offset
            assert chained.dataoffsets == nested.dataoffsets
            assert {tag.name: tag.value for tag in chained.tags} == {tag.name: tag.value for tag in nested.tags}


def test_control_characters_do_not_spoil_the_description(tmp_path):
    odd = {"software": "a\x00b\x07 é", "k<&>": "\ud7ff \x1b µ"}
    path = save(tmp_path / "a.ome.tif", texture(9, 9), SlideMetadata(None, None, odd))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].software == "a?b? ?"
        assert '<M K="k&lt;&amp;&gt;">\ud7ff ? µ</M>' in tiff.ome_metadata
        assert tiff.series[0].kind == "ome"


def test_metadata_of_ome_zarr(tmp_path):
    """Where the pixels of every level lie, in micrometres: level k's first pixel is the mean of 2**k of level 0's."""
    group = zarr.open_group(save(tmp_path / "a.ome.zarr", texture(1300, 2001)), mode="r")
    assert group.metadata.zarr_format == 3
    ome, own = group.attrs["ome"], group.attrs["monai_iste"]
    assert ome["version"] == "0.5"
    multiscale = ome["multiscales"][0]
    assert [(axis["name"], axis["type"], axis.get("unit")) for axis in multiscale["axes"]] == [
        ("c", "channel", None),
        ("y", "space", "micrometer"),
        ("x", "space", "micrometer"),
    ]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = (transform[transform["type"]] for transform in dataset["coordinateTransformations"])
        centres = np.arange(2**level)  # of the pixels of level 0 that pixel 0 of this level is made of
        assert scale == pytest.approx([1, MPP[0] * 2**level, MPP[1] * 2**level])
        assert translation == pytest.approx([0, MPP[0] * centres.mean(), MPP[1] * centres.mean()])
        array = group[dataset["path"]]
        assert array.metadata.dimension_names == ("c", "y", "x")
        assert array.shards is None
    assert [channel["color"] for channel in ome["omero"]["channels"]] == ["FF0000", "00FF00", "0000FF"]
    assert own["provenance"] == PROVENANCE
    assert base64.b64decode(own["icc_profile"]) == SRGB


# --- complete, or not at all ------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(error: BaseException, after: int = 3):
    """A reader that fails at its fourth tile."""
    calls = []

    def read(top, left, height, width):
        calls.append(top)
        if len(calls) > after:
            raise error
        return np.zeros((height, width, 3), np.uint8)

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
def test_a_full_disk_is_told_in_a_sentence(tmp_path, suffix, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pyramid._Aside, "write", full)
    with pytest.raises(OutputError) as caught:
        write_slide(tmp_path / f"a{suffix}", reader(texture(600, 700)), (600, 700), KNOWN, tmp_path)
    assert_teaches(caught.value, f"a{suffix}", "No space left")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("suffix", "lost"), [(".ome.tif", ""), (".ome.zarr", ""), (".ome.zarr", "*/*"), (".ome.zarr", "*/*/c/0/1")]
)
def test_a_folder_that_vanishes_is_told_in_a_sentence(tmp_path, suffix, lost):
    """zarr would make it again, and read what was in it as background."""
    pixels, folder = texture(1600, 600), tmp_path / "gone"
    folder.mkdir()

    def read(top, left, height, width):
        if top >= 1024:
            for path in folder.glob(lost) if lost else [folder]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return reader(pixels)(top, left, height, width)

    with pytest.raises(OutputError) as caught:
        write_slide(folder / f"a{suffix}", read, (1600, 600), KNOWN, tmp_path)
    assert_teaches(caught.value, f"a{suffix}")


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.ome.zarr"

    def read(top, left, height, width):
        path.mkdir(exist_ok=True)
        (path / "mine").touch()
        return np.zeros((height, width, 3), np.uint8)

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
        assert_teaches(caught.value, package, f"monai_iste{extra}")


def test_dicom_needs_a_pixel_size(tmp_path):
    with pytest.raises(DataError) as caught:
        check_slide_output(tmp_path / "a.dcm", (20, 30), UNKNOWN)
    assert_teaches(caught.value, "pixel size", "--input-mpp")


# --- other programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (600, 1101), (1300, 2001)])
@pytest.mark.parametrize("compression", ["jpeg", "lossless"])
def test_dicom_is_read_with_every_level(tmp_path, size, compression):
    """Needs the extra dicom, and libturbojpeg."""
    pytest.importorskip("wsidicomizer")
    pydicom = pytest.importorskip("pydicom")
    try:
        check_slide_output(tmp_path / "a.dcm", size, KNOWN)
    except ConfigError as error:
        pytest.skip(str(error))
    pixels = texture(*size)
    path = save(tmp_path / "a.dcm", pixels, compression=compression)
    files = list(path.iterdir())
    assert len(files) == len(literal_levels(pixels))
    with OpenSlide(files[0]) as slide:
        assert_levels(openslide_levels(slide), pixels, {"jpeg": 2, "lossless": 0}[compression])
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(MPP[0], rel=1e-6)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP[1], rel=1e-6)
        assert slide.color_profile.tobytes() == SRGB
    for file in files:
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        assert dataset.ImageType[:3] == ["DERIVED", "PRIMARY", "VOLUME"]
        assert "not for diagnosis" in dataset.DerivationDescription
        assert dataset.PatientName == dataset.PatientID == ""


@pytest.mark.skipif("BIOFORMATS_JAR" not in os.environ, reason="BIOFORMATS_JAR names no bioformats_package.jar")
@pytest.mark.parametrize("compression", ["jpeg", "lossless"])
def test_bio_formats_reads_every_level(tmp_path, compression, kind):
    def run(tool: str, *arguments: object) -> str:
        command = ["java", "-cp", os.environ["BIOFORMATS_JAR"], f"loci.formats.tools.{tool}", "-no-upgrade", "-noflat"]
        return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=True).stdout

    pixels = texture(1300, 2001)
    path = save(tmp_path / "a.ome.tif", pixels, compression=compression)
    report = run("ImageInfo", "-nopix", "-omexml", path)
    assert "No validation errors found" in report
    assert "Series count = 1" in report
    assert re.findall(r"sizeX\[\d\] = (\d+)", report) == ["2001", "1001", "501"]
    assert f'PhysicalSizeX="{MPP[1]}" PhysicalSizeXUnit="µm" PhysicalSizeY="{MPP[0]}"' in report
    assert '<M K="notice">super-resolved, not for diagnosis</M>' in report
    run("ImageConverter", path, tmp_path / "copy.ome.tif")  # uncompressed, all levels, channels first
    copied = [level.transpose(1, 2, 0) for level in tifffile_levels(tmp_path / "copy.ome.tif")]
    assert_levels(copied, pixels, {"jpeg": 2, "lossless": 0}[compression])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_memory_does_not_grow_with_the_slide(tmp_path, name):
    """Four times the width: one row of tiles would take 74 MB more."""
    program = """
import sys, threading, time
import numpy as np
from pathlib import Path
from monai_iste.slides.writer import SlideMetadata, write_slide

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) // 1024

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.01)

tile = np.random.default_rng(0).integers(100, 140, (512, 512, 3), dtype=np.uint8)
read = lambda top, left, height, width: tile[:height, :width] + np.uint8((top + left) // 512 % 100)
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


def test_the_names_that_are_offered():
    assert writer.SLIDE_SUFFIXES == (".ome.tif", ".ome.tiff", ".ome.zarr", ".dcm")
