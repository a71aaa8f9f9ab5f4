"""Plans, windows and the work folder: the same pixels for every order, region and interruption."""

import errno
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from reference import assert_teaches
from slide_files import picture, write_slide_file

from monai_iste.errors import ConfigError, DataError, OutputError, ScaleError, ShapeError
from monai_iste.functional import upscale
from monai_iste.inferers import Region
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.networks.grid_sampling import bicubic_at
from monai_iste.slides import compute as slides_run
from monai_iste.slides.compute import compute_window, compute_windows, read_window
from monai_iste.slides.plan import network_digest, plan_slide
from monai_iste.slides.reader import Slide
from monai_iste.slides.tissue import TissueMask
from monai_iste.slides.window_store import WindowStore

zarr = pytest.importorskip("zarr")

PIXELS = picture(240, 430)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with Slide(write_slide_file(tmp_path_factory.mktemp("slide") / "a.tif", PIXELS)) as opened:
        yield opened


def nothing(window):
    """No progress is shown."""


def finished(plan, folder, slide, network, windows=None, mask=None):
    store = WindowStore(folder, plan)
    store.begin(resume=True)
    compute_windows(store, plan.windows if windows is None else windows, slide, network, mask, nothing)
    return store


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 1.3, 2, 3.7])
def test_windows_cover_the_output_once(slide, network, scale):
    plan = plan_slide(slide, network, scale=scale)
    assert sum(plan.pixels(window) for window in plan.windows) == plan.output[0] * plan.output[1]
    assert [plan.window(window.key).key for window in plan.windows] == [window.key for window in plan.windows]


@pytest.mark.parametrize("region", [(0, 0, 240, 430), (10, 20, 100, 90), (200, 380, 1, 1), (239, 0, 1, 430)])
def test_a_region_has_its_share_of_the_windows(slide, network, region):
    plan = plan_slide(slide, network, scale=2, region=Region(*region))
    assert plan.region == Region(*(2 * number for number in region))
    assert sum(plan.pixels(window) for window in plan.windows) == plan.region.height * plan.region.width
    whole = {window.key for window in plan_slide(slide, network, scale=2).windows}
    assert {window.key for window in plan.windows} <= whole


def test_mpp_and_size_lead_to_the_same_plan_as_the_scale(slide, network):
    by_mpp = plan_slide(slide, network, mpp=0.137)
    assert by_mpp.output == (round(240 * 0.5 / 0.137), round(430 * 0.5 / 0.137))
    assert by_mpp.output_mpp == pytest.approx((0.137, 0.137), rel=1e-3)
    assert plan_slide(slide, network, size=by_mpp.output).digest == by_mpp.digest


def test_the_digest_tells_jobs_apart(slide, network, tmp_path):
    other_network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()
    changed = PIXELS.copy()
    changed[-1, -1] ^= 1
    with Slide(write_slide_file(tmp_path / "b.tif", changed)) as other_slide:
        plans = [
            plan_slide(slide, network, scale=2),
            plan_slide(slide, network, scale=2.01),
            plan_slide(slide, network, scale=2, tissue_only=True),
            plan_slide(slide, network, scale=2, precision="bf16"),
            plan_slide(slide, network, scale=2, region=Region(0, 0, 9, 9)),
            plan_slide(slide, other_network, scale=2),
            plan_slide(other_slide, network, scale=2),
        ]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert plan_slide(slide, network, scale=2).digest == plans[0].digest
    assert network_digest(network) != network_digest(other_network)


def test_a_moved_slide_is_the_same_job(slide, network, tmp_path):
    moved = tmp_path / "elsewhere.tif"
    moved.write_bytes(slide.path.read_bytes())
    with Slide(moved) as again:
        assert plan_slide(again, network, scale=2).digest == plan_slide(slide, network, scale=2).digest


def test_impossible_plans_are_refused(slide, network):
    with pytest.raises(ScaleError, match="at most 16"):
        plan_slide(slide, network, scale=17)
    with pytest.raises(ScaleError, match="at least 1"):
        plan_slide(slide, network, scale=0.5)
    with pytest.raises(ScaleError, match=r"at most 0\.5"):
        plan_slide(slide, network, mpp=0.6)
    with pytest.raises(ShapeError, match="inside 240 x 430"):
        plan_slide(slide, network, scale=2, region=Region(210, 0, 31, 10))


# --- the same pixels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 2.7])
def test_any_order_and_any_tiling_give_what_the_inferer_gives(slide, network, tmp_path, scale):
    expected = upscale(PIXELS, scale, model=network)
    plan = plan_slide(slide, network, scale=scale)
    windows = plan.windows
    random.Random(0).shuffle(windows)
    store = finished(plan, tmp_path / "work", slide, network, windows)
    height, width = plan.output
    np.testing.assert_array_equal(store.assemble(Region(0, 0, height, width)), expected)
    tile = 173
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            size = min(tile, height - top), min(tile, width - left)
            part = store.assemble(Region(top, left, *size))
            np.testing.assert_array_equal(part, expected[top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("region", [(10, 20, 100, 90), (100, 150, 120, 200)])
def test_a_region_has_the_pixels_of_the_whole(slide, network, tmp_path, region):
    plan = plan_slide(slide, network, scale=1.7, region=Region(*region))
    top, left, height, width = plan.region
    expected = upscale(PIXELS, 1.7, model=network)[top : top + height, left : left + width]
    store = finished(plan, tmp_path / "work", slide, network)
    np.testing.assert_array_equal(store.assemble(plan.region), expected)


def test_background_is_interpolated_and_tissue_is_not(slide, network, tmp_path):
    """Literal reference: the weight of every pixel blends two whole images."""
    samples = np.zeros((1, 5), np.uint8)
    samples[0, :2] = 255
    mask = TissueMask(samples, slide.size)
    plan = plan_slide(slide, network, scale=2, tissue_only=True)
    store = finished(plan, tmp_path / "work", slide, network, mask=mask)
    found = store.assemble(plan.region).astype(float)
    y, x = (torch.arange(2 * n, dtype=torch.float64) / 2 - 0.25 for n in slide.size)
    weight = mask.weight(y, x).numpy()[..., None]
    upscaled = upscale(PIXELS, 2, model=network).astype(float)
    grid = torch.stack(torch.meshgrid((2 * y + 1) / 240 - 1, (2 * x + 1) / 430 - 1, indexing="ij"), -1).view(1, -1, 2)
    image = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].double()
    plain = bicubic_at(image, grid).view(480, 860, 3).clamp(0, 255).numpy()
    assert (weight == 1).any()
    assert (weight == 0).any()
    assert ((weight > 0) & (weight < 1)).any()
    assert np.abs(found - (weight * upscaled + (1 - weight) * plain)).max() < 1.01
    assert np.abs(upscaled - plain).max() > 5  # the two differ: the comparison says something


def test_the_network_does_not_compute_windows_without_tissue(slide, tmp_path):
    class Refuses(torch.nn.Module):
        def forward(self, image, coord, cell):
            raise AssertionError("asked")

    plan = plan_slide(slide, Refuses(), scale=2, tissue_only=True)
    window = plan.windows[0]
    mask = TissueMask(np.zeros((2, 2), np.uint8), slide.size)
    share = compute_window(plan, Refuses(), read_window(slide, window), mask, window)
    assert share.shape == (3, window.row.stop - window.row.start, window.column.stop - window.column.start)
    with pytest.raises(AssertionError, match="asked"):
        compute_window(plan, Refuses(), read_window(slide, window), None, window)


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_finished_windows_are_kept_and_the_rest_is_computed(slide, network, tmp_path, monkeypatch):
    plan = plan_slide(slide, network, scale=2)
    finished(plan, tmp_path / "work", slide, network, plan.windows[:3])
    again = WindowStore(tmp_path / "work", plan)
    assert again.begin(resume=True)
    assert set(again.done) == {window.key for window in plan.windows[:3]}
    asked = []
    monkeypatch.setattr(slides_run, "read_window", lambda s, w: asked.append(w.key) or read_window(s, w))
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
    chunk = next(path for path in (tmp_path / "work" / "windows.zarr" / "interior").rglob("0/*/0/0/0"))
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
    store.keep_mask(TissueMask(np.full((15, 27), 255, np.uint8), slide.size))
    assert store.mask() is not None
    path = tmp_path / "work" / "tissue.npy"
    if keep is None:
        np.save(path, np.zeros((2, 2)))
    else:
        os.truncate(path, keep)
    assert store.mask() is None


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_damaged_store_is_a_sentence(slide, network, tmp_path, text):
    plan = plan_slide(slide, network, scale=2)
    finished(plan, tmp_path / "work", slide, network)
    description = tmp_path / "work" / "windows.zarr" / "interior" / "zarr.json"
    if text is None:
        description.unlink()
    else:
        description.write_text(text)
    again = WindowStore(tmp_path / "work", plan)
    assert again.begin(resume=True)
    with pytest.raises(DataError, match="store of windows") as caught:
        compute_windows(again, plan.windows[:1], slide, network, None, nothing)
    assert_teaches(caught.value)
    with pytest.raises(DataError, match="store of windows"):
        again.assemble(plan.region)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (60, 60), (208, 208), (209, 400), (240, 430)])
def test_no_chunk_is_empty(network, tmp_path, size):
    """A window may have no interior, and a single one no frame; older versions of Zarr took a chunk of 0 pixels."""
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
    with pytest.raises(ConfigError, match=r"monai_iste\[slides\]"):
        WindowStore(tmp_path / "work", plan_slide(slide, network, scale=2)).begin()
    assert not (tmp_path / "work").exists()


def test_other_work_is_refused(slide, network, tmp_path):
    folder = tmp_path / "work"
    finished(plan_slide(slide, network, scale=2), folder, slide, network, [])
    with pytest.raises(OutputError, match="--resume") as caught:
        WindowStore(folder, plan_slide(slide, network, scale=2)).begin()
    assert_teaches(caught.value)
    with pytest.raises(OutputError, match="another slide, network, size or region") as caught:
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
        [sys.executable, "-c", lock, tmp_path / "work" / "plan.json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="in use"), store.lock():
            pass
        with pytest.raises(OutputError, match="in use"):
            WindowStore(tmp_path / "work", plan_slide(slide, network, scale=3)).begin(discard=True)
        assert WindowStore(tmp_path / "work", plan).begin(resume=True)  # nothing was discarded
        other.kill()
    with store.lock():
        pass


def test_a_full_disk_is_a_sentence_and_loses_nothing(slide, network, tmp_path, monkeypatch):
    plan = plan_slide(slide, network, scale=2)
    store = finished(plan, tmp_path / "work", slide, network, plan.windows[:2])

    class Full:
        shape = (9, 9, 2000, 2000, 3)

        def __setitem__(self, key, value):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full = WindowStore(tmp_path / "work", plan)
    monkeypatch.setitem(full.__dict__, "_arrays", {"interior": Full(), "border": Full()})
    with pytest.raises(OutputError, match=r"No space left.*--resume"):
        compute_windows(full, plan.windows[2:], slide, network, None, nothing)
    assert WindowStore(tmp_path / "work", plan).done == store.done
