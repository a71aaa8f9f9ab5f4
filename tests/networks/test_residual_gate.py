"""The gate of the bicubic residual."""

import pytest
import torch

from monai_iste.networks.residual_gate import residual_gate


def test_the_residual_vanishes_with_the_contrast():
    # A pixel that stands out by d in one channel: v is d^2 / 3 for itself, an eighth of that for its neighbors.
    image = torch.zeros(1, 3, 7, 7)
    image[0, 0, 3, 3] = 6 / 255
    v = 12 / 255**2
    found = residual_gate(image)[0, 0]
    assert float(found[3, 3]) == pytest.approx(v / (v + 4 / 255**2))
    assert float(found[2, 4]) == pytest.approx(v / 8 / (v / 8 + 4 / 255**2))
    assert float(found[1, 1]) == 0
    assert residual_gate(torch.rand(1, 3, 9, 9)).min() > 0.99
