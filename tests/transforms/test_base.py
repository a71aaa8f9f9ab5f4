"""Common behavior of random changes of training images: 8 bits in, plain 8-bit tensors out, applied or not."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_iste.data import sample_datalists
from monai_iste.errors import ShapeError
from monai_iste.transforms import RandJPEG, RandLowerMagnification, RandStainJitter

TISSUE = sample_datalists()[0][0]["image"]

each_way = pytest.mark.parametrize("prob", [0, 1])


@each_way
@pytest.mark.parametrize("change", [RandJPEG, RandStainJitter])
@pytest.mark.parametrize("wrap", [torch.from_numpy, lambda a: MetaTensor(torch.from_numpy(a)), lambda a: a])
def test_8_bits_and_plain_tensors_come_out(wrap, change, prob):
    result = change(prob=prob)(wrap(TISSUE[:, :13, :9].copy()))
    assert type(result) is torch.Tensor
    assert result.dtype == torch.uint8
    assert result.shape == (3, 13, 9)


@each_way
@pytest.mark.parametrize("change", [RandJPEG, RandLowerMagnification, RandStainJitter])
def test_only_8_bit_rgb_is_taken(change, prob):
    with pytest.raises(ShapeError, match="float32"):
        change(prob=prob)(TISSUE.astype(np.float32) / 255)
