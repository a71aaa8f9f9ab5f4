"""Blurs that no network should take, and what a told network leaves behind."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from reference import assert_teaches
from told_preset import add_told_preset, told_network

import monai_iste
from monai_iste.errors import CheckpointError, ConfigError, ShapeError
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.networks import ISTE, PRESETS, BlurConditionedEncoder, EDSREncoder, load_weights, presets
from monai_iste.networks.learned_range import LearnedRange
from monai_iste.networks.runtime import resolve_network
from monai_iste.networks.weights import network_digest
from monai_iste.slides import network_provenance

NO_NUMBERS = ["0.3", [0.3], np.array(0.3), torch.tensor(0.3), True, {}, 2j]
OUTSIDE = [-0.1, math.inf, -math.inf, math.nan, 10**400, 1e39, Fraction(-1, 3), np.float32(-1)]
TILE = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
NO_BLURS = [
    (0.3, "a tensor of shape (2,)"),
    ([0.3, 0.1], "a tensor of shape (2,)"),
    (np.array([0.3, 0.1]), "a tensor of shape (2,)"),
    ("soft", "a tensor of shape (2,)"),
    (torch.tensor(0.3), "of shape (2,)"),
    (torch.tensor([0.3]), "of shape (2,)"),
    (torch.tensor([True, False]), "real numbers"),
    (torch.tensor([0.3 + 1j, 0]), "real numbers"),
    (torch.tensor([0.3, -0.1]), "at least 0"),
    (torch.tensor([math.inf, 0.1]), "at least 0"),
    (torch.tensor([1e39, math.nan], dtype=torch.float64), "at least 0"),
]


@pytest.mark.parametrize("blur", NO_NUMBERS, ids=repr)
def test_what_is_no_number(blur):
    with pytest.raises(ConfigError) as caught:
        monai_iste.upscale(TILE, 2, model=told_network(), input_blur=blur)
    assert_teaches(caught.value, "at least 0 pixels", repr(blur), "Pass one number")


@pytest.mark.parametrize("blur", OUTSIDE, ids=lambda blur: repr(blur)[:20])
def test_what_is_no_blur(blur):
    with pytest.raises(ConfigError) as caught:
        monai_iste.upscale(TILE, 2, model=told_network(), input_blur=blur)
    assert_teaches(caught.value, "at least 0 pixels", str(blur)[:100], "0 is sharp")


@torch.no_grad()
@pytest.mark.parametrize(("blurs", "expected"), NO_BLURS, ids=str)
def test_blurs_of_a_batch(blurs, expected):
    network, images = told_network(), torch.rand(2, 3, 7, 8)
    program = torch.jit.script(network)
    for call in (network, lambda *args, **kwargs: ArbitraryScaleInferer()(args[0], network, **kwargs)):
        with pytest.raises((ShapeError, ConfigError), match="Expected") as caught:
            call(images, scale=2.0, input_blur=blurs)
        assert expected in str(caught.value)
    with pytest.raises((RuntimeError, torch.jit.Error)):
        program(images, scale=2.0, input_blur=blurs)


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int64])
def test_other_types_of_numbers(kind):
    network, images = told_network(), torch.rand(2, 3, 7, 8)
    blurs = torch.tensor([0, 1], dtype=kind)
    assert torch.equal(network(images, scale=2, input_blur=blurs), network(images, scale=2, input_blur=blurs.float()))


@torch.no_grad()
def test_a_compiled_network_listens():
    network, images, blurs = told_network(), torch.rand(2, 3, 7, 8), torch.tensor([0.3, math.nan])
    compiled = torch.compile(network, backend="eager")
    expected = network(images, scale=2, input_blur=blurs)
    assert torch.equal(compiled(images, scale=2, input_blur=blurs), expected)
    assert torch.equal(torch.nn.DataParallel(network)(images, scale=2, input_blur=blurs), expected)


def test_a_network_by_name_remembers_what_it_learned(monkeypatch, tmp_path):
    add_told_preset(monkeypatch)
    learned = LearnedRange((1, 2), (0, 1), 2, (0, 0.55))
    monkeypatch.setitem(PRESETS, "told", PRESETS["told"]._replace(learned=learned))
    torch.save(told_network().state_dict(), tmp_path / "released.pt")
    torch.save(told_network(seed=1).state_dict(), tmp_path / "own.pt")
    monkeypatch.setattr(presets, "released_weights", lambda preset: tmp_path / "released.pt")
    network = monai_iste.load("told", tmp_path / "released.pt")
    copies = network, copy.deepcopy(network), pickle.loads(pickle.dumps(network)), network.with_input_blur(0.1)  # noqa: S301
    for model in (*copies, resolve_network(network, precision="bf16")):
        with pytest.raises(ConfigError) as caught:
            monai_iste.upscale(TILE, 2, model=model, input_blur=0.5500001)
        assert_teaches(caught.value, "0 to 0.55 pixels", "0.5500001", "Pass 0.55 at most")
        monai_iste.upscale(TILE, 2, model=model, input_blur=np.float32(0.55))
    monai_iste.load("told", tmp_path / "own.pt").with_input_blur(0.8)  # of its owner's data nothing is known
    assert network.input_blur is None


def test_the_blur_of_an_image_is_not_saved_with_weights(monkeypatch, tmp_path):
    add_told_preset(monkeypatch)
    told = told_network().with_input_blur(0.4)
    torch.save(told.state_dict(), tmp_path / "a.pt")
    assert monai_iste.load("told", tmp_path / "a.pt").input_blur is None
    told.load_state_dict(told_network().state_dict())
    assert told.input_blur == 0.4


def test_upscale_puts_the_whole_network_into_evaluation_mode():
    network = told_network().train()
    expected = monai_iste.upscale(TILE, 2, model=told_network(), input_blur=0.3)
    assert np.array_equal(monai_iste.upscale(TILE, 2, model=network, input_blur=0.3), expected)
    assert not any(module.training for module in network.modules())


def test_minus_zero_is_zero():
    digests = {network_digest(told_network().with_input_blur(blur)) for blur in (0, 0.0, -0.0, np.float64(-0.0))}
    assert len(digests) == 1
    assert network_provenance("iste_huge", input_blur=-0.0)["input_blur"] == "0.0"


def test_weights_from_before_the_blur_say_so(tmp_path):
    arguments = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}
    earlier = ISTE(EDSREncoder(8, 2), **arguments)
    path = tmp_path / "earlier.pt"
    torch.save(earlier.state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        load_weights(told_network(), path)
    assert_teaches(caught.value, "told the blur", "earlier.pt", "released now", "encoder=EDSREncoder(8, 2)")
    load_weights(ISTE(EDSREncoder(8, 2), **arguments), path)  # as the message says
    for other in (ISTE(BlurConditionedEncoder(8, 3, 8), **arguments), ISTE(EDSREncoder(8, 3), **arguments)):
        torch.save(other.state_dict(), path)
        with pytest.raises(CheckpointError, match="Name the preset"):
            load_weights(told_network(), path)
