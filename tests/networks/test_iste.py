"""ISTE against the paper's equations: wiring, options, chunks, sizes, gradients, refusals."""

import itertools

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from reference import (
    SCALES,
    SIZES,
    LargestTensor,
    assert_all_learn,
    assert_close,
    assert_teaches,
    inexact,
    randomise,
)

from monai_iste.coordinates import cell_size, output_size, pixel_centers
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.networks import ISTE, EDSREncoder, SwinIREncoder, tuning

SWITCHES = ["use_lfi", "use_tl", "use_stf", "use_ltd"]


def network(seed=0, encoder=None, **arguments):
    encoder = EDSREncoder(4, 1) if encoder is None else encoder
    widths = {"texture_channels": 5, "hidden_channels": 6}
    return randomise(ISTE(encoder, **{**widths, **arguments}), seed).eval()


def image_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def whole_grid(image, scale):
    """Coordinates and cells of the upscaled image."""
    size = tuple(image.shape[2:])
    output = output_size(size, scale)
    b = image.shape[0]
    return pixel_centers(output).expand(b, -1, -1), cell_size(size, output).expand(b, -1)


# --- the paper's equations, wired -------------------------------------------------------------------------------------

VARIANTS = {  # every choice of each option appears with both batches and both numbers of heads
    "as printed": {"batch": 1, "heads": 1, "texture_corners": "nearest", "inference_keys": "lattice"},
    "all keys": {
        "batch": 2,
        "heads": 2,
        "query_kernel": 3,
        "texture_corners": "four",
        "inference_keys": "all",
        "bicubic_residual": True,
    },
    "training": {"batch": 2, "heads": 1, "texture_corners": "nearest", "training_keys": "queries"},
    "training on the lattice": {"batch": 1, "heads": 2, "texture_corners": "four", "training_keys": "lattice"},
}


def assert_equals_the_paper(net, images, queries, cells, keys, encoder=reference.edsr, heads=1, four=False):
    coord = inexact(queries).expand(len(images), -1, -1)
    actual = net(images, coord=coord, cell=cells)
    assert actual.shape == (len(images), len(queries), 3)
    for b, image in enumerate(images.double().numpy()):
        expected = reference.iste(
            net,
            image,
            queries,
            cells[b].double().numpy(),
            encoder=encoder,
            heads=heads,
            four=four,
            keys=keys,
            residual=net.bicubic_residual,
        )
        assert_close(actual[b], expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_paper(size, scale, variant):
    options = dict(VARIANTS[variant])
    batch = options.pop("batch")
    net = network(**options).train(variant.startswith("training"))
    output = output_size(size, scale)
    grid = reference.grid(output)
    if net.training:  # points at random, as in training
        coord = torch.rand(20, 2, generator=torch.Generator().manual_seed(7)) * 2 - 1
        queries = reference.exact(coord)
    else:
        queries = grid[:: 1 + len(grid) // 20]
    keys = queries if variant == "training" else grid if variant == "all keys" else None
    cells = cell_size(size, output).expand(batch, -1)
    four = options["texture_corners"] == "four"
    assert_equals_the_paper(net, image_of(batch, 3, *size), queries, cells, keys, heads=options["heads"], four=four)


@pytest.mark.parametrize("use_lfi", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_query_kernel(kernel, use_lfi):
    net = network(query_kernel=kernel, use_lfi=use_lfi)
    assert net.local_feature_interactor.projection.weight.shape == (5, 4, kernel, kernel)
    queries, cells = reference.grid((4, 3)), cell_size((3, 2), (4, 3)).expand(1, -1)
    assert_equals_the_paper(net, image_of(1, 3, 3, 2), queries, cells, None)


@pytest.mark.parametrize("corners", ["nearest", "four"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_ablations_equal_the_paper_without_that_module(switch, corners):
    net = network(texture_corners=corners, **{switch: False})
    queries, cells = reference.grid((8, 5)), cell_size((3, 2), (8, 5)).expand(2, -1)
    assert_equals_the_paper(net, image_of(2, 3, 3, 2), queries, cells, None, four=corners == "four")


def test_swinir_encoder_in_the_whole():
    encoder = SwinIREncoder(4, dim=6, depths=(2,), heads=2, window=4)
    net = network(encoder=encoder, heads=2)
    assert_equals_the_paper(
        net,
        image_of(1, 3, 7, 5),
        reference.grid((9, 6)),
        cell_size((7, 5), (9, 6)).expand(1, -1),
        None,
        encoder=lambda state, x: reference.swinir(state, x, 4, 2),
        heads=2,
    )


def test_every_image_of_a_batch_has_its_own_scale():
    net = network()
    queries, cells = reference.grid((4, 4)), torch.tensor([[1.0, 0.7], [0.5, 0.4]])
    assert_equals_the_paper(net, image_of(2, 3, 3, 2), queries, cells, None)


@pytest.mark.parametrize("keys", ["lattice", "all"])
def test_whole_image_equals_the_paper(keys):
    net, image = network(inference_keys=keys, texture_corners="four", bicubic_residual=True), image_of(1, 3, 3, 5)
    queries = reference.grid((8, 12))  # round(3 * 2.5), round(5 * 2.5)
    expected = reference.iste(
        net,
        image[0].double().numpy(),
        queries,
        reference.cell_of((3, 5), (8, 12)),
        encoder=reference.edsr,
        heads=1,
        four=True,
        keys=queries if keys == "all" else None,
        residual=True,
    )
    assert_close(net(image, scale=2.5)[0], np.array(expected).T.reshape(3, 8, 12))


# --- the result belongs to the image, not to the call -----------------------------------------------------------------


@pytest.mark.parametrize("corners", ["nearest", "four"])
@pytest.mark.parametrize("keys", ["lattice", "all"])
@pytest.mark.parametrize("scale", [2, 2.5, 3.7])
def test_result_ignores_chunks_and_order(scale, keys, corners):
    net, image = network(inference_keys=keys, texture_corners=corners), image_of(2, 3, 5, 4)
    coord, cell = whole_grid(image, scale)
    with torch.no_grad():
        whole = net(image, coord=coord, cell=cell)
        parts = torch.cat([net(image, coord=part, cell=cell) for part in coord.split(17, dim=1)], dim=1)
        order = torch.randperm(coord.shape[1], generator=torch.Generator().manual_seed(0))
        shuffled = net(image, coord=coord[:, order], cell=cell)
        alone = net(image[1:], coord=coord[1:], cell=cell[1:])
    assert_close(parts, whole.numpy(), 1e-6)
    assert_close(shuffled, whole[:, order].numpy(), 1e-6)
    assert_close(alone, whole[1:].numpy(), 1e-6)


@pytest.mark.parametrize("keys", ["lattice", "all"])
def test_cell_per_query_equals_cell_per_image(keys):
    net, image = network(inference_keys=keys), image_of(2, 3, 5, 4)
    coord, cell = whole_grid(image, 3.7)
    expanded = cell.unsqueeze(1).expand(coord.shape)
    for training in (False, True):
        net.train(training)
        expected = net(image, coord=coord, cell=cell).detach()
        assert_close(net(image, coord=coord, cell=expanded), expected.numpy(), 1e-6)


@pytest.mark.parametrize("keys", ["lattice", "all"])
@pytest.mark.parametrize("scale", SCALES)
def test_whole_image_equals_its_coordinates(scale, keys):
    net, image = network(inference_keys=keys, bicubic_residual=True), image_of(2, 3, 5, 4)
    coord, cell = whole_grid(image, scale)
    height, width = output_size((5, 4), scale)
    for training in (False, True):
        net.train(training)
        expected = net(image, coord=coord, cell=cell).detach().mT.reshape(2, 3, height, width)
        assert_close(net(image, scale=scale), expected.numpy(), 1e-6)
        by_scale = net(image, coord=coord, scale=scale).mT.reshape(2, 3, height, width)
        assert_close(by_scale, expected.numpy(), 1e-6)


@pytest.mark.parametrize("strip", [1, 7, 100])
def test_strips_change_nothing_and_bound_the_work(strip, monkeypatch):
    net, image, lengths = network(texture_corners="four"), image_of(1, 3, 5, 4), []
    monkeypatch.setattr(tuning, "FAST_PATHS", False)
    net.local_pixel_decoder.register_forward_hook(lambda module, args, out: lengths.append(out.shape[1]))
    with torch.no_grad():
        whole = net(image, scale=2.5)
        assert lengths == [12 * 10]
        lengths.clear()
        monkeypatch.setattr(tuning, "MAX_DECODER_ELEMENTS", strip * 4 * 6)  # four corners, six hidden channels
        assert_close(net(image, scale=2.5), whole.numpy(), 1e-6)
    assert max(lengths) <= strip
    assert sum(lengths) == 120


@pytest.mark.parametrize("keys", ["lattice", "all"])
def test_no_matrix_of_pixels_by_output_pixels(keys, monkeypatch):
    monkeypatch.setattr(tuning, "KEY_CHUNK", 64)
    net = network(inference_keys=keys)
    with torch.no_grad(), LargestTensor() as largest:
        net(image_of(1, 3, 8, 8), scale=8)
    # 64 pixels by 4,096 output pixels would be 262,144, all by all 16,777,216; four corners of the decoder are 98,304.
    assert 4096 * 3 < largest.elements <= 4096 * 4 * 6


def test_training_retrieves_from_the_queries_and_inference_does_not():
    image = image_of(1, 3, 5, 4)
    coord, cell = whole_grid(image, 3)
    few = coord[:, 50:53]
    for keys, depends in (("queries", True), ("lattice", False)):
        net = network(training_keys=keys).train()
        difference = (net(image, coord=coord, cell=cell)[:, 50:53] - net(image, coord=few, cell=cell)).abs().max()
        assert (difference > 1e-4) == depends


def test_calling_stores_nothing_on_the_network():
    def state(net):
        return {name: {k: id(v) for k, v in vars(module).items()} for name, module in net.named_modules()}

    for net in (network(), network(inference_keys="all", bicubic_residual=True)):
        before, buffers = state(net), {k: v.clone() for k, v in net.state_dict().items()}
        with torch.no_grad():
            net(image_of(1, 3, 5, 4), scale=2.5)
            net(image_of(1, 3, 5, 4), coord=pixel_centers((3, 3))[None], scale=2)
        assert state(net) == before
        assert all(torch.equal(v, buffers[k]) for k, v in net.state_dict().items())


def test_one_size_leaves_no_trace_in_the_next():
    net = network(encoder=SwinIREncoder(4, dim=6, depths=(2,), heads=2, window=4))
    with torch.no_grad():
        first = net(image_of(1, 3, 5, 4), scale=2)
        net(image_of(1, 3, 9, 8), scale=3)
        assert torch.equal(net(image_of(1, 3, 5, 4), scale=2), first)


# --- sizes, scales, precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("scale", [1, 1.0, 1.3, 2.5, 3.7])
@pytest.mark.parametrize("size", SIZES)
def test_shapes(size, scale, batch):
    with torch.no_grad():
        result = network()(image_of(batch, 3, *size), scale=scale)
    assert result.shape == (batch, 3, max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    assert result.isfinite().all()


def test_default_scale():
    image = image_of(1, 3, 4, 5)
    assert network()(image).shape == (1, 3, 8, 10)
    assert network(scale=3)(image).shape == (1, 3, 12, 15)
    assert torch.equal(network(scale=3)(image), network()(image, scale=3))
    assert network(scale=3)(image, scale=1.5).shape == (1, 3, 6, 8)


def test_coordinates_in_double_precision_are_welcome():
    net, image = network(), image_of(1, 3, 4, 5)
    coord, _ = whole_grid(image, 2.5)
    expected = net(image, coord=coord, scale=2.5).detach()
    assert_close(net(image, coord=coord.double(), scale=2.5), expected.numpy(), 1e-6)


@pytest.mark.parametrize("use_stf", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_what_monai_loads_is_welcome(gradients, use_stf):
    net, image = network(use_stf=use_stf).eval(), image_of(1, 3, 4, 5)
    with torch.set_grad_enabled(gradients):
        assert torch.equal(net(MetaTensor(image), scale=1.7).as_tensor(), net(image, scale=1.7))


@pytest.mark.parametrize("gradients", [True, False])
def test_no_queries_have_no_colors(gradients):
    with torch.set_grad_enabled(gradients):
        found = network().eval()(image_of(2, 3, 4, 5), coord=torch.zeros(2, 0, 2), cell=torch.ones(2, 2))
    assert found.shape == (2, 0, 3)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_autocast_stays_close(options):
    torch.manual_seed(0)
    options = {k: v for k, v in options.items() if k != "batch"}
    net = ISTE(EDSREncoder(8, 2), texture_channels=16, hidden_channels=16, **options).eval()
    image = image_of(1, 3, 8, 8)
    with torch.no_grad():
        expected = net(image, scale=2.5)
        with torch.autocast("cpu", torch.bfloat16):
            actual = net(image, scale=2.5)
    assert actual.isfinite().all()
    difference = (actual.float() - expected).abs()
    assert difference.max() < 0.02
    assert difference.mean() < 0.004


def test_autocast_can_be_trained():
    net = network(training_keys="queries").train()
    image = image_of(2, 3, 5, 4)
    coord, cell = whole_grid(image, 2)
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(image, coord=coord, cell=cell).float().square().mean()
    loss.backward()
    assert_all_learn(net)


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training_keys", ["queries", "lattice"])
@pytest.mark.parametrize("corners", ["nearest", "four"])
@pytest.mark.parametrize("switch", [None, *SWITCHES])
def test_gradients_reach_every_parameter(switch, corners, training_keys):
    options = {switch: False} if switch else {}
    net = network(texture_corners=corners, training_keys=training_keys, heads=2, **options).train()
    image = image_of(2, 3, 6, 5)
    coord = torch.rand(2, 40, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    (net(image, coord=coord, scale=3.7) - 0.3).abs().mean().backward()
    assert_all_learn(net)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_gradients_are_those_of_the_equations(options):
    # By finite differences of the image: no branch is cut off, neither stage, neither key set.
    options = {k: v for k, v in options.items() if k != "batch"}
    net = network(**options).double().train("training_keys" in options)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    image = image_of(1, 3, 3, 2).double().requires_grad_()
    coord, cell = whole_grid(image, 1.5)
    assert torch.autograd.gradcheck(lambda x: net(x, coord=coord, cell=cell.double()), image)


def test_switches_take_their_parameters_away():
    full = {name for name, _ in network().named_parameters()}
    without = {switch: {name for name, _ in network(**{switch: False}).named_parameters()} for switch in SWITCHES}
    assert {name.split(".")[1] for name in full - without["use_lfi"]} == {"qkv"}
    assert full - without["use_tl"] == {"texture_learner.phase.weight", "texture_learner.phase.bias"}
    assert {name.split(".")[0] for name in full - without["use_stf"]} == {"self_texture_fusion"}
    assert {name.split(".")[0] for name in full - without["use_ltd"]} == {"local_texture_decoder"}


# --- the interpolation residual ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 2.5])
@pytest.mark.parametrize("color", [0.0, 0.25, 1.0])
def test_with_the_residual_one_color_stays_that_color(color, scale):
    image = torch.full((1, 3, 5, 4), color)
    result = network(bicubic_residual=True)(image, scale=scale)
    assert_close(result, np.full(result.shape, color), 2e-6)
    assert (network()(image, scale=scale) - color).abs().max() > 0.05  # which it does not by itself


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_with_silent_decoders_only_the_residual_is_left(scale):
    net, image = network(bicubic_residual=True), image_of(2, 3, 5, 4)
    for decoder in (net.local_pixel_decoder, net.local_texture_decoder):
        torch.nn.init.zeros_(decoder.mlp[-1].weight)
        torch.nn.init.zeros_(decoder.mlp[-1].bias)
    expected = F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)
    assert_close(net(image, scale=scale), expected.numpy())
    net.bicubic_residual = False
    assert_close(net(image, scale=scale), np.full(expected.shape, 0.5))


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5, 4), (5, 4), (1, 1, 5, 4), (1, 4, 5, 4), (1, 1, 3, 5, 4), (1, 3, 0, 4)])
@pytest.mark.parametrize("call", [{"scale": 2}, {"coord": torch.zeros(1, 6, 2), "cell": torch.ones(1, 2)}])
def test_refuses_images(shape, call):
    with pytest.raises(ShapeError) as caught:
        network()(torch.zeros(shape), **call)
    assert_teaches(caught.value, "(B, 3, h, w)", str(shape))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("call", [{"scale": 2}, {"coord": torch.zeros(1, 6, 2), "cell": torch.ones(1, 2)}])
def test_refuses_images_of_whole_numbers(kind, call):
    with pytest.raises(ShapeError) as caught:
        network()(torch.zeros(1, 3, 5, 4, dtype=kind), **call)
    assert_teaches(caught.value, "floating point", str(kind), "255")


@pytest.mark.parametrize(
    ("coord", "cell", "words"),
    [
        ((1, 6, 3), (1, 2), ["coord", "(1, Q, 2)", "(1, 6, 3)"]),
        ((6, 2), (1, 2), ["coord", "(6, 2)"]),
        ((2, 6, 2), (1, 2), ["coord", "(2, 6, 2)"]),
        ((1, 6, 2), (2,), ["cell", "(1, 2)", "(2,)"]),
        ((1, 6, 2), (1, 5, 2), ["cell", "(1, 6, 2)", "(1, 5, 2)"]),
        ((1, 6, 2), (2, 2), ["cell", "(2, 2)"]),
    ],
)
def test_refuses_coordinates_and_cells(coord, cell, words):
    with pytest.raises(ShapeError) as caught:
        network()(torch.zeros(1, 3, 5, 4), coord=torch.zeros(coord), cell=torch.ones(cell))
    assert_teaches(caught.value, *words)


def test_refuses_coordinates_without_cell_or_scale():
    with pytest.raises(ShapeError) as caught:
        network()(torch.zeros(1, 3, 5, 4), coord=torch.zeros(1, 6, 2))
    assert_teaches(caught.value, "cell or scale", "neither", "cell_size")


@pytest.mark.parametrize("call", [{}, {"coord": torch.zeros(1, 6, 2)}], ids=["whole image", "coordinates"])
@pytest.mark.parametrize("scale", [0, -2, float("nan"), float("inf"), "2"])
def test_refuses_scales(scale, call):
    with pytest.raises(ScaleError) as caught:
        network()(torch.zeros(1, 3, 5, 4), scale=scale, **call)
    assert_teaches(caught.value, "finite scale above 0", repr(scale))


@pytest.mark.parametrize("option", ["texture_corners", "training_keys", "inference_keys"])
@pytest.mark.parametrize("value", ["none", "ALL", ""])
def test_refuses_unknown_choices(option, value):
    with pytest.raises(ConfigError) as caught:
        network(**{option: value})
    assert_teaches(caught.value, option, repr(value), "lattice" if option.endswith("keys") else "four")


def test_refuses_heads():
    with pytest.raises(ConfigError) as caught:
        network(heads=3)
    assert_teaches(caught.value, "heads that divides 4", "3")


def test_refuses_two_scales_with_all_keys():
    net = network(inference_keys="all")
    with pytest.raises(ShapeError) as caught:
        net(image_of(2, 3, 5, 4), coord=torch.zeros(2, 6, 2), cell=torch.tensor([[1.0, 1.0], [0.5, 0.5]]))
    assert_teaches(caught.value, "one scale", "0.5", "Split the batch")


def test_every_combination_of_switches_runs():
    image = image_of(1, 3, 3, 2)
    for values in itertools.product([True, False], repeat=4):
        net = network(**dict(zip(SWITCHES, values, strict=True)))
        with torch.no_grad():
            assert net(image, scale=2.5).shape == (1, 3, 8, 5)


def test_random_features_are_not_idle():
    # Guards the tests above: with random weights every module moves the result.
    image = image_of(1, 3, 5, 4)
    full = network()
    names = ["local_feature_interactor.qkv", "texture_learner.phase", "self_texture_fusion", "local_texture_decoder"]
    for name in names:
        other = network()
        for parameter in other.get_submodule(name).parameters():
            torch.nn.init.zeros_(parameter)
        assert (full(image, scale=2) - other(image, scale=2)).abs().max() > 1e-2, name
