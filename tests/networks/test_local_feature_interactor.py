import numpy as np
import pytest
import reference
import torch
from reference import SIZES, assert_all_learn, assert_close, assert_teaches, random, randomise, weights

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.networks import LocalFeatureInteractor
from monai_iste.networks.local_feature_interactor import QueryProjection


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_equation(size, batch, heads):
    module = randomise(LocalFeatureInteractor(6, 5, heads), seed=heads)
    feat = random(batch, 6, *size, seed=batch)
    state, maps = weights(module), feat.double().numpy()
    expected = [reference.lfi(state, x, heads) for x in maps]
    assert_close(module.attend(feat), expected)
    assert_close(module(feat), [reference.query_projection(state, x) for x in expected])


@pytest.mark.parametrize("module", [QueryProjection, LocalFeatureInteractor])
@pytest.mark.parametrize("size", SIZES)
def test_three_by_three_projection_replicates_borders(size, module):
    projection = randomise(module(4, 5, kernel_size=3))
    feat = random(1, 4, *size)
    inner = projection.attend(feat) if module is LocalFeatureInteractor else feat
    expected = reference.query_projection(weights(projection), inner[0].detach().double().numpy())
    assert projection(feat).shape == (1, 5, *size)
    assert_close(projection(feat)[0], expected)


def test_by_hand_with_equal_keys():
    # Zero queries give ten equal weights: (pixel + mean + eight neighbors) / 10 = (9 mean + mean) / 10 = the mean.
    module = LocalFeatureInteractor(2, 3)
    with torch.no_grad():
        module.qkv.weight.zero_()
        module.qkv.bias.zero_()
        module.qkv.weight[4:, :, 0, 0] = torch.eye(2)
    feat = random(1, 2, 5, 5)
    assert_close(module.attend(feat)[0, :, 2, 2], feat[0, :, 1:4, 1:4].mean((1, 2)).numpy())


def test_by_hand_attention_to_the_largest():
    # One channel, Q = K = V = the feature: a pixel of 100 among zeros attends to itself alone, the zeros to all ten
    # tokens alike; those next to it see 100 in one neighbor and 100 / 9 in the mean.
    module = LocalFeatureInteractor(1, 3)
    with torch.no_grad():
        module.qkv.weight.fill_(1.0)
        module.qkv.bias.zero_()
    feat = torch.zeros(1, 1, 5, 5)
    feat[0, 0, 2, 2] = 100
    result = module.attend(feat)[0, 0].detach()
    assert result[2, 2] == pytest.approx(100)
    assert result[1, 1] == pytest.approx((100 + 100 / 9) / 10)
    assert result[0, 0] == 0


def test_a_constant_map_stays_constant():
    module = randomise(LocalFeatureInteractor(4, 3, 2))
    result = module(torch.full((1, 4, 5, 6), 0.7))
    assert_close(result, result[:, :, :1, :1].detach().expand_as(result).numpy())


def test_gradients_reach_every_parameter_and_token():
    module = randomise(LocalFeatureInteractor(4, 3, 2))
    feat = random(1, 4, 7, 7).requires_grad_()
    module(feat)[0, :, 3, 3].square().sum().backward()
    assert_all_learn(module)
    reached = feat.grad[0].abs().amin(0) > 0
    expected = np.zeros((7, 7), dtype=bool)
    expected[2:5, 2:5] = True
    assert (reached.numpy() == expected).all()


def test_gradients_are_those_of_the_equation():
    module = randomise(LocalFeatureInteractor(4, 3, 2)).double()
    feat = random(1, 4, 3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(module, feat)


@pytest.mark.parametrize("heads", [0, -1, 3, 5])
def test_refuses_heads(heads):
    with pytest.raises(ConfigError) as caught:
        LocalFeatureInteractor(8, 4, heads)
    assert_teaches(caught.value, "heads that divides 8", str(heads))


@pytest.mark.parametrize("kernel", [0, 2, 5])
@pytest.mark.parametrize("module", [QueryProjection, LocalFeatureInteractor])
def test_refuses_kernels(module, kernel):
    with pytest.raises(ConfigError) as caught:
        module(8, 4, kernel_size=kernel)
    assert_teaches(caught.value, "kernel of 1 or 3", str(kernel))


@pytest.mark.parametrize("shape", [(8, 5, 5), (1, 7, 5, 5), (1, 8, 5), (1, 1, 8, 5, 5)])
def test_refuses_shapes(shape):
    with pytest.raises(ShapeError) as caught:
        LocalFeatureInteractor(8, 4)(torch.zeros(shape))
    assert_teaches(caught.value, "(B, 8, h, w)", str(shape))
