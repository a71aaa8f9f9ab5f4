"""The command: results, and one sentence with an exit code for every error."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch
from PIL import Image, ImageCms
from skimage.data import immunohistochemistry
from typer.testing import CliRunner

import monai_iste
from monai_iste import networks
from monai_iste.cli import jobs
from monai_iste.cli import main as cli
from monai_iste.errors import CheckpointError, ConfigError, DataError, OutputError, ScaleError, ShapeError
from monai_iste.functional import upscale
from monai_iste.io.image_reader import probe, read_rgb
from monai_iste.networks import PRESETS, EDSREncoder, create_iste, presets

TISSUE = immunohistochemistry()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    """A preset named tiny, and its weights; the command runs in an empty folder."""
    arguments = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}
    monkeypatch.setitem(PRESETS, "tiny", presets.Preset("for tests", lambda: EDSREncoder(8, 1), arguments))
    torch.manual_seed(0)
    path = tmp_path / "weights" / "tiny.safetensors"
    path.parent.mkdir()
    safetensors.torch.save_file(create_iste("tiny").state_dict(), path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Image.fromarray(TISSUE[:20, :30]).save("a.png", icc_profile=SRGB)
    return path


def run(*arguments, preset="tiny", weights=None):
    if arguments[0] != "presets" and preset:
        arguments = (*arguments, "--preset", preset)
        arguments += ("--weights", str(weights or "../weights/tiny.safetensors"), "--device", "cpu")
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def files(folder="."):
    return sorted(
        os.path.relpath(os.path.join(root, name), folder) for root, _, names in os.walk(folder) for name in names
    )


def assert_refused(result, kind, *words, left=("a.png",)):
    """One sentence on standard error, the exit code of its kind, nothing on standard output, no other file."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == (kind if isinstance(kind, int) else kind.exit_code), result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert files() == sorted(left)


# --- one image --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "TIFF"])
def test_one_image(suffix, weights):
    result = run("upscale", "a.png", f"b.{suffix}", "--scale", "3.7")
    assert result.exit_code == 0, result.output
    assert f"b.{suffix}: 20 x 30 -> 74 x 111 (H x W, x3.7)" in result.stdout
    expected = upscale(TISSUE[:20, :30], 3.7, model=monai_iste.load("tiny", weights))
    np.testing.assert_array_equal(read_rgb(f"b.{suffix}").transpose(1, 2, 0), expected)
    assert probe(f"b.{suffix}").icc == SRGB
    assert files() == ["a.png", f"b.{suffix}"]


@pytest.mark.parametrize("size", [(1, 1), (7, 5)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_very_small_images(size, suffix):
    Image.fromarray(TISSUE[: size[0], : size[1]]).save("small.png")
    assert run("upscale", "small.png", f"b.{suffix}", "--scale", "2.5").exit_code == 0
    assert Image.open(f"b.{suffix}").size == (round(size[1] * 2.5), round(size[0] * 2.5))
    assert run("compare", "small.png").exit_code == 0


def test_a_large_image_is_not_refused_as_a_bomb(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns of more, and refuses twice as many
    with warnings.catch_warnings(record=True) as seen:
        assert run("upscale", "a.png", "b.png", "--scale", 1.5).exit_code == 0
    assert not seen


def test_exact_size():
    assert run("upscale", "a.png", "b.png", "--size", "41x30").exit_code == 0
    assert Image.open("b.png").size == (30, 41)


def test_pixel_size_that_the_file_states():
    tifffile.imwrite(
        "in.tif", TISSUE[:20, :30], photometric="rgb", resolution=(20_000, 20_000), resolutionunit="CENTIMETER"
    )
    assert "0.25 um/px" in run("upscale", "in.tif", "b.tif", "--mpp", "0.25").stdout
    assert probe("b.tif").mpp == pytest.approx((0.25, 0.25))
    assert Image.open("b.tif").size == (60, 40)
    run("upscale", "in.tif", "c.tif", "--size", "30x60")
    assert probe("c.tif").mpp == pytest.approx((1 / 3, 0.25))
    run("upscale", "in.tif", "d.png", "--scale", "2")
    assert Image.open("d.png").info["dpi"] == pytest.approx((101_600, 101_600), rel=1e-4)


def test_pixel_size_that_the_user_states():
    run("upscale", "a.png", "b.tif", "--mpp", "0.25", "--input-mpp", "0.62")
    assert Image.open("b.tif").size == (74, 50)
    assert probe("b.tif").mpp == pytest.approx((0.62 * 20 / 50, 0.62 * 30 / 74))


def test_existing_outputs_need_overwrite():
    Image.fromarray(TISSUE[:2, :2]).save("b.png")
    assert_refused(run("upscale", "a.png", "b.png", "--scale", 2), OutputError, "which exists", left=("a.png", "b.png"))
    assert Image.open("b.png").size == (2, 2)
    assert run("upscale", "a.png", "b.png", "--scale", 2, "--overwrite").exit_code == 0
    assert Image.open("b.png").size == (60, 40)


def test_report_in_json(weights):
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--json", "--input-mpp", 0.5, "--precision", "bf16")
    report = json.loads(result.stdout)
    (image,) = report.pop("images")
    assert image.pop("seconds") >= 0
    sizes = {"input_size": [20, 30], "output_size": [40, 60], "scale": [2.0, 2.0], "mpp": [0.25, 0.25]}
    assert image == {"input": "a.png", "output": "b.png", **sizes}
    assert report.pop("weights").endswith("tiny.safetensors")
    about = {"version": monai_iste.__version__, "preset": "tiny", "device": "cpu", "precision": "bf16"}
    assert report == {**about, "dry_run": False, "skipped": 0, "failed": 0}


@pytest.mark.parametrize("supported", [True, False])
def test_a_processor_without_bfloat16_is_pointed_out(supported, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--precision", "bf16")
    assert result.exit_code == 0
    assert ("emulates bfloat16" in result.stderr) != supported


def test_dry_run_changes_nothing():
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--dry-run")
    assert result.exit_code == 0
    assert "would write b.png: 20 x 30 -> 40 x 60" in result.stdout
    assert run("upscale", "a.png", "b.png", "--scale", 2, "--dry-run", "--json").exit_code == 0
    assert files() == ["a.png"]
    assert_refused(run("upscale", "a.png", "b.gif", "--scale", 2, "--dry-run"), OutputError, "b.gif")


def test_threads():
    before = torch.get_num_threads()
    try:
        assert run("upscale", "a.png", "b.png", "--scale", 2, "--threads", 2).exit_code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert run("upscale", "a.png", "c.png", "--scale", 2, "--threads", 0).exit_code == 2


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder():
    os.makedirs("in/deep")
    for i, name in enumerate(["a.png", "b.bmp", "deep/c.jpg"]):
        Image.fromarray(TISSUE[i : 8 + i, : 6 + i]).save(f"in/{name}")
    os.remove("a.png")


def test_a_folder(folder):
    result = run("upscale", "in", "out", "--scale", 2)
    assert result.exit_code == 0, result.output
    assert files("out") == ["a.png", "b.bmp.png", "deep/c.jpg"]
    assert Image.open("out/b.bmp.png").size == (14, 16)
    assert len(result.stdout.splitlines()) == 3


def test_a_folder_resumes(folder):
    run("upscale", "in", "out", "--scale", 2)
    os.remove("out/b.bmp.png")
    before = os.stat("out/a.png").st_mtime_ns
    result = run("upscale", "in", "out", "--scale", 2, "--json")
    assert "2 of 3 are there already and are skipped" in result.stderr
    assert json.loads(result.stdout)["skipped"] == 2
    assert [image["output"] for image in json.loads(result.stdout)["images"]] == ["out/b.bmp.png"]
    assert os.stat("out/a.png").st_mtime_ns == before
    result = run("upscale", "in", "out", "--scale", 3)
    assert result.exit_code == OutputError.exit_code
    assert "24 x 18 pixels" in result.stderr
    assert "--overwrite" in result.stderr
    assert run("upscale", "in", "out", "--scale", 3, "--overwrite").exit_code == 0
    assert Image.open("out/a.png").size == (18, 24)


def test_one_bad_image_does_not_cost_the_others(folder):
    with open("in/b.bmp", "w") as file:
        file.write("no image")
    os.truncate("in/deep/c.jpg", os.path.getsize("in/deep/c.jpg") // 2)
    result = run("upscale", "in", "out", "--scale", 2, "--json")
    assert result.exit_code == DataError.exit_code
    assert result.stderr.count("error: ") == 2
    assert json.loads(result.stdout)["failed"] == 2
    assert files("out") == ["a.png"]


@pytest.mark.parametrize("target", ["in", "in/deep", "in/new", "./in/../in"])
def test_results_among_the_inputs_are_refused(folder, target):
    before = files()
    assert_refused(run("upscale", "in", target, "--scale", 2), OutputError, "outside in", left=before)


def test_a_folder_that_cannot_be_made(folder):
    result = run("upscale", "in", "/proc/out", "--scale", 2)
    assert result.exit_code == OutputError.exit_code
    assert result.stderr.splitlines()[-1].startswith("error: Expected to be able to make the folder /proc/out")


def test_a_folder_needs_a_folder(folder):
    open("file", "w").close()
    assert_refused(run("upscale", "in", "file", "--scale", 2), OutputError, "the file file", left=files())
    os.makedirs("none")
    assert_refused(run("upscale", "none", "out", "--scale", 2), DataError, "none", left=files())


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ("0", ["finite scale above 0", "0.0"]),
        ("-2", ["finite scale above 0", "-2.0"]),
        ("nan", ["finite scale above 0", "nan"]),
        ("inf", ["finite scale above 0", "inf"]),
        ("1e6", ["20,000,000 x 30,000,000", "1,800,000.0 GB"]),
        ("1000", ["208 x 208", "x1000"]),
        ("1e308", ["output of at most"]),
        ("0.5", ["at least 1", "resampler"]),
    ],
)
def test_unusable_scales(scale, words):
    assert_refused(run("upscale", "a.png", "b.png", "--scale", scale), ScaleError, *words)
    assert_refused(run("compare", "a.png", "--scale", scale), ScaleError, *words)


def test_inputs_that_are_none(caplog):
    with open("text.png", "w") as file:
        file.write("no image")
    Image.fromarray(TISSUE[:200, :300]).save("half.jpg")
    os.truncate("half.jpg", os.path.getsize("half.jpg") // 2)
    with open("cut.tif", "wb") as file:
        file.write(b"II*\0\xff\xff\xff\x7f")  # tifffile would log a line of its own
    left = files()
    for name, words in {
        "missing.png": ["missing.png, which does not exist"],
        "text.png": ["readable image in text.png"],
        "cut.tif": ["readable image in cut.tif"],
        "half.jpg": ["readable image in half.jpg", "truncated"],
        "/dev/null": ["an image file"],
        f"{'a' * 260}.png": [],
    }.items():
        assert_refused(run("upscale", name, "b.png", "--scale", 2), DataError, *words, left=left)
        assert_refused(run("compare", name, "-o", "b.png"), DataError, *words, left=left)
    assert not caplog.text  # outside of pytest it would stand on standard error


def test_outputs_that_cannot_be():
    cases = {
        "a.png": ["other than the input"],
        "./a.png": ["other than the input"],
        "b.gif": ["ends in .png", ".ome.tiff", ".ome.zarr"],
        "missing/b.png": ["existing folder", "missing"],
        "a.png/b.png": ["existing folder"],
        "..": ["ends in .png"],
        "/proc/b.png": ["/proc/b.png"],
        f"{'b' * 260}.png": ["able to write"],
    }
    for name, words in cases.items():
        assert_refused(run("upscale", "a.png", name, "--scale", 2, "--overwrite"), OutputError, *words)
    assert_refused(run("compare", "a.png", "-o", "a.png", "--overwrite"), OutputError, "other than the input")
    os.symlink("a.png", "link.png")
    result = run("upscale", "a.png", "link.png", "--scale", 2, "--overwrite")
    assert_refused(result, OutputError, "other than the input", left=("a.png", "link.png"))


def test_too_small_a_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5000, 5000))
    assert_refused(run("upscale", "a.png", "b.tif", "--scale", 2), OutputError, "of free space", "5e-06 GB")


def test_a_disk_that_fills_up_meanwhile(monkeypatch):
    def fill(*arguments):
        yield torch.zeros(3, 1, 60)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs, "upscale_bands", fill)
    result = run("upscale", "a.png", "b.png", "--scale", 2)
    assert result.exit_code == OutputError.exit_code
    assert result.stderr.splitlines()[-1].startswith("error: Expected to be able to write b.png, got No space left")
    assert files() == ["a.png"]


def test_presets_and_weights_that_do_not_fit(weights):
    assert_refused(run("upscale", "a.png", "b.png", "--scale", 2, preset="huge"), ConfigError, "iste_light", "'huge'")
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--preset", "iste", preset=None)
    assert_refused(result, ConfigError, "'iste', which has none", "--allow-untrained")
    result = run("upscale", "a.png", "b.png", "--scale", 2, preset="iste_light", weights=weights)
    assert_refused(result, CheckpointError, "tensors that differ")
    for wrong in ("missing.safetensors", "a.png"):
        assert_refused(run("upscale", "a.png", "b.png", "--scale", 2, weights=wrong), CheckpointError, wrong)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ([], ConfigError, ["one of --scale, --size and --mpp"]),
        (["--scale", 2, "--size", "40x60"], ConfigError, ["one of --scale, --size and --mpp"]),
        (["--size", "40"], ConfigError, ["'40'", "HxW"]),
        (["--size", "10x60"], ScaleError, ["20 x 30", "10 x 60"]),
        (["--mpp", "0.25"], DataError, ["pixel size of a.png", "--input-mpp"]),
        (["--mpp", "1", "--input-mpp", "0.5"], ScaleError, ["at most 0.5"]),
        (["--mpp", "nan", "--input-mpp", "0.5"], ScaleError, ["--mpp", "nan"]),
        (["--mpp", "0.2", "--input-mpp", "-1"], ScaleError, ["--input-mpp", "-1"]),
        (["--scale", 2, "--device", "warp"], ConfigError, ["'warp'"]),
        (["--scale", 2, "--precision", "int1"], ConfigError, ["'int1'"]),
    ],
)
def test_options_that_make_no_sense(options, kind, words):
    arguments = ["upscale", "a.png", "b.png", "--preset", "tiny", "--weights", "../weights/tiny.safetensors", *options]
    assert_refused(run(*arguments, preset=None), kind, *words)


def test_usage_errors():
    many = ["upscale", "a.png", "b.png", "--scale", "2", "--threads", "100000"]  # the system would end the process
    for arguments in (["upscale"], ["upscale", "a.png", "b.png", "--scale", "much"], ["enlarge"], many):
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 2
        assert "Usage:" in result.stderr


def test_untrained_weights_come_with_a_warning():
    result = run("upscale", "a.png", "b.png", "--scale", 2, "--preset", "iste_small", "--allow-untrained", preset=None)
    assert result.exit_code == 0
    assert "warning: the weights are random" in result.stderr


def test_interrupted(monkeypatch):
    def interrupt(*arguments):
        yield torch.zeros(3, 1, 60)
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "upscale_bands", interrupt)
    result = run("upscale", "a.png", "b.png", "--scale", 2)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("interrupted")
    assert files() == ["a.png"]


# --- compare, presets -------------------------------------------------------------------------------------------------


def test_comparison_where_most_is_to_be_seen(weights):
    pixels = np.full((110, 220, 3), 128, np.uint8)
    pixels[:107, 107:214] = TISSUE[:107, :107]
    Image.fromarray(pixels).save("large.png")
    result = run("compare", "large.png", "--scale", 3)
    assert result.stdout == "wrote comparison.png\n"
    sheet = np.asarray(Image.open("comparison.png"))
    source, bicubic, iste = (sheet[42:-6, left : left + 320] for left in (6, 332, 658))
    whole = upscale(pixels, 3, model=monai_iste.load("tiny", weights))
    np.testing.assert_array_equal(iste, whole[:320, 321:641])
    whole = np.asarray(Image.fromarray(pixels).resize((660, 330), Image.Resampling.BICUBIC))
    assert np.abs(bicubic.astype(int) - whole[:320, 321:641]).max() <= 1
    np.testing.assert_array_equal(source[1::3, 1::3], TISSUE[:107, :107])
    assert_refused(run("compare", "large.png"), OutputError, "comparison.png, which exists", left=files())


def test_comparison_with_truth():
    Image.fromarray(TISSUE[:150, :200]).save("large.png")
    assert run("compare", "large.png", "--scale", 3, "--degrade", "-o", "truth.png").exit_code == 0
    assert Image.open("truth.png").size == (6 * 230 + 6, 263)


def test_what_cannot_be_compared_with_truth_is_a_sentence():
    """The protocol's transforms are MONAI's Compose, which wraps what they raise."""
    Image.fromarray(TISSUE).save("half.png")
    os.truncate("half.png", os.path.getsize("half.png") // 2)
    Image.fromarray(TISSUE[:3, :40]).save("flat.png")
    left = files()
    assert_refused(run("compare", "half.png", "--degrade"), DataError, "half.png", left=left)
    assert_refused(run("compare", "flat.png", "--degrade"), ShapeError, "40 x 3", left=left)


def test_presets_are_listed(monkeypatch, weights):
    monkeypatch.setattr(networks, "released_weights", lambda name: weights if name == "tiny" else None)
    lines = run("presets").stdout.splitlines()
    assert [line.split()[0] for line in lines[::3]] == list(PRESETS)
    assert "12.67 M  no weights" in lines[0]
    assert "weights, 0.0 MB" in lines[9]
    assert all("terms:" in line for line in lines[2::3])


# --- the real program -------------------------------------------------------------------------------------------------

PROGRAM = [sys.executable, "-c", "from monai_iste.cli.main import main; main()"]


def test_as_a_program():
    untrained = ["--preset", "iste_small", "--allow-untrained", "--device", "cpu"]
    arguments = ["upscale", "a.png", "b.png", "--scale", "1.5", "--json", *untrained]
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"][0]["output_size"] == [30, 45]
    assert files() == ["a.png", "b.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_an_undecodable_name_does_not_stop_a_folder():
    os.mkdir("in")
    for name in (b"in/M\xfcller.png", b"in/z.png"):
        shutil.copy("a.png", os.fsdecode(name))
    arguments = ["upscale", "in", "out", "--scale", "1.5", "--preset", "iste_small", "--allow-untrained"]
    for words in ("wrote out/M\\udcfcller.png", "2 of 2 are there already"):
        done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout + done.stderr
    assert sorted(os.listdir(b"out")) == [b"M\xfcller.png", b"z.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_report_that_cannot_be_written():
    arguments = ["upscale", "a.png", "b.png", "--scale", "1.5", "--preset", "iste_small", "--allow-untrained"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == OutputError.exit_code
    assert done.stderr.splitlines()[-1] == "error: No space left on device: standard output"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*PROGRAM, *arguments, "--overwrite"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 1
    assert "rror" not in done.stderr
    assert files() == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_leaves_nothing_half_written(number, code, word):
    Image.fromarray(TISSUE).save("large.png")
    untrained = ["--preset", "iste_light", "--allow-untrained", "--device", "cpu"]
    arguments = ["upscale", "large.png", "b.tif", "--scale", "8", *untrained]
    running = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not any(name.endswith(".part") for name in files()):
        time.sleep(0.05)
    running.send_signal(number)
    message = running.communicate(timeout=60)[1]
    assert running.returncode == code, message
    assert message.splitlines()[-1].startswith(f"{word}: ")
    assert "Traceback" not in message
    assert files() == ["a.png", "large.png"]
