"""EDSR and SwinIR against their definitions, pixel by pixel."""

import numpy as np
import pytest
import reference
import torch
from overfitting import assert_overfits
from reference import assert_all_learn, assert_close, assert_teaches, part, randomise, weights

from monai_iste.coordinates import cell_size, pixel_centers
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.networks import EDSREncoder, SwinIREncoder
from monai_iste.networks.baselines.edsr import EDSR
from monai_iste.networks.baselines.swinir import SwinIR


def edsr(scale=2, **changes):
    return randomise(EDSR(scale, **{"out_channels": 4, "num_blocks": 1, **changes})).eval()


def swinir(scale=2, **changes):
    arguments = {"dim": 8, "depths": (2,), "heads": 2, "window": 4, "out_channels": 4, **changes}
    return randomise(SwinIR(scale, **arguments)).eval()


NETWORKS = [edsr, swinir]


def image_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- the definitions --------------------------------------------------------------------------------------------------


def encoded(net, image):
    state = part(weights(net), "encoder")
    return reference.edsr(state, image) if isinstance(net, EDSR) else reference.swinir(state, image, 4, 2)


def shuffled(x, factor):
    """Channel ``c * factor^2 + i * factor + j`` of a pixel is channel c of its part in row i, column j."""
    channels, h, w = x.shape
    out = np.zeros((channels // factor**2, h * factor, w * factor))
    for number in range(channels):
        c, i, j = number // factor**2, number % factor**2 // factor, number % factor
        for row in range(h):
            for col in range(w):
                out[c, row * factor + i, col * factor + j] = x[number, row, col]
    return out


def upscaled(net, image, stages):
    """image: (3, h, w) in [-1, 1]."""
    state = part(weights(net), "head")
    mean = weights(net)["mean"]
    x = encoded(net, image - mean)
    for i, factor in enumerate(stages):
        x = shuffled(reference.convolution(part(state, str(2 * i)), x, "zero"), factor)
    return reference.convolution(part(state, str(2 * len(stages))), x, "zero") + mean


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("scale", "stages"), [(2, [2]), (3, [3]), (4, [2, 2])])
@pytest.mark.parametrize("build", NETWORKS)
def test_equals_its_definition(build, scale, stages, residual):
    net, images = build(scale, bicubic_residual=residual), image_of(2, 3, 4, 3)
    images[0] = images[0] / 50 + 0.4  # a contrast of about one 8-bit level, where what is learned fades
    net.mean.copy_(torch.tensor([0.1, -0.2, 0.3]).view(3, 1, 1))
    actual = net(images, scale=scale)
    assert actual.shape == (2, 3, 4 * scale, 3 * scale)
    for image, result in zip(images.double().numpy() * 2 - 1, actual, strict=True):
        expected = upscaled(net, image, stages)
        if residual:
            for k, query in enumerate(reference.grid(expected.shape[1:])):
                row, col = divmod(k, expected.shape[2])
                share = sum(
                    t.weight * reference.contrast(image, t.row, t.col) for t in reference.corners(query, (4, 3))
                )
                expected[:, row, col] = expected[:, row, col] * share + reference.bicubic(image, query)
        assert_close(result, expected * 0.5 + 0.5)


def test_colors_are_counted_from_zero_unless_published_weights_say_otherwise():
    for build in NETWORKS:
        net = build()
        assert not net.mean.any()
        assert net.state_dict()["mean"].shape == (3, 1, 1)
        assert "mean" not in dict(net.named_parameters())


def convolution(inputs, outputs):
    return 9 * inputs * outputs + outputs


@pytest.mark.parametrize(
    ("scale", "head", "edsr_count", "swinir_count"),
    [
        (2, convolution(64, 256), 1_369_859, 11_752_487),
        (3, convolution(64, 576), 1_554_499, 11_937_127),
        (4, 2 * convolution(64, 256), 1_517_571, 11_900_199),
        (8, 3 * convolution(64, 256), 1_665_283, 12_047_911),
    ],
)
def test_published_sizes(scale, head, edsr_count, swinir_count):
    head += convolution(64, 3)
    net = EDSR(scale)
    assert sum(p.numel() for p in net.parameters()) == 1_220_416 + head == edsr_count
    assert 11_603_044 + head == swinir_count  # the encoder's size has its own test
    assert sum(p.numel() for p in net.head.parameters()) == head


def test_defaults_are_the_published_ones():
    net = SwinIR()
    assert sum(p.numel() for p in net.parameters()) == 11_752_487
    for default in (net, EDSR()):
        assert default.scale == 2
        assert not default.bicubic_residual
    assert (type(net.encoder), type(EDSR().encoder)) == (SwinIREncoder, EDSREncoder)


def test_the_encoder_is_built_as_asked_for():
    encoder = SwinIR(3, 12, (1, 3), 3, 5, 1.5, 0.3, 7).encoder
    assert (encoder.out_channels, encoder.window, encoder.shallow.out_channels) == (7, 5, 12)
    assert [len(group.layers) for group in encoder.groups] == [1, 3]
    layer = encoder.groups[1].layers[2]
    assert (layer.attention.heads, layer.mlp.linear1.out_features) == (3, 18)
    assert layer.drop_path.drop_prob == pytest.approx(0.3)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in EDSR(2, 4, 3).encoder.modules()) == 8


# --- called as the others are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", NETWORKS)
def test_coordinates_are_pixels_of_the_whole(build):
    net, image = build(3), image_of(2, 3, 5, 4)
    coord = pixel_centers((15, 12)).expand(2, -1, -1)
    whole = net(image)
    assert torch.equal(net(image, scale=3.0), whole)
    for cell in (None, cell_size((5, 4), (15, 12)).expand(2, -1)):
        assert_close(net(image, coord=coord, cell=cell).mT.reshape(2, 3, 15, 12), whole.detach().numpy(), 1e-7)


@pytest.mark.parametrize("build", NETWORKS)
def test_one_color_stays_that_color_with_the_residual(build):
    color = torch.tensor([0.9, 0.4, 0.7]).view(1, 3, 1, 1)
    result = build(2, bicubic_residual=True)(color.expand(1, 3, 5, 6))
    assert_close(result, color.expand_as(result).numpy(), 1e-6)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("build", NETWORKS)
def test_all_parameters_learn(build, residual):
    net = build(4, bicubic_residual=residual, **({"drop_path": 0.0} if build is swinir else {})).train()
    (net(image_of(2, 3, 6, 5)) - 0.3).abs().mean().backward()
    assert_all_learn(net)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("build", NETWORKS)
def test_overfits_one_tile(build, residual):
    torch.manual_seed(0)
    if build is edsr:
        net = EDSR(2, 16, 2, bicubic_residual=residual)
    else:
        net = SwinIR(2, dim=12, depths=(2,), heads=2, out_channels=16, bicubic_residual=residual)
    assert_overfits(net)


@pytest.mark.parametrize("build", NETWORKS)
def test_autocast_leaves_the_last_convolution_in_full_precision(build):
    torch.manual_seed(0)
    net = (EDSR(2, 8, 2) if build is edsr else SwinIR(2, dim=12, depths=(2,), heads=2, out_channels=8)).eval()
    image, types = image_of(1, 3, 8, 8), []
    for layer in (net.head[0], net.head[-1]):
        layer.register_forward_hook(lambda layer, args, out: types.append(out.dtype))
    with torch.no_grad():
        expected = net(image)
        types.clear()
        with torch.autocast("cpu", torch.bfloat16):
            result = net(image)
    assert types == [torch.bfloat16, torch.float32]
    assert result.dtype == torch.float32
    assert 0 < (result - expected).abs().max() < 0.02


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [-2, 0, 1, 5, 6, 12, 2.5])
@pytest.mark.parametrize("build", NETWORKS)
def test_scales_that_no_head_has(build, scale):
    with pytest.raises(ScaleError) as caught:
        build(scale)
    assert_teaches(caught.value, repr(scale))


@pytest.mark.parametrize("build", NETWORKS)
def test_scales_that_it_was_not_built_for(build):
    net = build(2)
    for scale in (3, 2.5, 1):
        with pytest.raises(ScaleError) as caught:
            net(image_of(1, 3, 4, 4), scale=scale)
        assert_teaches(caught.value, type(net).__name__, "scale 2", str(scale))
    assert net(image_of(1, 3, 4, 4), scale=2).isfinite().all()


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 1, 4, 4), (0, 3, 4, 4)])
@pytest.mark.parametrize("build", NETWORKS)
def test_wrong_shapes(build, shape):
    with pytest.raises(ShapeError) as caught:
        build()(torch.zeros(shape))
    assert_teaches(caught.value, "(B, 3, h, w)", str(shape))


def test_swinir_refuses_heads():
    with pytest.raises(ConfigError) as caught:
        SwinIR(2, dim=8, depths=(1,), heads=3)
    assert_teaches(caught.value, "heads that divides 8")
