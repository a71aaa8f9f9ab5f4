"""Results: complete means whole, of this job, compressed as asked, and with its map; else one sentence."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_commands import PIXELS, pixels_of, refused, run, succeeded, upscaled
from slide_files import picture, write_slide_file

from monai_iste.errors import DataError, OutputError
from monai_iste.io.seal import read_seal
from monai_iste.slides import job as jobs
from monai_iste.slides.window_store import WindowStore

zarr = pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")
pytestmark = pytest.mark.usefixtures("command_folder")

REGION = ("--scale", 1.3, "--region", "0,0,60,60")
INPUTS = ["a.tif", "program.py", "tiny.safetensors"]


def complete(*arguments):
    before = {name: os.stat(name).st_mtime_ns for name in os.listdir()}
    assert "complete already" in succeeded(*arguments).output
    assert {name: os.stat(name).st_mtime_ns for name in os.listdir()} == before


@pytest.mark.parametrize("name", ["b.png", "b.tif", "b.jpg", "b.ome.tiff", "b.ome.zarr"])
def test_only_the_result_of_the_same_job_is_complete(name):
    succeeded("a.tif", name, *REGION)
    complete("a.tif", name, *REGION, "--resume")
    for other in (
        ("--scale", 1.3, "--region", "100,100,60,60"),
        ("--scale", 1.3, "--region", "0,0,60,60", "--tissue-only"),
        ("--size", "299x547", "--region", "0,0,60,60"),
    ):
        assert "the result of this job" in refused(OutputError, "a.tif", name, *other, "--resume")
    pixels = PIXELS.copy()
    pixels[30, 30] ^= 1
    write_slide_file(Path("a.tif"), pixels)
    assert "that of another slide" in refused(OutputError, "a.tif", name, *REGION, "--resume")


@pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.ome.tiff"])
@pytest.mark.parametrize("damage", ["half", "end", "bit", "empty", "more"])
def test_a_damaged_result_is_not_complete(name, damage):
    succeeded("a.tif", name, *REGION)
    data = bytearray(Path(name).read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 4
    changed = {"half": data[: len(data) // 2], "end": data[:-1], "bit": data, "empty": b"", "more": data + b"\0"}
    Path(name).write_bytes(changed[damage])
    assert "not complete" in refused(OutputError, "a.tif", name, *REGION, "--resume")
    succeeded("a.tif", name, *REGION, "--resume", "--overwrite")
    complete("a.tif", name, *REGION, "--resume")


def test_jpeg_is_not_lossless_and_lossless_is_enough_for_jpeg():
    succeeded("a.tif", "b.ome.tiff", *REGION)
    message = refused(OutputError, "a.tif", "b.ome.tiff", *REGION, "--resume", "--compression", "lossless")
    assert "its result with --compression jpeg" in message
    succeeded("a.tif", "b.ome.tiff", *REGION, "--overwrite", "--compression", "lossless")
    complete("a.tif", "b.ome.tiff", *REGION, "--resume")
    complete("a.tif", "b.ome.tiff", *REGION, "--resume", "--compression", "lossless")
    succeeded("a.tif", "b.ome.zarr", *REGION)
    complete("a.tif", "b.ome.zarr", *REGION, "--resume", "--compression", "lossless")


@pytest.mark.parametrize("name", ["b.ome.tiff", "b.ome.zarr", "b.png"])
def test_a_missing_map_is_made_from_the_result(name):
    arguments = ("a.tif", name, "--scale", 1.3, "--region", "20,30,80,90", "--compression", "lossless", "--consistency")
    succeeded(*arguments)
    picture_file, numbers = sorted(file for file in os.listdir() if "consistency" in file)
    levels = tifffile.imread(numbers)
    os.remove(picture_file)
    report = json.loads(succeeded(*arguments, "--resume", "--json").stdout)["images"][0]
    assert report["complete"]
    assert report["consistency"]["mean"] == pytest.approx(levels[0].mean(), rel=1e-4)
    np.testing.assert_array_equal(tifffile.imread(numbers), levels)
    assert {file for file in os.listdir() if "consistency" in file} == {picture_file, numbers}
    complete(*arguments, "--resume")
    os.truncate(numbers, 300)
    assert "exists" in refused(OutputError, *arguments, "--resume")  # it may be somebody else's
    os.remove(numbers)
    succeeded(*arguments, "--resume")
    np.testing.assert_array_equal(tifffile.imread(numbers), levels)


def test_a_map_of_somebody_else_is_kept():
    Path("b.consistency.png").write_text("mine")
    assert "b.consistency.png" in refused(OutputError, "a.tif", "b.ome.tiff", *REGION, "--consistency")
    assert Path("b.consistency.png").read_text() == "mine"
    succeeded("a.tif", "b.ome.tiff", *REGION, "--consistency", "--overwrite")
    assert read_seal(Path("b.consistency.png"))["job"] == read_seal(Path("b.ome.tiff"))["job"]


@pytest.mark.parametrize("name", ["b.ome.tiff", "b.ome.zarr", "b.png"])
@pytest.mark.parametrize("at", ["map", "remove"])
def test_the_end_of_a_job_is_made_up_for(name, at, monkeypatch):
    """Interrupted after the result has its name: before the map, and before the work folder is removed."""
    arguments = ("a.tif", name, "--scale", 1.3, "--consistency", "--resume")
    succeeded("a.tif", f"c{name[1:]}", "--scale", 1.3, "--consistency")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            *((jobs.SlideResult, "write_maps") if at == "map" else (jobs.WindowStore, "killed")), killed, raising=False
        )
        if at == "remove":
            from monai_iste.slides.work_folder import WorkFolder

            patch.setattr(WorkFolder, "remove", killed)
        assert run(*arguments).exit_code == 130
    Path(f".{name}.1.part").touch()  # as a process that was killed leaves
    assert os.path.isdir(f"{name}.work")
    assert os.path.exists(name)
    output = succeeded(*arguments).output
    assert "complete already" in output
    assert "wrote" not in output
    assert sorted(os.listdir()) == sorted([*INPUTS, *(f for f in os.listdir() if f.startswith(("b.", "c.")))])
    assert not os.path.exists(f"{name}.work")
    ours, whole = (sorted(f for f in os.listdir() if f.startswith(letter)) for letter in "bc")
    assert [file[1:] for file in ours] == [file[1:] for file in whole]
    for one, other in zip(ours, whole, strict=True):
        if os.path.isfile(one):
            assert Path(one).read_bytes() == Path(other).read_bytes()
    complete(*arguments)


def test_work_of_another_job_beside_a_complete_result_is_kept():
    succeeded("a.tif", "b.ome.tiff", *REGION)
    os.rename("b.ome.tiff", "kept")

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.SlideResult, "write", killed)
        assert run("a.tif", "b.ome.tiff", "--scale", 2).exit_code == 130
    os.rename("kept", "b.ome.tiff")
    complete("a.tif", "b.ome.tiff", *REGION, "--resume")
    assert os.path.isdir("b.ome.tiff.work")


def test_all_damaged_windows_are_computed_again_in_one_run():
    """Also where they are found by several threads while the result is written."""
    arguments = ("a.tif", "b.ome.tiff", "--scale", 2, "--compression", "lossless", "--resume")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.SlideResult, "write", interrupt)
        assert run(*arguments).exit_code == 130
    chunks = sorted(path for path in Path("b.ome.tiff.work/windows.zarr").rglob("c/*/*") if path.is_file())
    assert len(chunks) == 12
    for chunk in chunks[::2]:
        chunk.unlink()
    chunks[1].write_bytes(b"")
    shutil.copy(chunks[3], chunks[5])  # whole, and of another window
    result = succeeded(*arguments)
    assert "stored windows were damaged" in result.output
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), upscaled(2))
    assert not os.path.exists("b.ome.tiff.work")


def test_windows_that_are_damaged_after_the_check_are_computed_again(monkeypatch):
    write, calls = jobs.SlideResult.write, []

    def damage(self, *arguments):
        if not calls:
            for chunk in Path("b.ome.tiff.work/windows.zarr/interior/c").rglob("*"):
                if chunk.is_file():
                    chunk.write_bytes(chunk.read_bytes()[:-7])
        calls.append(1)
        return write(self, *arguments)

    monkeypatch.setattr(jobs.SlideResult, "write", damage)
    result = succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--compression", "lossless")
    assert "6 stored windows were damaged" in result.output
    assert len(calls) == 2
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), upscaled(2))


# --- a source that changes --------------------------------------------------------------------------------------------


def change_at(patch, count, change):
    """Change the source when a number of windows were written."""
    write, calls = WindowStore.write, []

    def changed(store, window, output):
        calls.append(window)
        if len(calls) == count:
            change()
        return write(store, window, output)

    patch.setattr(WindowStore, "write", changed)


def rewrite(path, pixels):
    stat = os.stat(path)
    write_slide_file(Path("other.tif"), pixels)
    os.replace("other.tif", path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
def raw():
    """A slide without compression: another content has the same length, and only its middle differs."""

    def write(path, pixels):
        stat = os.stat(path) if os.path.exists(path) else None
        tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None)
        if stat is not None:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    write("r.tif", picture(900, 900))
    return write


def negative():
    pixels = picture(900, 900)
    pixels[400:600] = 255 - pixels[400:600]
    return pixels


@pytest.mark.parametrize("resumed", [True, False])
def test_a_replaced_source_is_never_mixed_in(raw, resumed):
    arguments = ("r.tif", "b.ome.tiff", "--scale", 1.1, "--region", "300,300,400,400", "--compression", "lossless")
    size = os.path.getsize("r.tif")
    with pytest.MonkeyPatch.context() as patch:
        if resumed:
            write, calls = WindowStore.write, []

            def interrupted(store, window, output):
                calls.append(window)
                if len(calls) == 4:
                    raise KeyboardInterrupt
                return write(store, window, output)

            patch.setattr(WindowStore, "write", interrupted)
            assert run(*arguments).exit_code == 130
            raw("r.tif", negative())
        else:
            change_at(patch, 4, lambda: raw("r.tif", negative()))
            result = run(*arguments)
            assert result.exit_code == DataError.exit_code, result.output
            assert "stay as it was" in result.output
    assert os.path.getsize("r.tif") == size
    assert not os.path.exists("b.ome.tiff")
    assert "another slide" in refused(OutputError, *arguments, "--resume")
    raw("r.tif", picture(900, 900))  # put back
    succeeded(*arguments, "--resume")
    succeeded("r.tif", "c.ome.tiff", *arguments[2:])
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), pixels_of("c.ome.tiff"))
    raw("r.tif", negative())
    succeeded("r.tif", "b.ome.tiff", *arguments[2:], "--overwrite")
    assert (pixels_of("b.ome.tiff") != pixels_of("c.ome.tiff")).any()


def test_a_source_that_changes_while_the_map_is_made_is_noticed(monkeypatch):
    made = jobs.SlideResult.write_maps

    def changed(self, *arguments):
        rewrite("a.tif", 255 - PIXELS)
        return made(self, *arguments)

    monkeypatch.setattr(jobs.SlideResult, "write_maps", changed)
    result = run("a.tif", "b.ome.tiff", *REGION, "--consistency")
    assert result.exit_code == DataError.exit_code
    assert "stay as it was" in result.output


def test_the_same_source_written_again_costs_some_windows_only():
    with pytest.MonkeyPatch.context() as patch:
        change_at(patch, 3, lambda: shutil.copy("a.tif", "other.tif") and os.replace("other.tif", "a.tif"))
        result = succeeded("a.tif", "b.ome.tiff", "--scale", 2, "--compression", "lossless")
    assert "written again, with the same content" in result.output
    np.testing.assert_array_equal(pixels_of("b.ome.tiff"), upscaled(2))


def test_flipped_bits_of_the_mask_are_noticed():
    pixels = np.full((400, 700, 3), 240, np.uint8)
    pixels[:, :230] = picture(400, 230)
    write_slide_file(Path("g.tif"), pixels)
    arguments = ("--scale", 1.5, "--tissue-only", "--compression", "lossless")
    succeeded("g.tif", "c.ome.tiff", *arguments)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    for place in (3, 150, -40, -1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs.SlideResult, "write", interrupt)
            assert run("g.tif", "b.ome.tiff", *arguments).exit_code == 130
        mask = Path("b.ome.tiff.work/tissue.npy")
        data = bytearray(mask.read_bytes())
        data[place] ^= 128
        mask.write_bytes(data)
        ledger = Path("b.ome.tiff.work/ledger.txt")
        ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:1]))
        succeeded("g.tif", "b.ome.tiff", *arguments, "--resume")
        np.testing.assert_array_equal(pixels_of("b.ome.tiff"), pixels_of("c.ome.tiff"))
        os.remove("b.ome.tiff")


# --- outputs that cannot be written -----------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nothing can be made")
@pytest.mark.parametrize("name", ["b.ome.tiff", "b.ome.zarr", "b.png"])
def test_an_output_that_cannot_be_written_is_found_before_the_work(name):
    for arguments in ((), ("--dry-run",)):
        assert "/proc/self" in refused(
            OutputError, "a.tif", f"/proc/self/{name}", "--scale", 2, "--work-dir", "work", *arguments
        )
    assert "able to" in refused(OutputError, "a.tif", name, "--scale", 2, "--work-dir", "/proc/self")


def test_long_names_are_refused_before_the_work_or_written():
    succeeded("a.tif", f"{'b' * 230}.ome.tiff", *REGION)
    assert "too long" in refused(OutputError, "a.tif", f"{'b' * 250}.ome.tiff", *REGION)
    assert "too long" in refused(OutputError, "a.tif", f"{'b' * 244}.ome.tiff", *REGION)  # the folder of the work
    assert "too long" in refused(OutputError, "a.tif", f"{'b' * 236}.png", *REGION, "--consistency")
