"""Gathering, weighted sums and bicubic interpolation at single queries, against loops and the kernel."""

import pytest
import reference
import torch
import torch.nn.functional as F
from reference import SIZES, assert_close

from monai_iste.coordinates import (
    Neighbors,
    output_size,
    pixel_centers,
)
from monai_iste.networks.grid_sampling import bicubic_at, ensemble, gather


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_gather_equals_loops(size, channels_last):
    features = reference.random(2, 3, *size)
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    index = torch.randint(size[0] * size[1], (2, 6, 4), generator=torch.Generator().manual_seed(2))
    actual = gather(features, index)
    assert actual.shape == (2, 6, 4, 3)
    for b in range(2):
        for q in range(6):
            for n in range(4):
                row, col = divmod(int(index[b, q, n]), size[1])
                assert torch.equal(actual[b, q, n], features[b, :, row, col])


def test_ensemble_equals_loops():
    values, weight = reference.random(2, 5, 4, 3), reference.random(2, 5, 4, 1, seed=1)
    actual = ensemble(values, Neighbors(torch.zeros(2, 5, 4).long(), torch.zeros(2, 5, 4, 2), weight))
    for b in range(2):
        for q in range(5):
            for c in range(3):
                expected = sum(float(values[b, q, n, c]) * float(weight[b, q, n, 0]) for n in range(4))
                assert float(actual[b, q, c]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_bicubic_equals_torch_on_the_grid(size, scale):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3))
    output = output_size(size, scale)
    actual = bicubic_at(image, pixel_centers(output).expand(2, -1, -1))
    expected = F.interpolate(image, size=output, mode="bicubic", align_corners=False)
    assert_close(actual.mT.reshape(expected.shape), expected.numpy(), 2e-5)


@pytest.mark.parametrize("size", SIZES)
def test_bicubic_equals_the_kernel_at_random(size):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(4))
    coord = torch.rand(1, 40, 2, generator=torch.Generator().manual_seed(5)) * 2 - 1
    expected = [reference.bicubic(image[0].double().numpy(), query) for query in reference.exact(coord[0])]
    assert_close(bicubic_at(image, coord)[0], expected, 2e-5)
