"""The same bytes for every number of threads: whole images, regions, arrays, and blocks within a window."""

import threading

import numpy as np
import pytest
import torch
from slide_files import picture
from thread_counts import COUNTS, torch_threads
from torch import nn

from monai_iste.functional import upscale
from monai_iste.inferers import ArbitraryScaleInferer, Region, Tiler, tiling
from monai_iste.networks import ISTE, EDSREncoder, tuning
from monai_iste.networks.encoders.swinir import SwinIREncoder
from monai_iste.networks.grid_sampling import query_grid
from monai_iste.networks.runtime import at_precision

SMALL = Tiler(window=16, overlap=8, halo=12)


def wide():
    """Layers so wide that oneDNN computes them, as in the presets; two networks' worth of corners."""
    torch.manual_seed(0)
    return ISTE(EDSREncoder(32, 2), texture_channels=48, hidden_channels=64, bicubic_residual=True).eval()


def attentive():
    torch.manual_seed(0)
    return ISTE(SwinIREncoder(16, dim=16, depths=(2,), heads=2), texture_channels=16, hidden_channels=16).eval()


def pixels(h, w):
    return torch.from_numpy(picture(h, w))


def each_count(compute):
    for count in COUNTS:
        with torch_threads(count):
            yield count, compute()


@pytest.mark.parametrize(("network", "scale"), [(wide, 1.5), (wide, (131, 200)), (attentive, 2.37)])
def test_bands_are_bit_identical(network, scale):
    image, net = pixels(61, 70), network()
    read = lambda region: image[region.slices]  # noqa: E731
    results = dict(each_count(lambda: torch.cat(list(SMALL.bands(read, (61, 70), net, scale)), dim=1)))
    assert results[1].std() > 0.01
    for count in COUNTS:
        assert torch.equal(results[count], results[1]), count


def test_regions_are_bit_identical():
    image, net = pixels(61, 70), wide()
    read, size, output = lambda region: image[region.slices], (61, 70), (206, 236)
    region = Region(31, 17, 140, 170)
    whole = torch.cat(list(SMALL.bands(read, size, net, output)), dim=1)[(slice(None), *region.slices)]
    results = dict(each_count(lambda: SMALL.region(read, size, net, output, region)))
    torch.testing.assert_close(results[1], whole, rtol=0, atol=1e-5)
    for count in COUNTS:
        assert torch.equal(results[count], results[1]), count


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_blocks_of_one_window_are_bit_identical(precision, monkeypatch):
    """Threads without a window of their own take part in it."""
    monkeypatch.setattr(tuning, "MAX_FUSION_PIXELS", 500)
    image, net, names = picture(70, 64), wide(), set()
    decoder = net.local_pixel_decoder
    on_grid = type(decoder).on_grid

    def noting(self, *args):
        names.add(threading.current_thread().name)
        return on_grid(self, *args)

    monkeypatch.setattr(type(decoder), "on_grid", noting)
    results = dict(each_count(lambda: upscale(image, 2.3, model=net, precision=precision)))
    for count in COUNTS:
        np.testing.assert_array_equal(results[count], results[1], f"{count} threads")
    assert len([name for name in names if name.startswith("window")]) > 1


def test_the_inferer_and_a_batch_are_bit_identical():
    batch, net = torch.stack([pixels(40, 50).permute(2, 0, 1), pixels(90, 50)[50:].permute(2, 0, 1)]), wide()
    inferer = ArbitraryScaleInferer(window=16, overlap=8, halo=12)
    results = dict(each_count(lambda: inferer(batch / 255, net, scale=2.5)))
    for count in COUNTS:
        assert torch.equal(results[count], results[1]), count


def test_a_single_thread_computes_a_window_as_the_network_alone_does():
    """Neither workers nor blocks change what a direct call computes on one thread."""
    image, net = pixels(32, 30), wide()
    row, column = SMALL.axis_windows(32, 100)[0], SMALL.axis_windows(30, 94)[0]
    cell = SMALL.cell((32, 30), (100, 94), net)
    part = image[tiling.input_region(row, column).slices]
    with torch.no_grad():
        rgb = query_grid(net, tiling.network_input(part, torch.device("cpu")), row.coord, column.coord, cell)
    with torch_threads(4):
        (output,) = SMALL.window_outputs(lambda region: image[region.slices], net, [(row, column)], cell)
    assert torch.equal(output, rgb[0] * (row.weight.unsqueeze(1) * column.weight).float())


def test_a_network_that_keeps_state_is_called_once_at_a_time():
    class Stateful(nn.Module):
        """As LIIF's published program: features on the network, which another thread would replace."""

        def __init__(self):
            super().__init__()
            self.busy, self.most, self.threads = 0, 0, set()

        def forward(self, image, coord, cell):
            self.busy += 1
            self.most = max(self.most, self.busy)
            self.threads.add((threading.get_ident(), torch.get_num_threads()))
            self.features = image.mean((2, 3))
            result = self.features.unsqueeze(1).expand(-1, coord.shape[1], -1).clone()
            self.busy -= 1
            return result

    image, net = pixels(60, 60), Stateful()
    with torch_threads(3):
        list(SMALL.bands(lambda region: image[region.slices], (60, 60), net, 2.0))
    assert net.most == 1
    assert net.threads == {(threading.get_ident(), 3)}


def test_large_windows_are_computed_one_at_a_time(monkeypatch):
    row, column = SMALL.axis_windows(61, 206)[1], SMALL.axis_windows(70, 236)[1]
    assert tiling.windows_at_once(row, column, 4) == 5
    huge = Tiler().axis_windows(400, 400 * 27)[0]
    assert tiling.windows_at_once(huge, huge, 64) == 1
    monkeypatch.setattr(tiling, "MAX_WINDOW_BYTES", 1)
    running, most, lock, net = 0, 0, threading.Lock(), wide()
    encode = EDSREncoder.forward

    def counting(self, image):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return encode(self, image)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(EDSREncoder, "forward", counting)
    image = pixels(61, 70)
    with torch_threads(4):
        list(SMALL.bands(lambda region: image[region.slices], (61, 70), net, 2.0))
    assert most == 1


def test_precisions_are_bit_identical_too():
    image, net = picture(61, 70), at_precision(wide(), "bf16")
    read = lambda region: image[region.slices]  # noqa: E731
    results = dict(each_count(lambda: torch.cat(list(SMALL.bands(read, (61, 70), net, 2.0)), dim=1)))
    for count in COUNTS:
        assert torch.equal(results[count], results[1]), count
