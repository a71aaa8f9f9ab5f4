"""The loss of the released recipe, number by number."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from reference import assert_teaches

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.losses import ColorL1Loss, SpatialWaveletLoss


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_equals_its_formula(weight):
    rng = np.random.default_rng(0)
    pred, target = rng.normal(size=(2, 2, 7, 3))
    points = np.mean([abs(p - t) for p, t in zip(pred.ravel(), target.ravel(), strict=True)])
    means = [abs(pred[b, :, c].sum() / 7 - target[b, :, c].sum() / 7) for b in range(2) for c in range(3)]
    found = ColorL1Loss(weight)(torch.from_numpy(pred), torch.from_numpy(target))
    assert float(found) == pytest.approx(points + weight * np.mean(means))


def test_it_learns_the_mean_where_l1_learns_the_median():
    target = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).view(1, 5, 1)  # median 0, mean 0.2
    found = []
    for weight in (0.0, 4.0):
        color = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([color], 0.002)
        for _ in range(1000):
            optimizer.zero_grad()
            ColorL1Loss(weight)(color.expand(1, 5, 1), target).backward()
            optimizer.step()
        found.append(float(color.detach()))
    assert found == pytest.approx([0.0, 0.2], abs=0.02)


def test_configurations_find_it():
    loss = ConfigParser({"loss": {"_target_": "ColorL1Loss", "weight": 2}}).get_parsed_content("loss")
    assert isinstance(loss, ColorL1Loss)
    assert loss.weight == 2


# --- spatial and wavelet ----------------------------------------------------------------------------------------------


def haar(x):
    """One level of (H, W), the four bands; odd sides are padded with a copy of their last row or column."""
    h, w = x.shape
    bands = np.zeros((4, (h + 1) // 2, (w + 1) // 2))
    for i, j in np.ndindex(bands.shape[1:]):
        down, right = min(2 * i + 1, h - 1), min(2 * j + 1, w - 1)
        a, b, c, d = x[2 * i, 2 * j], x[2 * i, right], x[down, 2 * j], x[down, right]
        bands[:, i, j] = np.array([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]) / 2
    return bands


def test_spatial_wavelet_loss_of_one_block():
    label = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(1, 3, 2, 2)
    final, spatial = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    found = SpatialWaveletLoss()(torch.stack([final, spatial], 1), label)
    # One pixel of four is wrong in the final image, three in the spatial one; all four bands are wrong by 1/2.
    assert float(found) == pytest.approx(0.1 * 3 / 4 + 0.1 * 1 / 4 + 1 / 2)


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("size", [(4, 8), (3, 7), (7, 4)])
def test_spatial_wavelet_loss_equals_its_formula(size, levels):
    rng = np.random.default_rng(0)
    label, final, spatial = rng.normal(size=(3, 2, 3, *size))
    expected = 0.2 * np.mean(abs(spatial - label)) + 0.3 * np.mean(abs(final - label))
    planes = [(f, t) for f, t in zip(final.reshape(-1, *size), label.reshape(-1, *size), strict=True)]
    if levels == 2:  # padded once, for both levels
        planes = [(padded_to_four(f), padded_to_four(t)) for f, t in planes]
    for _ in range(levels):
        planes = [(f, t) for p, q in planes for f, t in zip(haar(p), haar(q), strict=True)]
        expected += np.mean([abs(f - t) for f, t in planes])
    pred = torch.from_numpy(np.stack([final, spatial], axis=1))
    found = SpatialWaveletLoss(0.2, 0.3, levels)(pred, torch.from_numpy(label))
    assert float(found) == pytest.approx(expected)


def padded_to_four(x):
    return np.pad(x, [(0, -n % 4) for n in x.shape], mode="edge")


@pytest.mark.parametrize(
    ("pred", "target"),
    [((2, 3, 4, 4), (2, 3, 4, 4)), ((2, 2, 3, 4, 4), (2, 3, 4, 5)), ((1, 2, 3, 4, 4), (1, 16, 3))],
)
def test_spatial_wavelet_loss_needs_both_images_and_a_whole_label(pred, target):
    with pytest.raises(ShapeError) as error:
        SpatialWaveletLoss()(torch.zeros(pred), torch.zeros(target))
    assert_teaches(error.value, str(pred), str(target))


def test_spatial_wavelet_loss_needs_a_level():
    with pytest.raises(ConfigError) as error:
        SpatialWaveletLoss(levels=0)
    assert_teaches(error.value, "0")


def test_configurations_find_the_spatial_wavelet_loss():
    loss = ConfigParser({"loss": {"_target_": "SpatialWaveletLoss"}}).get_parsed_content("loss")
    assert (loss.spatial_weight, loss.final_weight, loss.levels) == (0.1, 0.1, 1)
