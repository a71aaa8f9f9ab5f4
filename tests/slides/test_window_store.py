"""The store of windows: interrupted, damaged, of another job, in use, on a full disk."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from reference import assert_teaches
from slide_files import picture, write_slide_file
from slide_windows import PIXELS, finished, nothing

from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.functional import upscale
from monai_iste.slides import compute
from monai_iste.slides.compute import compute_windows, read_window
from monai_iste.slides.plan import plan_slide
from monai_iste.slides.reader import Slide
from monai_iste.slides.tissue import TissueMask
from monai_iste.slides.window_store import WindowStore

zarr = pytest.importorskip("zarr")


def test_finished_windows_are_kept_and_the_rest_is_computed(slide, network, tmp_path, monkeypatch):
    plan = plan_slide(slide, network, scale=2)
    finished(plan, tmp_path / "work", slide, network, plan.windows[:3])
    again = WindowStore(tmp_path / "work", plan)
    assert again.begin(resume=True)
    assert set(again.done) == {window.key for window in plan.windows[:3]}
    asked = []
    monkeypatch.setattr(compute, "read_window", lambda s, w: asked.append(w.key) or read_window(s, w))
    compute_windows(again, [w for w in plan.windows if w.key not in again.done], slide, network, None, nothing)
    assert asked == [window.key for window in plan.windows[3:]]
    np.testing.assert_array_equal(again.assemble(plan.region), upscale(PIXELS, 2, model=network))


@pytest.mark.parametrize("tail", [b"0 1 12", b"0 1 1234abcd", b"0 1 1234abcd don", b"\0\0\0", b"\xff\xfe\x80"])
def test_a_line_that_was_cut_off_does_not_count(slide, network, tmp_path, tail):
    plan = plan_slide(slide, network, scale=2)
    store = finished(plan, tmp_path / "work", slide, network, plan.windows[:1])
    with open(tmp_path / "work" / "ledger.txt", "ab") as file:
        file.write(tail)
    again = WindowStore(tmp_path / "work", plan)
    assert again.done == store.done
    compute_windows(again, plan.windows[1:], slide, network, None, nothing)
    final = WindowStore(tmp_path / "work", plan)
    assert set(final.done) == {window.key for window in plan.windows}
    np.testing.assert_array_equal(final.assemble(plan.region), upscale(PIXELS, 2, model=network))


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip"])
def test_a_damaged_window_is_found_and_computed_again(slide, network, tmp_path, damage):
    plan = plan_slide(slide, network, scale=2)
    store = finished(plan, tmp_path / "work", slide, network)
    chunk = next(path for path in (tmp_path / "work" / "windows.zarr" / "interior").rglob("c/0/*"))
    data = chunk.read_bytes()
    if damage == "delete":
        chunk.unlink()
    else:
        chunk.write_bytes(data[:-20] if damage == "truncate" else data[:-9] + bytes([data[-9] ^ 255]) + data[-8:])
    again = WindowStore(tmp_path / "work", plan)
    with pytest.raises(DataError, match="--resume") as caught:
        again.assemble(plan.region)
    assert_teaches(caught.value)
    last = WindowStore(tmp_path / "work", plan)
    missing = [window for window in plan.windows if window.key not in last.done]
    assert len(missing) == 1
    compute_windows(last, missing, slide, network, None, nothing)
    np.testing.assert_array_equal(last.assemble(plan.region), store.assemble(plan.region))


@pytest.mark.parametrize("keep", [0, 100, None])
def test_a_damaged_mask_is_made_again(slide, network, tmp_path, keep):
    store = WindowStore(tmp_path / "work", plan_slide(slide, network, scale=2, tissue_only=True))
    store.begin()
    store.folder.write_mask(TissueMask(np.full((15, 27), 255, np.uint8), slide.size))
    assert store.folder.read_mask() is not None
    path = tmp_path / "work" / "tissue.npy"
    if keep is None:
        np.save(path, np.zeros((2, 2)))
    else:
        os.truncate(path, keep)
    assert store.folder.read_mask() is None


@pytest.mark.parametrize("text", ["", "{", None])
def test_damaged_metadata_of_zarr_are_written_again(slide, network, tmp_path, text):
    plan = plan_slide(slide, network, scale=2)
    store = finished(plan, tmp_path / "work", slide, network)
    description = tmp_path / "work" / "windows.zarr" / "interior" / "zarr.json"
    if text is None:
        description.unlink()
    else:
        description.write_text(text)
    again = WindowStore(tmp_path / "work", plan)
    with pytest.raises(DataError, match="store of windows") as caught:
        again.assemble(plan.region)
    assert_teaches(caught.value)
    with pytest.raises(DataError, match="store of windows"):
        compute_windows(again, plan.windows[:1], slide, network, None, nothing)
    last = WindowStore(tmp_path / "work", plan)
    assert last.begin(resume=True)
    assert last.verify() == []
    np.testing.assert_array_equal(last.assemble(plan.region), store.assemble(plan.region))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (60, 60), (208, 208), (209, 400), (240, 430)])
def test_no_chunk_is_empty(network, tmp_path, size):
    """A window may have no interior, and a single one no border; older versions of Zarr took a chunk of 0 pixels."""
    pixels = picture(*size)
    with Slide(write_slide_file(tmp_path / "a.tif", pixels, levels=1)) as slide:
        plan = plan_slide(slide, network, scale=2)
        store = finished(plan, tmp_path / "work", slide, network)
    for name in ("interior", "border"):
        array = zarr.open_group(tmp_path / "work" / "windows.zarr", mode="r")[name]
        assert min(array.shape) >= 1
        assert min(array.chunks) >= 1
    np.testing.assert_array_equal(store.assemble(plan.region), upscale(pixels, 2, model=network))


def test_black_windows_are_stored_too(network, tmp_path):
    """A chunk of zeros is one that Zarr would leave out."""
    with Slide(write_slide_file(tmp_path / "black.tif", np.zeros((300, 300, 3), np.uint8))) as black:

        class Nothing(torch.nn.Module):
            def forward(self, image, coord, cell):
                return torch.zeros(1, coord.shape[1], 3)

        plan = plan_slide(black, Nothing(), scale=1)
        store = finished(plan, tmp_path / "work", black, Nothing())
        assert not store.assemble(plan.region).any()


def test_without_zarr_no_folder_is_made(slide, network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ConfigError, match=r"\[slides\]"):
        WindowStore(tmp_path / "work", plan_slide(slide, network, scale=2)).begin()
    assert not (tmp_path / "work").exists()


def test_other_work_is_refused(slide, network, tmp_path):
    folder = tmp_path / "work"
    finished(plan_slide(slide, network, scale=2), folder, slide, network, [])
    with pytest.raises(OutputError, match="--resume") as caught:
        WindowStore(folder, plan_slide(slide, network, scale=2)).begin()
    assert_teaches(caught.value)
    with pytest.raises(OutputError, match="another slide, network, blur, size or region") as caught:
        WindowStore(folder, plan_slide(slide, network, scale=3)).begin(resume=True)
    assert_teaches(caught.value)
    assert WindowStore(folder, plan_slide(slide, network, scale=2)).begin(resume=True, discard=True)
    assert not WindowStore(folder, plan_slide(slide, network, scale=3)).begin(resume=True, discard=True)
    assert not WindowStore(folder, plan_slide(slide, network, scale=3)).begin(discard=True)
    (folder / "thesis.doc").touch()
    for options in ({}, {"resume": True}, {"discard": True}):
        with pytest.raises(OutputError, match="other files"):
            WindowStore(folder, plan_slide(slide, network, scale=3)).begin(**options)
    assert (folder / "thesis.doc").exists()


def test_a_folder_that_was_being_made_when_it_was_killed_is_made_again(slide, network, tmp_path):
    plan = plan_slide(slide, network, scale=2)
    store = WindowStore(tmp_path / "work", plan)
    store.begin()
    (tmp_path / "work" / "plan.json").unlink()
    assert not WindowStore(tmp_path / "work", plan).begin()
    assert json.loads((tmp_path / "work" / "plan.json").read_text())["digest"] == plan.digest


def test_one_process_at_a_time(slide, network, tmp_path):
    plan = plan_slide(slide, network, scale=2)
    store = WindowStore(tmp_path / "work", plan)
    store.begin()
    lock = "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f, 6); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", lock, tmp_path / "work" / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="in use"), store.folder.lock():
            pass
        with pytest.raises(OutputError, match="in use"):
            WindowStore(tmp_path / "work", plan_slide(slide, network, scale=3)).begin(discard=True)
        with pytest.raises(OutputError, match="in use"):
            WindowStore(tmp_path / "work", plan).begin(resume=True)
        other.kill()
    assert WindowStore(tmp_path / "work", plan).begin(resume=True)  # nothing was discarded
    with store.folder.lock():
        pass


def test_a_full_disk_is_a_sentence_and_loses_nothing(slide, network, tmp_path, monkeypatch):
    plan = plan_slide(slide, network, scale=2)
    store = finished(plan, tmp_path / "work", slide, network, plan.windows[:2])

    class Full:
        def __setitem__(self, key, value):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full = WindowStore(tmp_path / "work", plan)
    monkeypatch.setitem(full.arrays.__dict__, "_arrays", {"interior": Full(), "border": Full()})
    with pytest.raises(OutputError, match=r"No space left.*--resume"):
        compute_windows(full, plan.windows[2:], slide, network, None, nothing)
    assert WindowStore(tmp_path / "work", plan).done == store.done
