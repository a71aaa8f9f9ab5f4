"""``--input-blur`` of upscale and compare: pixels, records, results of another blur, and what is refused."""

import json
import os
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from commands import TISSUE, assert_refused, files, run
from PIL import Image
from slide_files import picture, write_slide_file
from told_preset import add_told_preset, save_told_weights, told_network

from monai_iste.errors import ConfigError, OutputError
from monai_iste.functional import upscale
from monai_iste.io.image_reader import read_rgb
from monai_iste.io.seal import read_seal

PIXELS = TISSUE[:20, :30]
TOLD = "../weights/told.safetensors"


@pytest.fixture(autouse=True)
def told(tmp_path, monkeypatch):
    add_told_preset(monkeypatch)
    return save_told_weights(tmp_path / "weights" / "told.safetensors")


def told_run(*arguments, blur=None):
    words = () if blur is None else ("--input-blur", blur)
    return run(*arguments, *words, preset="told", weights=TOLD)


def succeeded(*arguments, blur=None):
    result = told_run(*arguments, blur=blur)
    assert result.exit_code == 0, result.output
    return result


def expected(scale, blur, pixels=PIXELS):
    return upscale(pixels, scale, model=told_network(), input_blur=blur)


def pixels_of(path):
    return read_rgb(path).transpose(1, 2, 0)


# --- pixels and records -----------------------------------------------------------------------------------------------


def test_an_image_is_what_upscale_makes_of_it():
    found = {}
    for blur in (None, 0, 0.25, 0.4):
        report = json.loads(succeeded("upscale", "a.png", f"{blur}.png", "--scale", 3.7, "--json", blur=blur).stdout)
        assert report["input_blur"] == blur
        found[blur] = pixels_of(f"{blur}.png")
        np.testing.assert_array_equal(found[blur], expected(3.7, blur))
    for blur in (0, 0.25, 0.4):
        assert np.abs(found[blur].astype(int) - found[None]).mean() > 1
    assert np.abs(found[0].astype(int) - found[0.4]).mean() > 1


@pytest.mark.parametrize("target", ["b.ome.tiff", "b.tif"])
def test_a_slide_is_what_upscale_makes_of_it(target):
    pytest.importorskip("imagecodecs", reason="needs the extra slides")
    from monai_iste.inferers import Region
    from monai_iste.slides import Slide

    slide = picture(60, 210)  # two windows
    write_slide_file("slide.tif", slide)
    succeeded("upscale", "slide.tif", target, "--scale", 2, "--compression", "lossless", blur=0.4)
    with Slide(target) as written:
        found = written.read(Region(0, 0, 120, 420))
    np.testing.assert_array_equal(found, expected(2, 0.4, slide))


def test_a_slide_states_what_its_network_was_told():
    pytest.importorskip("imagecodecs", reason="needs the extra slides")
    import tifffile

    write_slide_file("slide.tif", picture(60, 50))
    for blur, states in ((None, False), (0, True), (0.123456789, True)):
        report = succeeded("upscale", "slide.tif", f"{blur}.ome.tiff", "--scale", 2, "--json", blur=blur)
        assert json.loads(report.stdout)["input_blur"] == blur
        with tifffile.TiffFile(f"{blur}.ome.tiff") as tiff:
            assert ('<M K="input_blur">' in tiff.ome_metadata) == states
            assert not states or f'<M K="input_blur">{float(blur)}</M>' in tiff.ome_metadata


def test_a_dry_run_states_it_too():
    report = json.loads(succeeded("upscale", "a.png", "b.png", "--scale", 2, "--dry-run", "--json", blur=0.3).stdout)
    assert report["input_blur"] == 0.3
    assert files() == ["a.png"]


def test_workers_are_told_too():
    """They get the network as bytes, with what it was told."""
    network = told_network().with_input_blur(0.4)
    sent = ForkingPickler.loads(ForkingPickler.dumps(network))
    assert sent.input_blur == 0.4
    np.testing.assert_array_equal(upscale(PIXELS, 2, model=sent), expected(2, 0.4))


# --- results of another blur ------------------------------------------------------------------------------------------


def test_the_seal_is_that_of_the_blur():
    jobs = set()
    for blur in (None, 0, 0.4):
        succeeded("upscale", "a.png", f"{blur}.png", "--scale", 2, blur=blur)
        jobs.add(read_seal(Path(f"{blur}.png"))["job"])
    assert len(jobs) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("before", "after"), [(None, 0), (0, 0.4), (0.4, None)])
def test_a_folder_does_not_skip_results_of_another_blur(precision, before, after):
    os.mkdir("in")
    os.rename("a.png", "in/a.png")
    words = ("upscale", "in", "out", "--scale", 2, "--precision", precision)
    succeeded(*words, blur=before)
    assert "1 of 1 are there already" in succeeded(*words, blur=before).stderr
    first = pixels_of("out/a.png")
    refused = told_run(*words, blur=after)
    assert refused.exit_code == OutputError.exit_code
    assert "--overwrite" in refused.stderr
    np.testing.assert_array_equal(pixels_of("out/a.png"), first)
    succeeded(*words, "--overwrite", blur=after)
    assert np.abs(pixels_of("out/a.png").astype(int) - first).mean() > 1


@pytest.fixture
def interrupted(monkeypatch):
    """A function that runs a command and ends it at its second window."""
    pytest.importorskip("zarr")
    from monai_iste.slides.window_store import WindowStore

    write = WindowStore.write

    def stop(store, window, output):
        if len(store.done) == 1:
            raise KeyboardInterrupt
        return write(store, window, output)

    def interrupt(*arguments, blur=None):
        with monkeypatch.context() as patch:
            patch.setattr(WindowStore, "write", stop)
            assert told_run(*arguments, blur=blur).exit_code == 130

    return interrupt


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("before", "after"), [(None, 0.4), (0.4, 0.25), (0, None)])
def test_work_of_another_blur_is_not_continued(interrupted, precision, before, after):
    slide = picture(60, 210)
    write_slide_file("slide.tif", slide)
    words = ("upscale", "slide.tif", "b.tif", "--scale", 2, "--resume", "--precision", precision)
    interrupted(*words, blur=before)
    left = files()
    assert "b.tif.work/ledger.txt" in left
    assert_refused(told_run(*words, blur=after), OutputError, "another slide, network, blur", left=left)
    assert "1 of 2 windows are done and are kept" in succeeded(*words, blur=before).output
    if precision == "fp32":
        np.testing.assert_array_equal(pixels_of("b.tif"), expected(2, before, slide))
    left = files()
    assert_refused(told_run(*words, blur=after), OutputError, "another slide, network, blur", left=left)


# --- comparison -------------------------------------------------------------------------------------------------------


def test_a_comparison_is_told_the_blur():
    Image.fromarray(TISSUE[:107, :107]).save("tile.png")
    sheets = {}
    for blur in (None, 0.4):
        succeeded("compare", "tile.png", "--scale", 3, "-o", f"{blur}.png", blur=blur)
        sheets[blur] = np.asarray(Image.open(f"{blur}.png"))
        whole = expected(3, blur, TISSUE[:107, :107])
        np.testing.assert_array_equal(sheets[blur][42:-6, 658 : 658 + 320], whole[:320, :320])
    changed = np.abs(sheets[0.4].astype(int) - sheets[None]).sum(axis=(0, 2)) > 0
    assert not changed[:658].any()  # the source and bicubic


def test_a_comparison_with_the_truth_is_told_the_blur():
    Image.fromarray(TISSUE[:96, :120]).save("tile.png")
    succeeded("compare", "tile.png", "--scale", 4, "--degrade", "-o", "b.png", blur=0.375)
    succeeded("compare", "tile.png", "--scale", 4, "--degrade", "-o", "c.png")
    told, blind = (np.asarray(Image.open(name)).astype(int) for name in ("b.png", "c.png"))
    changed = np.flatnonzero(np.abs(told - blind).sum(axis=(0, 2)))
    panels = {int(column) // 230 for column in changed}
    assert 2 in panels  # after the input and bicubic, before the truth and the errors
    assert panels.isdisjoint({0, 1, 3, 4})


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blur", ["-0.1", "nan", "inf", "-inf"])
@pytest.mark.parametrize("command", [("upscale", "a.png", "b.png", "--scale", 2), ("compare", "a.png", "-o", "b.png")])
def test_a_blur_that_cannot_be(command, blur):
    words = "an input_blur of at least 0 pixels", f"got {blur}"
    assert_refused(run(*command, f"--input-blur={blur}", preset="told", weights=TOLD), ConfigError, *words)


def test_a_blur_that_is_no_number():
    result = told_run("upscale", "a.png", "b.png", "--scale", 2, blur="soft")
    assert result.exit_code == 2
    assert "--input-blur" in result.stderr
    assert "Traceback" not in result.output
    assert files() == ["a.png"]


@pytest.mark.parametrize("blur", [0.56, 5])
def test_more_blur_than_the_released_weights_learned(blur):
    """The range that was learned is part of the sentence."""
    for command in (("upscale", "a.png", "b.png", "--scale", 2), ("compare", "a.png", "-o", "b.png")):
        result = run(*command, "--input-blur", blur, "--preset", "iste_light2", preset=None)
        assert_refused(result, ConfigError, "an input_blur from 0 to 0.55 pixels, as learned", str(blur))


@pytest.mark.parametrize("preset", ["iste_light", "iste", "liif_light", "bicubic", "edsr_small"])
def test_networks_that_take_none(preset):
    words = ("--input-blur", 0.3, "--preset", preset, "--allow-untrained")
    result = run("upscale", "a.png", "b.png", "--scale", 2, *words, preset=None)
    assert_refused(result, ConfigError, "a network that can be told the blur of its input", "got an input_blur of 0.3")


def test_the_tiny_network_takes_none():
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--input-blur", 0)
    assert_refused(result, ConfigError, "a network that can be told the blur of its input", "got an input_blur of 0.0")


def test_nothing_of_a_folder_is_written():
    os.mkdir("in")
    os.rename("a.png", "in/a.png")
    assert_refused(told_run("upscale", "in", "out", "--scale", 2, blur=-1), ConfigError, left=["in/a.png"])
    assert not os.path.exists("out")
