"""The blur of the images on its way from a batch to the network: batches, inferers, networks that take none."""

import copy

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from told_preset import told_network
from torch import nn

from monai_iste import load, upscale
from monai_iste.coordinates import axis_centers
from monai_iste.engines import EncoderPrecision, PrepareGrids, PrepareQueries, PrepareWholeImage
from monai_iste.errors import ConfigError, ShapeError
from monai_iste.inferers import ArbitraryScaleInferer, GridInferer
from monai_iste.networks import ISTE, Bicubic, EDSREncoder, create_network
from monai_iste.networks.runtime import at_precision, with_input_blur

IMAGE = torch.rand(3, 3, 12, 14, generator=torch.Generator().manual_seed(0))
BLURS = torch.tensor([0.3, float("nan"), 0.0])
ROWS, COLUMNS = axis_centers(30, "cpu").expand(3, -1), axis_centers(35, "cpu").expand(3, -1)
CELL = torch.full((3, 2), 0.8)
COORD = torch.cartesian_prod(ROWS[0], COLUMNS[0]).expand(3, -1, -1)


class Wrapper(nn.Module):
    """Network in the attribute ``module``, as DistributedDataParallel keeps it."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


@pytest.fixture(scope="module")
def network():
    return told_network()


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepare", "names"),
    [(PrepareQueries(), {"coord", "cell"}), (PrepareGrids(), {"rows", "columns", "cell"})],
    ids=["queries", "grids"],
)
def test_training_batches_pass_the_blur_that_they_have(prepare, names):
    batch = {key: torch.rand(2, 4) for key in ("image", "label", *names)}
    assert set(prepare(batch, "cpu")[3]) == names
    passed = prepare({**batch, "input_blur": torch.tensor([0.25, torch.nan], dtype=torch.float64)}, "cpu")[3]
    assert set(passed) == {*names, "input_blur"}
    assert passed["input_blur"].dtype == torch.float32
    assert passed["input_blur"].shape == (2,)
    assert passed["input_blur"][0] == 0.25
    assert passed["input_blur"][1].isnan()


def test_evaluation_tells_the_blur_only_where_it_is_asked_to():
    batch = {"image": IMAGE[:1], "scale": torch.tensor([2.0]), "input_blur": torch.tensor([0.25]).double()}
    assert set(PrepareWholeImage()(batch, "cpu")[3]) == {"scale"}
    told = PrepareWholeImage(tell_blur=True)(batch, "cpu")[3]
    assert told["scale"] == 2.0
    assert torch.equal(told["input_blur"], torch.tensor([0.25]))
    del batch["input_blur"]
    assert set(PrepareWholeImage()(batch, "cpu")[3]) == {"scale"}
    with pytest.raises(ConfigError, match="input_blur, got images without it"):  # else the scores would be mislabeled
        PrepareWholeImage(tell_blur=True)(batch, "cpu")


# --- inferers ---------------------------------------------------------------------------------------------------------


def ask(inferer, network, blurs=None, image=IMAGE):
    """Colors (B, H * W, 3) at the same points, by each of the three inferers."""
    told, count = {} if blurs is None else {"input_blur": blurs}, len(image)
    if isinstance(inferer, ArbitraryScaleInferer):
        return inferer(image, network, scale=(30, 35), **told).flatten(2).mT
    if isinstance(inferer, GridInferer):
        return inferer(image, network, rows=ROWS[:count], columns=COLUMNS[:count], cell=CELL[:count], **told)
    return inferer(image, network, coord=COORD[:count], cell=CELL[:count], **told)


INFERERS = pytest.mark.parametrize(
    "inferer", [SimpleInferer(), GridInferer(), ArbitraryScaleInferer()], ids=["points", "grid", "whole"]
)


@INFERERS
@pytest.mark.parametrize("wrap", [lambda network: network, Wrapper], ids=["plain", "wrapped"])
@torch.no_grad()
def test_each_image_of_a_batch_is_told_its_own_blur(inferer, wrap, network):
    result, blind = ask(inferer, wrap(network), BLURS), ask(inferer, network)
    torch.testing.assert_close(result[1], blind[1], rtol=0, atol=1e-5)  # NaN: not told
    for i in (0, 2):
        assert (result[i] - blind[i]).abs().max() > 0.02
        alone = ask(inferer, network.with_input_blur(float(BLURS[i])), image=IMAGE[i : i + 1])
        torch.testing.assert_close(result[i], alone[0], rtol=0, atol=1e-5)


@INFERERS
@torch.no_grad()
def test_what_a_batch_says_comes_before_what_the_network_was_told(inferer, network):
    blind, told = ask(inferer, network), network.with_input_blur(0.5)
    assert (ask(inferer, told) - blind).abs().max() > 0.02
    unknown = torch.full((3,), torch.nan)
    torch.testing.assert_close(ask(inferer, told, unknown), blind, rtol=0, atol=1e-5)


@INFERERS
@torch.no_grad()
def test_networks_that_take_none_ignore_it(inferer):
    torch.manual_seed(0)
    iste = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
    for network in (iste, Wrapper(iste), create_network("liif_light").eval()):
        assert torch.equal(ask(inferer, network, BLURS), ask(inferer, network))


def test_bicubic_ignores_it():
    for inferer in (SimpleInferer(), ArbitraryScaleInferer()):
        told, untold = (inferer(IMAGE, Bicubic(), scale=2.5, **blur) for blur in ({"input_blur": BLURS}, {}))
        assert torch.equal(told, untold)


def test_a_network_of_the_users_own_trains_with_batches_that_have_a_blur():
    class Own(nn.Module):
        def forward(self, image, coord, cell):
            return coord.sum(-1, keepdim=True).expand(-1, -1, 3)

    result = EncoderPrecision(SimpleInferer(), "fp32")(IMAGE, Own(), coord=COORD, cell=CELL, input_blur=BLURS)
    assert result.shape == (3, 30 * 35, 3)


@pytest.mark.parametrize("wrap", [lambda network: network, Wrapper], ids=["plain", "wrapped"])
def test_the_encoder_in_bf16_is_told_too(wrap, network):
    told, seen = copy.deepcopy(network), []
    told.encoder.blocks[0].first.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    inferer = EncoderPrecision(SimpleInferer(), "bf16")
    rounded, exact = ask(inferer, wrap(told), BLURS), ask(SimpleInferer(), network, BLURS)
    assert seen == [torch.bfloat16]
    gap = (ask(SimpleInferer(), network) - exact)[0].abs().mean()
    assert 0 < (rounded - exact).abs().mean() < 0.2 * gap  # rounding is not taken for blur
    rounded.square().mean().backward()
    assert told.encoder.modulation[0].weight.grad.abs().max() > 0


@torch.no_grad()
def test_a_network_in_half_precision_is_told_too(network):
    inferer, half = ArbitraryScaleInferer(), at_precision(network, "bf16")
    told, exact = ask(inferer, half, BLURS), ask(inferer, network, BLURS)
    gap = (ask(inferer, network) - exact)[0].abs().mean()
    assert 0 < (told - exact).abs().mean() < 0.5 * gap
    assert torch.equal(ask(inferer, with_input_blur(half, 0.3), image=IMAGE[:1]), told[:1])
    for inferer in (SimpleInferer(), GridInferer()):
        assert (ask(inferer, half, BLURS) - exact).abs().mean() < 0.5 * gap
    with pytest.raises(ConfigError, match="can be told the blur"):
        with_input_blur(at_precision(Bicubic(), "bf16"), 0.3)


@INFERERS
@pytest.mark.parametrize("blurs", [torch.tensor([0.3]), torch.tensor(0.3), torch.zeros(3, 1)])
def test_one_blur_per_image_or_a_sentence(inferer, blurs, network):
    with pytest.raises(ShapeError, match=r"input_blur of shape \(3,\)"):
        ask(inferer, network, blurs)


@pytest.mark.parametrize("blur", ["0.3", True, [0.3], torch.tensor([0.3, 0.2]), -1, float("nan"), float("inf")])
def test_in_python_a_blur_is_one_number(blur, network):
    for model in (network, None):
        with pytest.raises(ConfigError, match="an input_blur of at least 0 pixels, got"):
            upscale(np.zeros((9, 9, 3), np.uint8), 2, model=model, input_blur=blur)
    with pytest.raises(ConfigError, match="an input_blur of at least 0 pixels, got"):
        load(input_blur=blur)
    assert network.with_input_blur(np.float32(0.5)).input_blur == 0.5


@pytest.mark.parametrize("blur", [-0.1, float("inf")])
def test_a_blur_that_is_none(blur, network):
    with pytest.raises(ConfigError, match="an input_blur of at least 0 pixels"):
        ArbitraryScaleInferer()(IMAGE[:1], network, input_blur=torch.tensor([blur]))
