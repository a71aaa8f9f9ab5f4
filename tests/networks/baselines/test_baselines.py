"""LIIF and LTE against their equations, written out query by query, corner by corner."""

import math

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from overfitting import assert_overfits
from reference import SCALES, SIZES, assert_all_learn, assert_close, assert_teaches, inexact, part, randomise, weights

from monai_iste.coordinates import cell_size, output_size, pixel_centers
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.networks import LIIF, LTE, EDSREncoder, tuning

NETWORKS = [LIIF, LTE]


def network(cls, seed=0, **arguments):
    return randomise(cls(EDSREncoder(4, 1), **{"hidden_channels": 6, **arguments}), seed).eval()


def image_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- the equations ----------------------------------------------------------------------------------------------------


def corners(query, size):
    """(row, column, offset from that pixel's center in half pixels, bilinear weight), four times."""
    y, x = (reference.position(query[k], size[k]) for k in range(2))
    for row, row_weight in ((math.floor(y), 1 - y % 1), (math.floor(y) + 1, y % 1)):
        for col, col_weight in ((math.floor(x), 1 - x % 1), (math.floor(x) + 1, x % 1)):
            i, j = min(max(row, 0), size[0] - 1), min(max(col, 0), size[1] - 1)
            yield i, j, np.array([float(2 * (y - i)), float(2 * (x - j))]), float(row_weight * col_weight)


def unfolded(feat, row, col):
    """The 3x3 window around a pixel, zeros beyond the image: channel by channel, within it row by row."""
    c, h, w = feat.shape
    values = []
    for channel in range(c):
        for i in range(row - 1, row + 2):
            for j in range(col - 1, col + 2):
                values.append(feat[channel, i, j] if 0 <= i < h and 0 <= j < w else 0.0)
    return np.array(values)


def mlp(state):
    return [*reference.linear_layers(part(state, "mlp")), (state["color.weight"], state["color.bias"])]


def faded(rgb, image, query):
    """The bicubic interpolation, and the gate of a network's residual."""
    share = sum(weight * reference.contrast(image, i, j) for i, j, _, weight in corners(query, image.shape[1:]))
    return rgb * share + reference.bicubic(image, query)


def liif(state, feat, image, query, cell, residual=False):
    first = np.concatenate([state["feature_part.weight"].reshape(6, -1), state["coordinate_part.weight"]], axis=1)
    layers = [(first, state["feature_part.bias"]), *mlp(state)]
    assert len(layers) == 5  # four hidden ones
    rgb = np.zeros(3)
    for row, col, offset, weight in corners(query, feat.shape[1:]):
        rgb += weight * reference.perceptron(layers, np.concatenate([unfolded(feat, row, col), offset, cell]))
    return faded(rgb, image, query) if residual else rgb


def lte(state, feat, image, query, cell, residual=False):
    amplitudes = reference.convolution(part(state, "amplitude"), feat, "zero")
    frequencies = reference.convolution(part(state, "frequency"), feat, "zero")
    layers = mlp(state)
    assert len(layers) == 4  # three hidden ones
    rgb = np.zeros(3)
    for row, col, offset, weight in corners(query, feat.shape[1:]):
        waves = []
        for k in range(3):
            pair = frequencies[2 * k : 2 * k + 2, row, col]
            waves.append(math.pi * (pair @ offset + state["phase.weight"][k] @ cell))
        basis = np.array([math.cos(wave) for wave in waves] + [math.sin(wave) for wave in waves])
        rgb += weight * reference.perceptron(layers, amplitudes[:, row, col] * basis)
        rgb += 0 if residual else weight * image[:, row, col]
    return faded(rgb, image, query) if residual else rgb


@pytest.mark.parametrize("cls", NETWORKS)
@pytest.mark.parametrize(("scale", "residual"), [*((scale, False) for scale in SCALES), (2.5, True)])
@pytest.mark.parametrize("size", SIZES)
def test_equals_its_equations(size, scale, cls, residual):
    net, images = network(cls, bicubic_residual=residual), image_of(2, 3, *size)
    if residual:
        images[0] = images[0] / 50 + 0.4  # a contrast of about one 8-bit level, where what is learned fades
    output = output_size(size, scale)
    queries = reference.grid(output)
    queries = queries[:: 1 + len(queries) // 20] + queries[-1:]
    cells = cell_size(size, output).expand(2, -1)
    actual = net(images, coord=inexact(queries).expand(2, -1, -1), cell=cells)
    state, equations = weights(net), {LIIF: liif, LTE: lte}[cls]
    for image, result in zip(images.double().numpy() * 2 - 1, actual, strict=True):
        feat = reference.edsr(part(state, "encoder"), image)
        cell = cells[0].double().numpy()
        expected = [equations(state, feat, image, query, cell, residual) * 0.5 + 0.5 for query in queries]
        assert_close(result, expected)


@pytest.mark.parametrize(("cls", "count"), [(LIIF, 346_883), (LTE, 493_827)])
def test_heads_have_their_published_size(cls, count):
    # The authors' EDSR-LIIF has 1,567,323 parameters, EDSR-LTE 1,714,267; 1,220,416 of them are the encoder's.
    net = cls(EDSREncoder())
    assert sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in net.encoder.parameters()) == count


@pytest.mark.parametrize("cls", NETWORKS)
def test_default_encoder_is_the_papers(cls):
    assert type(cls().encoder).__name__ == "SwinIREncoder"


# --- called as ISTE is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", NETWORKS)
@pytest.mark.parametrize("scale", SCALES)
def test_whole_image_equals_its_coordinates(scale, cls):
    net, image = network(cls), image_of(2, 3, 5, 4)
    output = output_size((5, 4), scale)
    coord, cell = pixel_centers(output).expand(2, -1, -1), cell_size((5, 4), output).expand(2, -1)
    whole = net(image, scale=scale).detach()
    assert whole.shape == (2, 3, *output)
    for queries in ({"cell": cell}, {"cell": cell.unsqueeze(1).expand_as(coord)}, {"scale": scale}):
        rgb = net(image, coord=coord, **queries)
        assert rgb.shape == (2, output[0] * output[1], 3)
        assert_close(rgb.mT.reshape(2, 3, *output), whole.numpy(), 1e-6)
    assert torch.equal(network(cls, scale=scale)(image), whole)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cls", NETWORKS)
@pytest.mark.parametrize("strip", [1, 7, 100])  # queries, of four corners with at most twelve numbers each
def test_strips_change_nothing_and_bound_the_work(strip, cls, residual, monkeypatch):
    net, image, lengths = network(cls, bicubic_residual=residual), image_of(1, 3, 5, 4), []
    net.mlp.register_forward_hook(lambda module, args, out: lengths.append(out.shape[1]))
    whole = net(image, scale=2.5).detach()
    assert lengths == [12 * 10]
    lengths.clear()
    monkeypatch.setattr(tuning, "MAX_DECODER_ELEMENTS", strip * 4 * 12)
    with torch.no_grad():
        assert_close(net(image, scale=2.5), whole.numpy(), 1e-6)
    assert max(lengths) <= (strip if cls is LTE else 2 * strip)
    assert sum(lengths) == 120


@pytest.mark.parametrize("cls", NETWORKS)
def test_goes_through_the_inferer(cls):
    net, image = network(cls, bicubic_residual=cls is LIIF), image_of(1, 3, 30, 26)
    with torch.no_grad():
        expected = net(image, scale=2.5)
    # Windows see far enough: the encoder's reach is five pixels.
    assert_close(ArbitraryScaleInferer(window=16)(image, net, scale=2.5), expected.numpy(), 1e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cls", NETWORKS)
def test_all_parameters_learn(cls, residual):
    net = network(cls, bicubic_residual=residual).train()
    coord = torch.rand(2, 40, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    (net(image_of(2, 3, 6, 5), coord=coord, scale=3.7) - 0.3).abs().mean().backward()
    assert_all_learn(net)


@pytest.mark.parametrize("cls", NETWORKS)
def test_autocast_stays_close(cls):
    torch.manual_seed(0)
    net, image = cls(EDSREncoder(8, 2), hidden_channels=16).eval(), image_of(1, 3, 8, 8)
    with torch.no_grad():
        expected = net(image, scale=2.5)
        with torch.autocast("cpu", torch.bfloat16):
            difference = (net(image, scale=2.5).float() - expected).abs()
    assert 0 < difference.max() < 0.02


@pytest.mark.parametrize("cls", NETWORKS)
def test_one_color_stays_that_color(cls):
    for scale in (1, 2.5):
        color = torch.tensor([0.9, 0.4, 0.7]).view(1, 3, 1, 1).expand(1, 3, 4, 5)
        result = network(cls, bicubic_residual=True)(color, scale=scale)
        assert_close(result, color[:, :, :1, :1].expand_as(result).numpy(), 1e-6)


def test_nothing_is_added_but_the_residual():
    # LTE brings a bilinear interpolation of its own, LIIF none; the bicubic one takes its place.
    image = image_of(1, 3, 5, 4)
    for cls in NETWORKS:
        assert not cls(EDSREncoder(4, 1)).bicubic_residual
        net = network(cls, bicubic_residual=True)
        with torch.no_grad():
            net.color.weight.zero_()
            net.color.bias.zero_()
        expected = F.interpolate(image, scale_factor=2, mode="bicubic", align_corners=False)
        assert_close(net(image, scale=2), expected.numpy(), 1e-6)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cls", NETWORKS)
def test_overfits_one_tile(cls, residual):
    torch.manual_seed(0)
    net = cls(EDSREncoder(16, 2), hidden_channels=32, bicubic_residual=residual)
    assert_overfits(net, steps=50 if cls is LIIF and not residual else 30)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", NETWORKS)
@pytest.mark.parametrize(
    ("image", "queries", "word"),
    [
        ((3, 4, 4), {"scale": 2}, "(B, 3, h, w)"),
        ((1, 1, 4, 4), {"scale": 2}, "(B, 3, h, w)"),
        ((1, 3, 4, 4), {"coord": torch.zeros(1, 5, 3), "scale": 2}, "(1, Q, 2)"),
        ((2, 3, 4, 4), {"coord": torch.zeros(1, 5, 2), "cell": torch.ones(2, 2)}, "(2, Q, 2)"),
        ((1, 3, 4, 4), {"coord": torch.zeros(1, 5, 2), "cell": torch.ones(1, 4, 2)}, "(1, 5, 2)"),
        ((1, 3, 4, 4), {"coord": torch.zeros(1, 5, 2), "cell": torch.ones(2)}, "(1, 2)"),
        ((1, 3, 4, 4), {"coord": torch.zeros(1, 5, 2)}, "cell or scale"),
    ],
)
def test_wrong_shapes(image, queries, word, cls):
    with pytest.raises(ShapeError) as error:
        network(cls)(torch.zeros(image), **queries)
    assert_teaches(error.value, word)


@pytest.mark.parametrize("cls", NETWORKS)
@pytest.mark.parametrize("scale", [0, -1, math.nan, "2"])
def test_wrong_scales(scale, cls):
    for call in (lambda: network(cls, scale=scale), lambda: network(cls)(torch.zeros(1, 3, 4, 4), scale=scale)):
        with pytest.raises(ScaleError) as error:
            call()
        assert_teaches(error.value)


@pytest.mark.parametrize("width", [0, 7])
def test_lte_needs_pairs(width):
    with pytest.raises(ConfigError) as error:
        LTE(EDSREncoder(4, 1), hidden_channels=width)
    assert_teaches(error.value, str(width))
