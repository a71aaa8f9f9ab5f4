"""Blurs beyond what the weights learned, by every way to tell them; copies that keep to themselves."""

import copy

import numpy as np
import pytest
import torch
from reference import assert_teaches
from told_preset import told_network

import monai_iste
from monai_iste.coordinates import axis_centers
from monai_iste.errors import ConfigError
from monai_iste.inferers import ArbitraryScaleInferer, GridInferer
from monai_iste.networks.grid_sampling import query_grid
from monai_iste.networks.runtime import at_precision

IMAGE = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
ROWS, COLUMNS, CELL = axis_centers(18, "cpu"), axis_centers(16, "cpu"), torch.ones(2, 2)


@pytest.fixture
def network():
    network = told_network()
    network.learned_blur = (0.0, 0.55)
    return network


def points():
    return {"coord": torch.cartesian_prod(ROWS, COLUMNS).expand(2, -1, -1), "cell": CELL}


CALLS = {
    "image": lambda network, blurs: network(IMAGE, scale=2.0, input_blur=blurs),
    "coordinates": lambda network, blurs: network(IMAGE, **points(), input_blur=blurs),
    "grid": lambda network, blurs: network.forward_grid(IMAGE, ROWS, COLUMNS, CELL, blurs),
    "any network's grid": lambda network, blurs: query_grid(network, IMAGE, ROWS, COLUMNS, CELL, blurs),
    "bf16": lambda network, blurs: at_precision(network, "bf16")(IMAGE, scale=2.0, input_blur=blurs),
    "inferer": lambda network, blurs: ArbitraryScaleInferer()(IMAGE, network, input_blur=blurs),
    "grid inferer": lambda network, blurs: GridInferer()(
        IMAGE, network, rows=ROWS.expand(2, -1), columns=COLUMNS.expand(2, -1), cell=CELL, input_blur=blurs
    ),
    "copy": lambda network, blurs: copy.deepcopy(network)(IMAGE, scale=2.0, input_blur=blurs),
    "wrapper": lambda network, blurs: torch.nn.DataParallel(network)(IMAGE, scale=2.0, input_blur=blurs),
}


@torch.no_grad()
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_call_refuses_what_was_not_learned(network, call):
    assert call(network, torch.tensor([0.55, torch.nan])).isfinite().all()
    with pytest.raises(ConfigError) as caught:
        call(network, torch.tensor([torch.nan, 0.75]))
    assert_teaches(caught.value, "0 to 0.55 pixels, as learned", "0.75", "Pass 0.55 at most")


def test_training_goes_on_beyond_what_was_learned(network):
    assert network.train()(IMAGE, **points(), input_blur=torch.tensor([0.75, 2.0])).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_the_end_of_the_range_belongs_to_it_whatever_the_type_of_the_images(network, kind):
    """0.55 is 0.5508 in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.bfloat16):
        for inferer in (ArbitraryScaleInferer(), lambda image, network, **blur: network(image, scale=2.0, **blur)):
            assert (
                inferer(
                    IMAGE.to(kind) if kind is torch.bfloat16 else IMAGE,
                    network,
                    input_blur=torch.tensor([0.55, 0]).double(),
                )
                .isfinite()
                .all()
            )


def test_a_program_that_was_exported_takes_any_number(network):
    with torch.no_grad():
        program = torch.jit.script(network.with_input_blur(0.3))
        blurs = torch.tensor([0.75, 0.1])
        network.learned_blur = None
        torch.testing.assert_close(
            program(IMAGE, scale=2.0, input_blur=blurs), network(IMAGE, scale=2, input_blur=blurs)
        )


def test_a_number_of_thousands_of_digits():
    with pytest.raises(ConfigError) as caught:
        monai_iste.upscale(np.zeros((8, 9, 3), np.uint8), 2, model=told_network(), input_blur=10**5000)
    assert_teaches(caught.value, "at least 0 pixels", "more digits than can be printed", "0 is sharp")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hook_of_a_told_copy_is_not_one_of_the_network(network, kind):
    calls, told = [], network.with_input_blur(0.3)
    getattr(told, kind)(lambda *arguments: calls.append("told"))
    network(IMAGE, scale=2.0)
    assert calls == []
    told(IMAGE, scale=2.0)
    assert calls == ["told"]
    getattr(network, kind)(lambda *arguments: calls.append("network"))
    network.with_input_blur(0.1)(IMAGE, scale=2.0)  # one that was there before belongs to the copy too
    told(IMAGE, scale=2.0)
    assert calls == ["told", "network", "told"]
