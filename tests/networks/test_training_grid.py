"""Grids with gradients: colors and gradients are those of single queries, with one grid per image or one for all."""

import pytest
import torch
from reference import assert_close, assert_teaches, randomise
from torch import nn

from monai_iste.coordinates import axis_centers, cell_size, corner_axis, output_size
from monai_iste.errors import ShapeError
from monai_iste.networks import EDSR, ISTE, LIIF, LTE, Bicubic, EDSREncoder
from monai_iste.networks.grid_sampling import batch_points, bicubic_at, grid_pixels, query_grid
from monai_iste.networks.local_decoders import LocalPixelDecoder

VARIANTS = {
    "as printed": {},
    "four corners": {"texture_corners": "four", "bicubic_residual": True, "heads": 2},
    "features blended": {"texture_corners": "four", "bicubic_residual": True, "blend": "features"},
    "features blended, nearest texture": {"blend": "features", "hidden_layers": 1},
    "lattice keys": {"training_keys": "lattice", "key_side": 3, "bicubic_residual": True},
    "wide, 3x3": {"texture_channels": 9, "hidden_layers": 1, "query_kernel": 3},
    "without LFI, TL": {"use_lfi": False, "use_tl": False},
    "without STF, LTD": {"use_stf": False, "use_ltd": False, "bicubic_residual": True},
}


def network(**arguments):
    widths = {"texture_channels": 5, "hidden_channels": 6}
    return randomise(ISTE(EDSREncoder(4, 1), **{**widths, **arguments})).double()


def image_of(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def grids(size, scales, count=(5, 4), seed=0):
    """Random rows and columns of each image's own output, and its cells."""
    generator = torch.Generator().manual_seed(seed)
    outputs = [output_size(size, scale) for scale in scales]
    rows, columns = (
        torch.stack([axis_centers(o[k])[torch.randint(o[k], (count[k],), generator=generator)] for o in outputs])
        for k in range(2)
    )
    return rows, columns, torch.stack([cell_size(size, output) for output in outputs])


def gradients(net, image, colors):
    """Gradients of an uneven sum of the colors, of every weight and of the image."""
    weights = torch.linspace(0.5, 1.5, colors.numel(), dtype=colors.dtype).view_as(colors)
    wanted = [image, *net.parameters()]
    return torch.autograd.grad((colors * weights).sum(), wanted, allow_unused=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_colors_and_gradients_are_those_of_single_queries(variant, training):
    net, image = network(**VARIANTS[variant]).train(training), image_of(3, 3, 6, 7).requires_grad_()
    rows, columns, cell = grids((6, 7), (1, 2.5, 3.7))
    grid = net.forward_grid(image, rows, columns, cell)
    single = net(image, coord=batch_points(rows, columns, 3), cell=cell)
    assert_close(grid.flatten(2).mT, single.detach().numpy(), 1e-6)  # coordinates are float32
    of_grid, of_single = gradients(net, image, grid.flatten(2).mT), gradients(net, image, single)
    names = ["image", *(name for name, _ in net.named_parameters())]
    for name, actual, expected in zip(names, of_grid, of_single, strict=True):
        assert (actual is None) == (expected is None), name
        if expected is not None:
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max() + 1))
            assert expected.abs().max() > 0 or "bias" in name or "phase" in name, name


def test_every_weight_learns_from_a_grid():
    net, image = network(texture_corners="four", blend="features").train(), image_of(2, 3, 6, 7)
    net.forward_grid(image, *grids((6, 7), (2, 3))).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_one_grid_for_all_images_equals_one_grid_each(training):
    net, image = network(bicubic_residual=True).train(training), image_of(2, 3, 6, 7)
    rows, columns, cell = axis_centers(12)[2:9], axis_centers(14)[3:], cell_size((6, 7), (12, 14)).expand(2, -1)
    shared = net.forward_grid(image, rows, columns, cell)
    for own in (
        (rows.expand(2, -1), columns),
        (rows, columns.expand(2, -1)),
        (rows.expand(2, -1), columns.repeat(2, 1)),
    ):
        assert torch.equal(net.forward_grid(image, *own, cell), shared)
    with torch.no_grad():
        assert_close(net.forward_grid(image, rows.expand(2, -1), columns, cell), shared.detach().numpy(), 1e-6)


def test_each_image_has_its_own_scale():
    net, image = network(bicubic_residual=True).train(), image_of(3, 3, 6, 7)
    rows, columns, cell = grids((6, 7), (1, 2.5, 8))
    together = net.forward_grid(image, rows, columns, cell)
    for i in range(3):
        part = slice(i, i + 1)
        assert_close(
            net.forward_grid(image[part], rows[i], columns[i], cell[part]), together[part].detach().numpy(), 1e-9
        )


@pytest.mark.parametrize("make", [LIIF, LTE])
def test_other_implicit_networks_take_a_grid_per_image(make):
    net, image = randomise(make(EDSREncoder(4, 1), hidden_channels=6)).double(), image_of(2, 3, 6, 7)
    rows, columns, cell = grids((6, 7), (2, 3))
    expected = net(image, coord=batch_points(rows, columns, 2), cell=cell).mT.reshape(2, 3, 5, 4)
    assert torch.equal(query_grid(net, image, rows, columns, cell), expected)


def test_a_network_without_grids_gets_the_list_of_every_image():
    class Coordinates(nn.Module):
        def forward(self, image, coord, cell):
            return torch.cat([coord, cell.unsqueeze(1).expand_as(coord)[..., :1]], dim=-1)

    rows, columns, cell = grids((6, 7), (2, 3))
    rgb = query_grid(Coordinates(), image_of(2, 3, 6, 7), rows, columns, cell)
    assert torch.equal(rgb[:, 0], rows.unsqueeze(2).expand(2, 5, 4))
    assert torch.equal(rgb[:, 1], columns.unsqueeze(1).expand(2, 5, 4))


@pytest.mark.parametrize("make", [lambda: network(), lambda: randomise(LIIF(EDSREncoder(4, 1), hidden_channels=6))])
def test_grids_of_another_number_of_images_are_refused(make):
    net, image, cell = make(), torch.rand(2, 3, 6, 7), torch.ones(2, 2)
    for rows, columns in ((torch.zeros(3, 4), torch.zeros(4)), (torch.zeros(4), torch.zeros(1, 4))):
        with pytest.raises(ShapeError) as error:
            net.forward_grid(image, rows, columns, cell)
        assert_teaches(error.value, "(n,) or (2, n)")


@pytest.mark.parametrize("make", [Bicubic, lambda: EDSR(2, out_channels=4, num_blocks=1)])
def test_networks_of_one_grid_refuse_a_grid_per_image(make):
    with pytest.raises(ShapeError) as error:
        make().forward_grid(torch.rand(2, 3, 6, 7), torch.zeros(2, 4), torch.zeros(4), torch.ones(2, 2))
    assert_teaches(error.value, "rows of shape (n,)", "(2, 4)")


def test_the_decoder_reads_one_pixel_per_corner_and_point():
    """A grid of H x W points is never expanded to four corners at once, as single queries are."""
    decoder, features = LocalPixelDecoder(4, 6, 2), torch.rand(1, 6, 5, 5).contiguous(memory_format=torch.channels_last)
    axis = axis_centers(10).unsqueeze(0)
    corners = grid_pixels(corner_axis(axis, 5), corner_axis(axis, 5), (5, 5))
    sizes = []
    decoder.mlp[1].register_forward_hook(lambda module, args, output: sizes.append(tuple(args[0].shape)))
    assert decoder.on_grids(features, corners, torch.ones(1, 2)).shape == (1, 10, 10, 3)
    assert sizes == [(1, 10, 10, 6)] * 4
    assert torch.allclose(sum(corner.weight for corner in corners), torch.ones(1, 10, 10, 1))


def test_the_residual_of_a_grid_is_the_bicubic_interpolation():
    net, image = network(bicubic_residual=True), image_of(2, 3, 6, 7)
    for weight in (net.local_pixel_decoder.mlp[-1], net.local_texture_decoder.mlp[-1]):
        nn.init.zeros_(weight.weight)
        nn.init.zeros_(weight.bias)
    rows, columns, cell = grids((6, 7), (1.3, 4))
    expected = bicubic_at(image, batch_points(rows, columns, 2)).mT.reshape(2, 3, 5, 4)
    assert_close(net.forward_grid(image, rows, columns, cell), expected.detach().numpy(), 1e-6)
