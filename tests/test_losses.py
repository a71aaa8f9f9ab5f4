"""The loss of the released recipe, number by number."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_iste.losses import ColourL1Loss


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_equals_its_formula(weight):
    rng = np.random.default_rng(0)
    pred, target = rng.normal(size=(2, 2, 7, 3))
    points = np.mean([abs(p - t) for p, t in zip(pred.ravel(), target.ravel(), strict=True)])
    means = [abs(pred[b, :, c].sum() / 7 - target[b, :, c].sum() / 7) for b in range(2) for c in range(3)]
    found = ColourL1Loss(weight)(torch.from_numpy(pred), torch.from_numpy(target))
    assert float(found) == pytest.approx(points + weight * np.mean(means))


def test_it_learns_the_mean_where_l1_learns_the_median():
    target = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).view(1, 5, 1)  # median 0, mean 0.2
    found = []
    for weight in (0.0, 4.0):
        colour = torch.zeros(1, requires_grad=True)
        optimiser = torch.optim.SGD([colour], 0.002)
        for _ in range(1000):
            optimiser.zero_grad()
            ColourL1Loss(weight)(colour.expand(1, 5, 1), target).backward()
            optimiser.step()
        found.append(float(colour.detach()))
    assert found == pytest.approx([0.0, 0.2], abs=0.02)


def test_configurations_find_it():
    loss = ConfigParser({"loss": {"_target_": "ColourL1Loss", "weight": 2}}).get_parsed_content("loss")
    assert isinstance(loss, ColourL1Loss)
    assert loss.weight == 2
