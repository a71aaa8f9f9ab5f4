"""The command on slides: complete files, interruptions of every kind, one sentence per failure."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from PIL import Image
from slide_commands import (
    PIXELS,
    SRGB,
    done,
    pixels_of,
    refused,
    run,
    start,
    succeeded,
    upscaled,
    wait_until,
)
from slide_files import picture, write_slide_file

from monai_iste.errors import ConfigError, DataError, OutputError, ScaleError, ShapeError
from monai_iste.io.seal import read_seal
from monai_iste.slides.window_store import WindowStore

zarr = pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")
pytestmark = pytest.mark.usefixtures("command_folder")

# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.3, 2.7])
def test_a_slide_is_upscaled_exactly(scale):
    succeeded("a.tif", "b.ome.tiff", "--scale", scale, "--compression", "lossless")
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), upscaled(scale))
    with OpenSlide("b.ome.tiff") as slide:
        height, width = (round(n * scale) for n in PIXELS.shape[:2])
        assert slide.dimensions == (width, height)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5 * 420 / width, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5 * 230 / height, rel=1e-6)
        assert slide.level_count == len(tifffile.TiffFile("b.ome.tiff").series[0].levels)
        assert slide.color_profile.tobytes() == SRGB
    assert sorted(os.listdir()) == ["a.tif", "b.ome.tiff", "program.py", "tiny.safetensors"]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (60, 60), (208, 208), (209, 400)])
@pytest.mark.parametrize("name", ["b.ome.tiff", "b.ome.zarr", "b.png"])
def test_slides_of_any_size_are_upscaled_exactly(size, name):
    """Smaller than a window, as large as one, one pixel larger: with and without interiors and borders."""
    pixels = picture(*size)
    write_slide_file(Path("a.svs"), pixels, levels=1)
    succeeded("a.svs", name, "--scale", 2, "--compression", "lossless")
    if name.endswith(".zarr"):
        found = np.asarray(zarr.open_group(name, mode="r")["0"]).transpose(1, 2, 0)
    else:
        found = np.asarray(Image.open(name)) if name.endswith(".png") else pixels_of(name)
    np.testing.assert_array_equal(found, upscaled(2, pixels))


def test_mpp_is_reached():
    succeeded("a.tif", "b.ome.tiff", "--mpp", 0.3)
    with OpenSlide("b.ome.tiff") as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.3, rel=2e-3)
    xml = tifffile.TiffFile("b.ome.tiff").ome_metadata
    for stated in ("monai_iste", "tiny", "sha256", "Not for diagnosis", "0.5 um/px"):
        assert stated in xml
    assert "a.tif" not in xml  # a file's name may be a patient's


@pytest.mark.parametrize("name", ["b.png", "b.tif", "b.ome.zarr", "b.ome.tif"])
def test_a_region_in_every_format_has_the_pixels_of_the_whole(name):
    succeeded("a.tif", name, "--scale", 2, "--region", "50,180,101,90", "--compression", "lossless")
    expected = upscaled(2)[100:302, 360:540]
    if name.endswith(".zarr"):
        found = np.asarray(zarr.open_group(name, mode="r")["0"]).transpose(1, 2, 0)
    else:
        found = np.asarray(Image.open(name))
    np.testing.assert_array_equal(found, expected)


def test_tissue_only_leaves_background_to_interpolation(tmp_path):
    pixels = np.full((400, 900, 3), 240, np.uint8)
    pixels[:, :230] = picture(400, 230)
    write_slide_file(tmp_path / "g.tif", pixels)
    report = json.loads(
        succeeded("g.tif", "g.ome.tiff", "--scale", 1.5, "--tissue-only", "--compression", "lossless", "--json").stdout
    )
    assert 0.2 < report["images"][0]["tissue"] < 0.6
    found, network = pixels_of("g.ome.tiff"), upscaled(1.5, pixels)
    np.testing.assert_array_equal(found[:, :300], network[:, :300])
    assert np.ptp(found[:, -200:]) == 0


def test_consistency_is_mapped_beside_the_result():
    report = json.loads(succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--consistency", "--json").stdout)
    numbers = tifffile.imread("b.consistency.tif")
    assert numbers.shape == (3, 15, 27)
    for name, page in zip(("mean", "network", "bicubic"), numbers, strict=True):
        assert report["images"][0]["consistency"][name] == pytest.approx(page.mean(), rel=1e-4)
    np.testing.assert_allclose(numbers[0], numbers[1] - numbers[2], atol=1e-5)
    assert report["images"][0]["consistency"]["bicubic"] > 0
    assert Image.open("b.consistency.png").mode == "RGB"


def test_dry_run_prints_the_cost_and_leaves_nothing():
    before = sorted(os.listdir())
    result = succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--dry-run")
    assert "windows are left: about" in result.output
    assert "GB of disk" in result.output
    assert "would write b.ome.tiff: 230 x 420 -> 460 x 840" in result.output
    assert sorted(os.listdir()) == before


def test_a_folder_of_slides(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy("a.tif", "in/a.svs")
    Image.fromarray(PIXELS[:20, :30]).save("in/b.png")
    (tmp_path / "in" / "c.svs").write_text("not a slide")
    result = run("in", "out", "--scale", 2)
    assert result.exit_code == DataError.exit_code
    assert sorted(os.listdir("out")) == ["a.ome.tiff", "b.png"]
    assert result.output.count("error: ") == 1
    stamp = os.stat("out/a.ome.tiff").st_mtime_ns
    again = run("in", "out", "--scale", 2)
    assert "2 of 3 are there already" in again.output
    assert os.stat("out/a.ome.tiff").st_mtime_ns == stamp


def test_slides_of_one_name_keep_their_endings(tmp_path):
    (tmp_path / "in").mkdir()
    write_slide_file(tmp_path / "in" / "a.svs", PIXELS[:60, :60])
    write_slide_file(tmp_path / "in" / "a.ndpi", PIXELS[:70, :60])
    write_slide_file(tmp_path / "in" / "b.svs", PIXELS[:80, :60])
    write_slide_file(tmp_path / "in" / "b.ome.tiff", PIXELS[:90, :60])
    report = json.loads(succeeded("in", "out", "--scale", 2, "--json", "--consistency").stdout)
    heights = {"a.svs.ome.tiff": 120, "a.ndpi.ome.tiff": 140, "b.svs.ome.tiff": 160, "b.ome.tiff": 180}
    assert {os.path.basename(image["output"]): image["output_size"][0] for image in report["images"]} == heights
    maps = [name.replace("ome.tiff", "consistency.png") for name in heights]
    assert sorted(name for name in os.listdir("out") if name.endswith(".png")) == sorted(maps)
    assert "4 of 4 are there already" in succeeded("in", "out", "--scale", 2).output


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_killed_and_resumed(tmp_path):
    process = start("a.tif", "b.ome.tiff", "--scale", 2, "--compression", "lossless")
    wait_until(lambda: done("b.ome.tiff") >= 3, process)
    process.kill()
    process.communicate()
    assert not os.path.exists("b.ome.tiff")
    assert "--resume" in refused(OutputError, "a.tif", "b.ome.tiff", "--scale", 2)
    assert "another slide" in refused(OutputError, "a.tif", "b.ome.tiff", "--scale", 3, "--resume")
    result = succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--compression", "lossless", "--resume")
    assert "are done and are kept" in result.output
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), upscaled(2))
    assert not os.path.exists("b.ome.tiff.work")
    again = succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--resume")
    assert "complete already" in again.output
    assert "not the" not in again.output
    assert "the result of this job" in refused(OutputError, "a.tif", "b.ome.tiff", "--scale", 3, "--resume")
    assert "exists" in refused(OutputError, "a.tif", "b.ome.tiff", "--scale", 3)


def test_a_result_that_is_being_replaced_is_gone_on_with(monkeypatch):
    """--overwrite is for the result that is there; of the work on the new one nothing is lost."""
    succeeded("a.tif", "b.ome.tiff", "--scale", 1.5)
    before, write = pixels_of("b.ome.tiff"), WindowStore.write

    def interrupted(store, window, share):
        if len(store.done) == 2:
            raise KeyboardInterrupt
        return write(store, window, share)

    with monkeypatch.context() as patch:
        patch.setattr(WindowStore, "write", interrupted)
        assert run("a.tif", "b.ome.tiff", "--scale", 2, "--overwrite").exit_code == 130
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), before)
    result = succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--overwrite", "--resume", "--compression", "lossless")
    assert "2 of 6 windows are done and are kept" in result.output
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), upscaled(2))


def test_resume_begins_anew_where_there_is_nothing():
    result = succeeded("a.tif", "b.ome.tiff", "--scale", 1.5, "--resume")
    assert "starts from the beginning" in result.output
    assert len(read_seal(Path("b.ome.tiff"))["job"]) == 64


@pytest.mark.slow
def test_killed_at_ten_instants(tmp_path):
    """SIGKILL at 5 %, 15 % ... 95 % of the windows, and once while the result is written: the same pixels."""
    pixels = picture(1000, 1100)
    write_slide_file(tmp_path / "c.tif", pixels)
    command = ("c.tif", "c.ome.tiff", "--scale", 1.3, "--compression", "lossless")
    total, reused = 36, 0
    for share in [*(0.05 + 0.1 * i for i in range(10)), 1.0]:
        process = start(*command, "--resume")
        wait_until(lambda share=share: done("c.ome.tiff") >= share * total, process)
        process.kill()
        output = process.communicate()[0]
        assert not os.path.exists("c.ome.tiff")
        if reused:
            assert f"{reused} of {total} windows are done and are kept" in output
        reused = done("c.ome.tiff")
    result = succeeded(*command, "--resume")
    assert f"{total} of {total} windows are done" in result.output
    np.testing.assert_array_equal(pixels_of("c.ome.tiff"), upscaled(1.3, pixels))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stopped_politely(how):
    process = start("a.tif", "b.ome.tiff", "--scale", 2)
    wait_until(lambda: done("b.ome.tiff") >= 2, process)
    process.send_signal(how)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + how
    assert "--resume" in output
    assert "Traceback" not in output
    assert done("b.ome.tiff") >= 2


def test_the_source_vanishes_midway(tmp_path):
    process = start("a.tif", "b.ome.tiff", "--scale", 2)
    wait_until(lambda: done("b.ome.tiff") >= 1, process)
    os.truncate("a.tif", 2000)
    output = process.communicate(timeout=120)[0]
    assert process.returncode in (DataError.exit_code, OutputError.exit_code), output
    assert "error: Expected" in output
    assert "Traceback" not in output
    assert not os.path.exists("b.ome.tiff")
    write_slide_file(tmp_path / "a.tif", PIXELS, icc=SRGB)
    succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--compression", "lossless", "--resume")
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), upscaled(2))


def test_the_output_folder_vanishes_midway(tmp_path):
    (tmp_path / "out").mkdir()
    process = start("a.tif", "out/b.ome.tiff", "--scale", 2, "--work-dir", ".")
    wait_until(lambda: done("b.ome.tiff") >= 1, process)
    shutil.rmtree("out")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == OutputError.exit_code, output
    assert "error: Expected" in output
    assert "Traceback" not in output
    (tmp_path / "out").mkdir()
    result = succeeded("a.tif", "out/b.ome.tiff", "--scale", 2, "--work-dir", ".", "--resume")
    assert "6 of 6 windows are done" in result.output


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_each_mistake_has_its_sentence(tmp_path):
    (tmp_path / "text.svs").write_text("a text")
    write_slide_file(tmp_path / "nameless.tif", PIXELS, mpp=None)
    (tmp_path / "b.ome.tiff.work").mkdir()
    (tmp_path / "b.ome.tiff.work" / "letter.doc").touch()
    sentences = {
        refused(DataError, "text.svs", "c.ome.tiff", "--scale", 2),
        refused(DataError, "missing.svs", "c.ome.tiff", "--scale", 2),
        refused(DataError, "nameless.tif", "c.ome.tiff", "--mpp", 0.25),
        refused(ScaleError, "a.tif", "c.ome.tiff", "--mpp", 0.6),
        refused(ScaleError, "a.tif", "c.ome.tiff", "--mpp", 0.002),
        refused(ScaleError, "a.tif", "c.ome.tiff", "--mpp", 1e-9),
        refused(ShapeError, "a.tif", "c.ome.tiff", "--scale", 2, "--region", "0,0,500,10"),
        refused(ConfigError, "a.tif", "c.ome.tiff", "--scale", 2, "--region", "0,0,50"),
        refused(ConfigError, "a.tif", "c.ome.tiff", "--scale", 2, "--compression", "zip"),
        refused(ConfigError, "a.tif", "c.ome.tiff", "--scale", 2, "--workers", 2, "--scheduler", "tcp://a:1"),
        refused(OutputError, "a.tif", "c.svs", "--scale", 2),
        refused(OutputError, "a.tif", "absent/c.ome.tiff", "--scale", 2),
        refused(OutputError, "a.tif", "b.ome.tiff", "--scale", 2),
        refused(OutputError, "a.tif", "a.tif", "--scale", 2, "--region", "0,0,50,50"),
    }
    assert len(sentences) == 14


def test_an_unknown_pixel_size_is_recorded_as_unknown(tmp_path):
    write_slide_file(tmp_path / "n.tif", PIXELS, mpp=None)
    result = succeeded("n.tif", "n.ome.tiff", "--scale", 2, "--region", "0,0,60,60")
    assert "unknown um/px" in result.output
    assert "openslide.mpp-x" not in OpenSlide("n.ome.tiff").properties
    succeeded("n.tif", "m.ome.tiff", "--mpp", 0.25, "--input-mpp", 0.5, "--region", "0,0,60,60")
    assert float(OpenSlide("m.ome.tiff").properties["openslide.mpp-x"]) == pytest.approx(0.25)


def test_the_users_pixel_size_counts_and_a_contradiction_is_named():
    result = succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--input-mpp", 0.4, "--region", "0,0,60,60")
    assert "itself states 0.5 um/px" in result.output
    assert float(OpenSlide("b.ome.tiff").properties["openslide.mpp-x"]) == pytest.approx(0.2)


def test_a_disk_that_is_too_small(monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    result = run("a.tif", "b.ome.tiff", "--scale", 2)
    assert result.exit_code == OutputError.exit_code
    assert "Free disk space" in result.output
    assert not os.path.exists("b.ome.tiff")
    os.mkdir("small")  # as if it were another disk
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=1000 if str(path) == "small" else usage.free)
    )
    result = run("a.tif", "small/b.ome.tiff", "--scale", 2, "--work-dir", ".", "--overwrite")
    assert result.exit_code == OutputError.exit_code
    assert "of free space for small/b.ome.tiff, got 1e-06 GB" in result.output
    monkeypatch.undo()
