"""The short way through regular grids gives what every query by itself gives, in any pieces, and holds nothing wide."""

import pytest
import torch
from reference import SCALES, SIZES, LargestTensor, assert_close, randomise

from monai_iste.coordinates import cell_size, output_size, pixel_centers
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.networks import tuning as limits
from monai_iste.networks.grid_sampling import as_grid, bicubic_at, bicubic_on_grid

VARIANTS = {
    "as printed": {},
    "four corners": {"texture_corners": "four", "bicubic_residual": True, "heads": 2},
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
            patch.setattr(limits, "FAST_PATHS", False)
            return net(*args, **kwargs)

    return call


@pytest.mark.parametrize("pieces", [None, 1, 30])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale", [1, 1.3, 3.7])
def test_equals_every_query_by_itself(scale, variant, pieces, one_by_one, monkeypatch):
    net, image = network(**VARIANTS[variant]), image_of(2, 3, 9, 7)
    expected = one_by_one(net, image, scale=scale)
    if pieces:  # blocks of few low-resolution rows, strips of few output pixels, narrower than the image
        monkeypatch.setattr(limits, "MAX_FUSION_PIXELS", pieces)
        monkeypatch.setattr(limits, "MAX_DECODER_ELEMENTS", 24 * pieces)
        monkeypatch.setattr(limits, "MAX_STRIP_COLUMNS", 5)
    with torch.no_grad():
        assert_close(net(image, scale=scale), expected.numpy(), 2e-6)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_coordinates_of_a_grid_take_the_short_way(size, scale, one_by_one):
    net, image = network(bicubic_residual=True), image_of(1, 3, *size)
    output = output_size(size, scale)
    coord, cell = pixel_centers(output).unsqueeze(0), cell_size(size, output).unsqueeze(0)
    part = coord.view(1, *output, 2)[:, output[0] // 2 :, : 1 + output[1] // 2].flatten(1, 2)
    for queries in (coord, part):
        calls = []
        handle = net.local_pixel_decoder.register_forward_hook(lambda *args, calls=calls: calls.append(1))
        with torch.no_grad():
            actual = net(image, coord=queries, cell=cell)
        handle.remove()
        assert not calls  # the decoder that answers queries one by one was not asked
        assert_close(actual, one_by_one(net, image, coord=queries, cell=cell).numpy(), 2e-6)


def test_what_a_grid_is():
    coord = pixel_centers((3, 4)).expand(2, -1, -1)
    rows, columns = as_grid(coord)
    assert torch.equal(rows, pixel_centers((3, 1))[:, 0])
    assert torch.equal(columns, pixel_centers((1, 4))[:, 1])
    assert as_grid(coord[:, :7]) is None
    assert as_grid(coord[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]) is None
    moved = coord.clone()
    moved[1, 5, 1] += 0.1
    assert as_grid(moved) is None
    assert as_grid(coord[:, :0]) is None
    assert as_grid(torch.full((1, 4, 2), torch.nan)) is None
    assert [len(axis) for axis in as_grid(coord[:, :1])] == [1, 1]


def test_scattered_queries_and_gradients_go_one_by_one():
    net, image = network(), image_of(1, 3, 5, 4)
    calls = []
    net.local_pixel_decoder.register_forward_hook(lambda *args: calls.append(1))
    with torch.no_grad():
        net(image, coord=torch.rand(1, 9, 2), scale=2)
    assert len(calls) == 1
    net(image, scale=2)
    assert len(calls) == 2


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_bicubic_axis_by_axis_equals_bicubic(size, scale):
    image, output = image_of(1, 3, *size), output_size(size, scale)
    expected = bicubic_at(image.double(), pixel_centers(output).double().unsqueeze(0))
    rows, columns = pixel_centers((output[0], 1))[:, 0], pixel_centers((1, output[1]))[:, 1]
    assert_close(bicubic_on_grid(image[0], rows, columns).flatten(0, 1), expected[0].numpy(), 2e-6)


def test_nothing_wide_is_held_for_the_whole_image(monkeypatch):
    net = network(texture_channels=32, hidden_channels=32)
    monkeypatch.setattr(limits, "MAX_FUSION_PIXELS", 256)
    monkeypatch.setattr(limits, "MAX_DECODER_ELEMENTS", 4096)
    monkeypatch.setattr(limits, "KEY_CHUNK", 64)
    with torch.no_grad(), LargestTensor() as largest:
        net(image_of(1, 3, 96, 32), scale=2)
    # The result has 36,864 numbers, F_STF of the whole image would have 98,304 and the waves 294,912.
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
