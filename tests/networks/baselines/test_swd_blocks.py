"""Blocks of SWD-Net against their equations."""

import pytest
import reference
import torch
from reference import assert_close, randomise, weights
from swd_equations import adapted, fusion, multi_path

from monai_iste.networks.baselines.swd_blocks import AlignedMultiPathConv, RefineContextFusion, feature_adaption


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_refine_context_fusion(size):
    block, backbone, bypass = (
        randomise(RefineContextFusion(4)),
        reference.random(4, *size),
        reference.random(4, *size, seed=1),
    )
    expected = fusion(weights(block), backbone.double().numpy(), bypass.double().numpy())
    assert_close(block(backbone[None], bypass[None])[0], expected)


def test_fusion_begins_without_context_and_learns_it():
    torch.manual_seed(0)
    block, backbone, bypass = RefineContextFusion(4), reference.random(1, 4, 3, 5), reference.random(1, 4, 3, 5, seed=1)
    assert torch.equal(block(backbone, bypass), block.squeeze_excite(backbone))
    block(backbone, bypass).square().sum().backward()
    assert block.context[2].weight.grad.abs().max() > 0


def test_aligned_multi_path_convolution():
    block, x = randomise(AlignedMultiPathConv(2, 3)), reference.random(2, 4, 5)
    assert_close(block(x[None])[0], multi_path(weights(block), x.double().numpy()))
    assert count(AlignedMultiPathConv(96, 96)) == 39 * 96**2 + 7 * 2 * 96  # 9 + 2 * 3 + 2 * 3 + 2 * 9 taps


def test_feature_adaption():
    block, x = randomise(feature_adaption(12)), reference.random(12, 2, 3)
    assert_close(block(x[None])[0], adapted(weights(block), x.double().numpy()))
