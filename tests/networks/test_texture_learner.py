import math

import numpy as np
import pytest
import reference
import torch
from reference import SCALES, SIZES, assert_all_learn, assert_close, inexact, random, randomise, weights

from monai_iste.coordinates import (
    Neighbors,
    cell_size,
    four_corners,
    key_lattice,
    key_step,
    nearest_pixel,
    output_size,
    pixel_centers,
)
from monai_iste.networks import TextureLearner
from monai_iste.networks.texture_learner import ConvTexture

LEARNERS = [TextureLearner, ConvTexture]
REFERENCE = {nearest_pixel: reference.nearest, four_corners: reference.corners}


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("size", SIZES)
def test_amp_freq_is_a_convolution_with_replicated_borders(size, learner):
    module = randomise(learner(4, 3))
    feat = random(2, 4, *size)
    state = {"weight": weights(module)["conv.weight"], "bias": weights(module)["conv.bias"]}
    expected = [reference.convolution(state, x, "replicate") for x in feat.double().numpy()]
    assert_close(module.amp_freq(feat), expected)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("neighbors", REFERENCE)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_equation(size, scale, neighbors, learner):
    module = randomise(learner(4, 3))
    state, amp_freq = weights(module), random(2, 9 if learner is TextureLearner else 3, *size)
    output = output_size(size, scale)
    queries = reference.grid(output)[:: 1 + output[0] * output[1] // 40]
    cell = reference.cell_of(size, output)
    coord = inexact(queries).expand(2, -1, -1)
    actual = module(amp_freq, neighbors(coord, size), cell_size(size, output).expand(2, -1))
    for b, x in enumerate(amp_freq.double().numpy()):
        expected = [[reference.texture(state, x, t, cell) for t in REFERENCE[neighbors](q, size)] for q in queries]
        assert_close(actual[b], expected)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_keys_equal_the_lattice(size, scale, learner):
    module = randomise(learner(4, 3))
    state, amp_freq = weights(module), random(2, 9 if learner is TextureLearner else 3, *size)
    output = output_size(size, scale)
    cell = reference.cell_of(size, output)
    actual = module.keys(amp_freq, cell_size(size, output).expand(2, -1))
    assert_close(actual, [reference.lattice_keys(state, x, cell) for x in amp_freq.double().numpy()])


def one_query(module, amplitude, freq_y, freq_x, dy, dx, cell=(1.0, 1.0)):
    amp_freq = torch.tensor([amplitude, freq_y, freq_x], dtype=torch.float32).view(1, 3, 1, 1)
    offset = torch.tensor([dy, dx], dtype=torch.float32).view(1, 1, 1, 2)
    neighbors = Neighbors(torch.zeros(1, 1, 1).long(), offset, torch.ones(1, 1, 1, 1))
    return module(amp_freq, neighbors, torch.tensor([cell])).item()


def test_by_hand():
    # Zero weights of the phase: 2 pi sigmoid(0) = pi, and sin(t + pi) = -sin(t).
    module = TextureLearner(2, 1)
    with torch.no_grad():
        module.phase.weight.zero_()
        module.phase.bias.zero_()
    assert one_query(module, 2.0, math.pi / 2, 5.0, 1.0, 0.0) == pytest.approx(-2.0)  # the first offset is dy
    assert one_query(module, 2.0, 5.0, math.pi / 2, 0.0, 1.0) == pytest.approx(-2.0)  # the second is dx
    assert one_query(module, 2.0, 0.3, 0.4, 0.5, -1.0) == pytest.approx(-2 * math.sin(0.15 - 0.4), abs=1e-6)
    # Phase 2 pi sigmoid(cell_y log 3), cell_y = 1: 2 pi * 3/4, sin = -1; cell_y = 0: pi, sin = 0.
    with torch.no_grad():
        module.phase.weight[0, 0] = math.log(3)
    assert one_query(module, 2.0, 0, 0, 0, 0, (1.0, 5.0)) == pytest.approx(-2.0)
    assert one_query(module, 2.0, 0, 0, 0, 0, (0.0, 5.0)) == pytest.approx(0.0, abs=1e-6)


def test_cell_per_query_equals_cell_per_image():
    module = randomise(TextureLearner(4, 3))
    amp_freq, coord = random(2, 9, 3, 4), pixel_centers((6, 10)).expand(2, -1, -1)
    cell = torch.tensor([[1.0, 0.8], [0.5, 0.6]])
    neighbors = four_corners(coord, (3, 4))
    assert_close(
        module(amp_freq, neighbors, cell.unsqueeze(1).expand(2, 60, 2)), module(amp_freq, neighbors, cell).detach()
    )


def test_cell_of_one_query_moves_only_that_query():
    module = randomise(TextureLearner(4, 3))
    amp_freq, neighbors = random(1, 9, 3, 4), nearest_pixel(pixel_centers((3, 4))[None], (3, 4))
    cell = torch.ones(1, 12, 2)
    changed = cell.clone()
    changed[0, 5] = 0.3
    moved = (module(amp_freq, neighbors, cell) - module(amp_freq, neighbors, changed)).abs().amax((0, 2, 3)) > 0
    assert moved.nonzero().flatten().tolist() == [5]


def test_conv_texture_is_flat_within_a_pixel():
    module = randomise(ConvTexture(4, 3))
    texture = module(random(1, 3, 2, 2), nearest_pixel(pixel_centers((6, 6))[None], (2, 2)), torch.ones(1, 2))
    blocks = texture.detach().view(2, 3, 2, 3, 3).transpose(1, 2).reshape(4, 9, 3)
    assert_close(blocks, blocks[:, :1].expand_as(blocks).numpy())


@pytest.mark.parametrize("learner", LEARNERS)
def test_gradients_reach_every_parameter(learner):
    module = randomise(learner(4, 3))
    feat = random(1, 4, 3, 4).requires_grad_()
    coord = pixel_centers((6, 8))[None]
    module(module.amp_freq(feat), nearest_pixel(coord, (3, 4)), torch.ones(1, 2)).square().sum().backward()
    assert_all_learn(module)
    assert (feat.grad.abs().sum(1) > 0).all()


def test_offsets_keep_their_precision_under_autocast():
    # High frequencies turn an offset's rounding to half precision (0.002) into an error of the texture.
    module = randomise(TextureLearner(4, 3))
    amp_freq = random(1, 9, 3, 4) * 64
    amp_freq = amp_freq.bfloat16().float()
    neighbors = nearest_pixel(pixel_centers((9, 13))[None], (3, 4))
    cell = torch.tensor([[0.5, 0.5]])
    with torch.no_grad():
        module.phase.weight.zero_()
        expected = module(amp_freq, neighbors, cell)
        module.phase.bias.copy_(module.phase.bias.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            actual = module(amp_freq, neighbors, cell)
    assert actual.dtype == torch.float32
    assert np.abs((actual - expected).numpy()).max() < 64 * 0.05


@pytest.mark.parametrize("module", [TextureLearner, ConvTexture])
def test_keys_are_thinned_out_on_large_maps(module):
    torch.manual_seed(0)
    learner, feat, cell = module(2, 3), torch.rand(1, 2, 100, 70), torch.tensor([[0.8, 0.8]])
    amp_freq = learner.amp_freq(feat)
    h, w = 100, 70
    assert key_step((h, w)) == 2
    offset = key_lattice((h, w)).view(h, w, 2)
    center = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1)
    coord = (2 * (center + offset / 2).double() + 1) / torch.tensor([h, w]) - 1
    all_keys = learner(amp_freq, nearest_pixel(coord.reshape(1, -1, 2), (h, w)), cell).view(h, w, 3)
    assert torch.allclose(learner.keys(amp_freq, cell)[0], all_keys[::2, ::2].reshape(-1, 3), atol=1e-5)
