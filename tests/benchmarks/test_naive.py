"""The literal network equals the library's, also in its gradients."""

import pytest
import torch
from benchmark_inputs import NETWORKS, image_of, pair_of
from reference import assert_close, assert_teaches

from benchmarks import speed
from benchmarks.naive import NaiveISTE
from monai_iste.errors import ConfigError
from monai_iste.networks import ISTE, EDSREncoder


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1, 1.3, 2, 2.5, 3, 3.7, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 5)])
def test_the_literal_network_equals_the_library(size, scale, name):
    fast, literal = pair_of(name)
    image = image_of(2, 3, *size)
    with torch.no_grad():
        assert_close(fast(image, scale=scale), literal(image, scale=scale).numpy())
    expected, found = speed.retrievals(fast, literal, image, scale)
    assert torch.equal(expected, found)
    assert (size, name) != ((7, 5), "as printed") or expected.unique().numel() > 1  # there is something to compare


@pytest.mark.parametrize("per_query", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_literal_network_learns_as_the_library_does(name, per_query):
    fast, literal = (net.train() for net in pair_of(name))
    image, coord = image_of(2, 3, 5, 4), image_of(2, 30, 2) * 2 - 1
    cell = torch.tensor([[0.5, 0.7], [1.0, 0.9]])
    cell = cell.unsqueeze(1).expand_as(coord) if per_query else cell
    results = [net(image, coord=coord, cell=cell) for net in (fast, literal)]
    assert_close(results[0], results[1].detach().numpy())
    gradients = [torch.autograd.grad(result.square().sum(), list(fast.parameters())) for result in results]
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(ours, theirs.numpy(), 1e-3)


def test_the_literal_network_refuses_what_it_is_not():
    with pytest.raises(ConfigError) as error:
        NaiveISTE(ISTE(EDSREncoder(4, 1), texture_channels=6, hidden_channels=7, use_lfi=False))
    assert_teaches(error.value)
