"""The Haar transform equals its equation and is inverted; padding moves nothing."""

import pytest
import reference
import torch
from reference import assert_close, assert_teaches
from swd_equations import bands_to_blocks, blocks_to_bands

from monai_iste.errors import ShapeError
from monai_iste.networks.baselines.wavelets import haar, inverse_haar, pad_to_multiple


def image_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_haar_equals_its_equation():
    x = reference.random(2, 3, 4, 6).double()
    for image, bands in zip(x, haar(x), strict=True):
        assert_close(bands, blocks_to_bands(image.numpy()), 1e-12)
        assert_close(inverse_haar(bands[None])[0], bands_to_blocks(bands.numpy()), 1e-12)


def test_haar_is_inverted_and_orthonormal():
    x, y = reference.random(2, 1, 3, 16, 8).double()
    for levels in (1, 2, 3):
        bands, other = x, y
        for _ in range(levels):
            bands, other = haar(bands), haar(other)
        assert bands.shape == (1, 3 * 4**levels, 16 // 2**levels, 8 // 2**levels)
        assert_close((bands * other).sum(), (x * y).sum().numpy(), 1e-12)
        for _ in range(levels):
            bands = inverse_haar(bands)
        assert_close(bands, x.numpy(), 1e-12)


def test_haar_equals_pywavelets():
    pywt = pytest.importorskip("pywt")
    x = reference.random(4, 6).double()
    mean, (along_y, along_x, both) = pywt.dwt2(x.numpy(), "haar")
    assert_close(haar(x[None, None])[0], [mean, along_x, along_y, both], 1e-12)


def test_padding_moves_nothing():
    x = image_of(1, 2, 5, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 2, 8, 4)
    assert torch.equal(padded[..., :5, :3], x)
    assert torch.equal(padded[..., 5:, :3], x[..., 4:, :].expand(-1, -1, 3, -1))
    assert torch.equal(padded[..., 3], padded[..., 2])
    assert torch.equal(pad_to_multiple(padded, 4), padded)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 5, 4), (1, 3, 4, 5)])
def test_haar_needs_even_sides(shape):
    with pytest.raises(ShapeError) as error:
        haar(torch.zeros(shape))
    assert_teaches(error.value, str(shape))


def test_inverse_haar_needs_four_bands():
    with pytest.raises(ShapeError) as error:
        inverse_haar(torch.zeros(1, 6, 2, 2))
    assert_teaches(error.value, "(1, 6, 2, 2)")
