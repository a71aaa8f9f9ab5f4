"""Networks that are told the blur of their input: which of them, in which calls, and what it changes."""

import copy
import math

import pytest
import reference
import torch
from reference import assert_close, assert_teaches, randomise
from tiny_preset import add_tiny_preset

import monai_iste
from monai_iste.coordinates import axis_centers, cell_size, grid_points
from monai_iste.errors import ConfigError
from monai_iste.networks import ISTE, LIIF, BlurConditionedEncoder, EDSREncoder, presets
from monai_iste.networks.caching import CachingEncoder
from monai_iste.networks.grid_sampling import query_grid, takes_input_blur
from monai_iste.networks.learned_range import LearnedRange
from monai_iste.networks.presets import PRESETS
from monai_iste.networks.runtime import resolve_network, with_input_blur
from monai_iste.networks.weights import network_digest

NARROW = {"texture_channels": 6, "hidden_channels": 6, "hidden_layers": 2, "bicubic_residual": True}
WRONG = [math.nan, math.inf, -0.1]


def listening(**changes) -> ISTE:
    return randomise(ISTE(BlurConditionedEncoder(6, 2), **{**NARROW, **changes})).eval()


@pytest.fixture
def image():
    return torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_every_call_listens(image):
    network, blur = listening(), torch.tensor([0.3, math.nan])
    whole = network(image, scale=1.7, input_blur=blur)
    size, output = (7, 9), whole.shape[2:]
    rows, columns = (axis_centers(n) for n in output)
    cell = cell_size(size, output).expand(2, -1)
    points = grid_points(rows, columns).expand(2, -1, -1)
    assert_close(network.forward_grid(image, rows, columns, cell, blur), whole.double().numpy())
    assert_close(query_grid(network, image, rows, columns, cell, blur), whole.double().numpy())
    at_points = network(image, coord=points, cell=cell, input_blur=blur)
    assert_close(at_points.mT.reshape(whole.shape), whole.double().numpy())
    assert_close(network(image[1:], scale=1.7), whole[1:].double().numpy())  # NaN: as if nothing were said
    assert (network(image[:1], scale=1.7) - whole[:1]).abs().max() > 1e-3


def test_with_gradients_too(image):
    network, blur = listening(training_keys="lattice").train(), torch.tensor([0.3, 0.1])
    rows, columns, cell = axis_centers(12), axis_centers(11), cell_size((7, 9), (12, 11)).expand(2, -1)
    told = query_grid(network, image, rows, columns, cell, blur)
    points = network(image, coord=grid_points(rows, columns).expand(2, -1, -1), cell=cell, input_blur=blur)
    assert_close(told, points.detach().mT.reshape(told.shape).double().numpy())
    told.square().mean().backward()
    assert network.encoder.modulation[0].weight.grad.abs().max() > 0


@torch.no_grad()
def test_a_told_network_equals_its_definition(image):
    network, cell = listening(input_blur=0.35), (2 / 1.7, 2 / 1.7)
    queries = [(-0.91, 0.4), (0.2, 0.2), (0.97, -0.6)]
    expected = reference.iste(
        network, image[0].double().numpy(), queries, cell, heads=1, residual=True,
        encoder=lambda state, x: reference.conditioned_edsr(state, x, 0.35),
    )  # fmt: skip
    coord = torch.tensor(queries).unsqueeze(0)
    assert_close(network(image[:1], coord=coord, cell=torch.tensor([cell]))[0], expected)


@torch.no_grad()
def test_a_copy_is_told_and_shares_the_weights(image):
    network = listening()
    told, before = network.with_input_blur(0.3), network(image, scale=2)
    assert torch.equal(told(image, scale=2), network(image, scale=2, input_blur=torch.tensor([0.3, 0.3])))
    assert torch.equal(network(image, scale=2), before)
    assert (network.input_blur, told.input_blur, told.with_input_blur(None).input_blur) == (None, 0.3, None)
    assert torch.equal(told.with_input_blur(None)(image, scale=2), before)
    assert told.encoder is network.encoder
    told.encoder = CachingEncoder(told.encoder, 10**6)
    assert isinstance(network.encoder, BlurConditionedEncoder)
    assert copy.deepcopy(told).input_blur == 0.3


def test_the_digest_tells_blurs_apart():
    network = listening()
    digests = [network_digest(network.with_input_blur(blur)) for blur in (None, 0.0, 0.3, 0.31)]
    assert digests[0] == network_digest(network)
    assert len(set(digests)) == 4
    assert network_digest(listening(scale=3)) == digests[0]


def test_networks_that_cannot_listen(image):
    plain = randomise(ISTE(EDSREncoder(6, 1), **NARROW)).eval()
    liif = LIIF(EDSREncoder(6, 1), hidden_channels=6).eval()
    blur = torch.tensor([0.3, 0.1])
    for network in (plain, liif):
        assert not takes_input_blur(network)
        assert torch.equal(network(image, scale=2, input_blur=blur), network(image, scale=2))
        grid = axis_centers(14), axis_centers(18), cell_size((7, 9), (14, 18)).expand(2, -1)
        assert torch.equal(query_grid(network, image, *grid, blur), query_grid(network, image, *grid))
        for refuse in (lambda network=network: with_input_blur(network, 0.3), lambda: plain.with_input_blur(0.3)):
            with pytest.raises(ConfigError) as caught:
                refuse()
            assert_teaches(caught.value, "told the blur", "0.3", "iste_light2")
    with pytest.raises(ConfigError, match="told the blur"):
        ISTE(EDSREncoder(6, 1), input_blur=0.3, **NARROW)
    assert with_input_blur(liif, None) is liif


@pytest.mark.parametrize("blur", WRONG)
def test_blurs_that_are_none(blur):
    network = listening()
    for refuse in (network.with_input_blur, lambda blur: with_input_blur(network, blur),
                   lambda blur: resolve_network(network, input_blur=blur),
                   lambda blur: listening(input_blur=blur)):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            refuse(blur)
        assert_teaches(caught.value, "at least 0", str(blur), "0 is sharp")


@torch.no_grad()
def test_by_name_and_beyond_what_was_learned(monkeypatch, tmp_path, image):
    add_tiny_preset(monkeypatch)
    weights = tmp_path / "own.pt"
    network = listening()
    torch.save(network.state_dict(), weights)
    preset = PRESETS["iste_light2"]._replace(
        encoder=lambda: BlurConditionedEncoder(6, 2),
        arguments=NARROW,
        learned=LearnedRange((1, 2), (0, 1), 2, (0, 0.4)),
    )
    monkeypatch.setitem(PRESETS, "iste_light2", preset)
    assert torch.equal(
        monai_iste.load("iste_light2", weights, input_blur=0.5)(image), network.with_input_blur(0.5)(image)
    )
    monkeypatch.setattr(presets, "released_weights", lambda preset: weights)
    for load in (monai_iste.load, lambda preset, **blur: resolve_network(preset, weights=weights, **blur)):
        assert load("iste_light2", input_blur=0.4).input_blur == 0.4
        assert load("iste_light2").input_blur is None
        with pytest.raises(ConfigError) as caught:
            load("iste_light2", input_blur=0.41)
        assert_teaches(caught.value, "0 to 0.4 pixels", "0.41", "reduce a softer image")


@torch.no_grad()
def test_half_precision_and_one_network_for_many_callers(image):
    network = listening()
    told = resolve_network(network, precision="bf16", input_blur=0.3)
    exact, untold = network.with_input_blur(0.3)(image, scale=2), network(image, scale=2)
    assert (told(image, scale=2) - exact).abs().mean() < 0.2 * (untold - exact).abs().mean()
    released = resolve_network(), resolve_network(input_blur=0.2)
    assert released[0] is resolve_network()
    assert released[0].input_blur is None
    assert released[1].encoder is released[0].encoder


@torch.no_grad()
def test_cached_features_are_those_of_their_blur(image):
    network = listening()
    expected = {blur: network.with_input_blur(blur)(image, scale=2) for blur in (None, 0.0, 0.3)}
    network.encoder = CachingEncoder(network.encoder, 10**7)
    computed = []
    network.encoder.encoder.register_forward_hook(lambda *args: computed.append(args))
    for blur in (0.3, None, 0.0, None, 0.3):
        assert torch.equal(network.with_input_blur(blur)(image, scale=2), expected[blur])
    assert len(computed) == 3
