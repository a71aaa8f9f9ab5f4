"""The fast path for regular grids equals single queries, in any pieces, and holds no large tensors."""

import pytest
import torch
from reference import SCALES, SIZES, LargestTensor, assert_close, randomise
from torch import nn

from monai_iste.coordinates import axis_centers, cell_size, grid_points, output_size, pixel_centers
from monai_iste.errors import ShapeError
from monai_iste.networks import EDSR, ISTE, LIIF, LTE, Bicubic, EDSREncoder, tuning
from monai_iste.networks.grid_sampling import bicubic_at, bicubic_on_grid, query_grid
from monai_iste.networks.runtime import at_precision
from monai_iste.slides.compute import Interpolation

VARIANTS = {
    "as printed": {},
    "four corners": {"texture_corners": "four", "bicubic_residual": True, "heads": 2},
    "features blended": {"texture_corners": "four", "bicubic_residual": True, "blend": "features"},
    "features blended, nearest texture": {"blend": "features", "hidden_layers": 1},
    "all keys": {"inference_keys": "all", "query_kernel": 3},
    "few keys": {"key_side": 2},
    "wide": {"texture_channels": 9, "hidden_layers": 1, "bicubic_residual": True},
    "without LFI, TL": {"use_lfi": False, "use_tl": False},
    "without STF, LTD": {"use_stf": False, "use_ltd": False},
}


def network(**arguments):
    widths = {"texture_channels": 5, "hidden_channels": 6}
    return randomise(ISTE(EDSREncoder(4, 1), **{**widths, **arguments})).eval()


def image_of(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def one_by_one(monkeypatch):
    """Call a network with every query by itself."""

    def call(net, *args, **kwargs):
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(tuning, "FAST_PATHS", False)
            return net(*args, **kwargs)

    return call


@pytest.mark.parametrize("pieces", [None, 1, 30])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale", [1, 1.3, 3.7])
def test_equals_every_query_by_itself(scale, variant, pieces, one_by_one, monkeypatch):
    net, image = network(**VARIANTS[variant]), image_of(2, 3, 9, 7)
    expected = one_by_one(net, image, scale=scale)
    if pieces:  # blocks of few low-resolution rows, strips of few output pixels, narrower than the image
        monkeypatch.setattr(tuning, "MAX_FUSION_PIXELS", pieces)
        monkeypatch.setattr(tuning, "MAX_DECODER_ELEMENTS", 24 * pieces)
        monkeypatch.setattr(tuning, "MAX_STRIP_COLUMNS", 5)
    with torch.no_grad():
        assert_close(net(image, scale=scale), expected.numpy(), 2e-6)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_grids_take_the_fast_path(size, scale, one_by_one):
    net, image = network(bicubic_residual=True), image_of(1, 3, *size)
    output = output_size(size, scale)
    rows, columns, cell = axis_centers(output[0]), axis_centers(output[1]), cell_size(size, output).unsqueeze(0)
    for part in ((rows, columns), (rows[output[0] // 2 :], columns[: 1 + output[1] // 2])):
        calls = []
        handle = net.local_pixel_decoder.register_forward_hook(lambda *args, calls=calls: calls.append(1))
        with torch.no_grad():
            actual = net.forward_grid(image, *part, cell)
        handle.remove()
        assert not calls  # the decoder of single queries was not called
        coord = grid_points(*part).unsqueeze(0)
        assert_close(actual.flatten(2).mT, one_by_one(net, image, coord=coord, cell=cell).numpy(), 2e-6)


NETWORKS = {
    "ISTE": lambda: network(bicubic_residual=True),
    "LIIF": lambda: randomise(LIIF(EDSREncoder(4, 1), hidden_channels=6)),
    "LTE": lambda: randomise(LTE(EDSREncoder(4, 1), hidden_channels=6, bicubic_residual=True)),
    "EDSR": lambda: randomise(EDSR(2, out_channels=4, num_blocks=1, bicubic_residual=True)),
    "Bicubic": Bicubic,
    "Interpolation": Interpolation,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_grid_equals_the_list_of_its_coordinates(name):
    net, image = NETWORKS[name]().eval(), image_of(2, 3, 9, 7)
    rows, columns = axis_centers(18)[3:10], axis_centers(14)[5:]
    cell = cell_size((9, 7), (18, 14)).expand(2, -1)
    coord = grid_points(rows, columns).expand(2, -1, -1)
    with torch.no_grad():
        actual = net.forward_grid(image, rows, columns, cell)
        if isinstance(net, Bicubic):
            expected = net(image, scale=2)[:, :, 3:10, 5:]
        else:
            expected = net(image, coord=coord, cell=cell).mT.reshape(2, -1, 7, 9)
        assert torch.equal(query_grid(net, image, rows, columns, cell), actual)
    assert actual.shape == (2, 3, 7, 9)
    assert_close(actual, expected.numpy(), 2e-6)


def test_networks_without_grids_get_a_list_of_coordinates():
    class Coordinates(nn.Module):
        def forward(self, image, coord, cell):
            return torch.cat([coord, cell.unsqueeze(1).expand_as(coord)[..., :1]], dim=-1)

    rows, columns = torch.tensor([-0.5, 0.5]), torch.tensor([-0.6, 0.0, 0.6])
    rgb = query_grid(Coordinates(), image_of(1, 3, 4, 4), rows, columns, torch.full((1, 2), 0.3))
    assert torch.equal(rgb[0, 0], rows.view(2, 1).expand(2, 3))
    assert torch.equal(rgb[0, 1], columns.expand(2, 3))
    assert rgb.shape == (1, 3, 2, 3)


def test_half_precision_passes_grids_on():
    net, image = network(), image_of(1, 3, 9, 7)
    rows, columns, cell = axis_centers(18), axis_centers(14), torch.ones(1, 2)
    with torch.no_grad():
        half = at_precision(net, "bf16").forward_grid(image, rows, columns, cell)
        full = net.forward_grid(image, rows, columns, cell)
    assert half.shape == full.shape
    assert 0 < (half - full).abs().max() < 0.1


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "Interpolation"])
def test_wrong_grids_are_refused(name):
    net, image, axis, cell = NETWORKS[name]().eval(), image_of(2, 3, 4, 4), torch.zeros(2), torch.ones(2, 2)
    for arguments in (
        (image[0], axis, axis, cell),
        (image, axis[:0], axis, cell),
        (image, axis, axis.view(1, 2), cell),
        (image, axis, axis, cell[:1]),
        (image, axis, axis, torch.ones(2, 4, 2)),
    ):
        with pytest.raises(ShapeError):
            net.forward_grid(*arguments)


def test_scattered_queries_go_one_by_one():
    net, image = network(), image_of(1, 3, 5, 4)
    calls = []
    net.local_pixel_decoder.register_forward_hook(lambda *args: calls.append(1))
    with torch.no_grad():
        net(image, coord=torch.rand(1, 9, 2), scale=2)
    assert len(calls) == 1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_bicubic_axis_by_axis_equals_bicubic(size, scale):
    image, output = image_of(1, 3, *size), output_size(size, scale)
    expected = bicubic_at(image.double(), pixel_centers(output).double().unsqueeze(0))
    rows, columns = axis_centers(output[0]), axis_centers(output[1])
    assert_close(bicubic_on_grid(image[0], rows, columns).flatten(0, 1), expected[0].numpy(), 2e-6)


def test_nothing_wide_is_held_for_the_whole_image(monkeypatch):
    net = network(texture_channels=32, hidden_channels=32)
    monkeypatch.setattr(tuning, "MAX_FUSION_PIXELS", 256)
    monkeypatch.setattr(tuning, "MAX_DECODER_ELEMENTS", 4096)
    monkeypatch.setattr(tuning, "KEY_CHUNK", 64)
    with torch.no_grad(), LargestTensor() as largest:
        net(image_of(1, 3, 96, 32), scale=2)
    # Elements: 36,864 in the result, 98,304 in F_STF of the whole image, 294,912 in its amplitudes and frequencies.
    assert 36_864 <= largest.elements < 98_304


@pytest.mark.parametrize("variant", ["as printed", "four corners"])
def test_half_precision_keeps_coordinates_whole(variant, one_by_one):
    """Offsets, cells and angles stay float32 under autocast, as they do where every query goes by itself."""
    net, image = network(**VARIANTS[variant]), image_of(1, 3, 9, 7)
    with torch.autocast("cpu", torch.bfloat16):
        expected = one_by_one(net, image, scale=3.7)
        with torch.no_grad():
            actual = net(image, scale=3.7)
    full = one_by_one(net, image, scale=3.7)
    assert (actual - full).abs().mean() < 1.5 * (expected - full).abs().mean()
    seen = []
    net.local_pixel_decoder.mlp[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    net.local_texture_decoder.mlp[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        net(image, scale=3.7)
    assert set(seen) == {torch.float32}
