"""Pictures: the right pixels in the right panel."""

import numpy as np
import torch

from monai_iste.visualize import comparison, error_map, to_picture


def test_errors_go_from_black_over_red_and_yellow_to_white():
    truth = torch.zeros(3, 1, 4)
    image = torch.tensor([0.0, 0.05, 0.10, 0.15]).view(1, 1, 4).expand(3, 1, 4)
    colors = error_map(image, truth)[:, 0].T
    expected = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]).float()
    assert torch.allclose(colors, expected, atol=1e-5)


def test_pictures_are_rounded_and_clamped():
    pixels = np.asarray(to_picture(torch.tensor([-1.0, 0.4999 / 255, 0.5001 / 255, 2.0]).view(1, 1, 4).expand(3, 1, 4)))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 255]


def test_panels_show_the_most_detailed_part_side_by_side():
    label = torch.full((3, 64, 96), 0.5)
    label[:, 32:64, 64:96] = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    row = {
        "scale": 2.0,
        "image": label[:, ::2, ::2],
        "label": label,
        "pred": label * 0.9,
        "bicubic": torch.zeros_like(label),
    }
    sheet = np.asarray(comparison([row, row], window=32, zoom=1))
    panels = [sheet[26:58, 6 + 38 * i : 38 + 38 * i] for i in range(6)]
    part = np.asarray(to_picture(label[:, 32:64, 64:96]))
    assert np.array_equal(panels[3], part)
    assert np.array_equal(panels[2], np.asarray(to_picture(label[:, 32:64, 64:96] * 0.9)))
    assert panels[1].max() == 0
    assert np.array_equal(panels[0][::2, ::2], part[::2, ::2])
    assert panels[4].mean() > panels[5].mean() > 0
    assert np.array_equal(sheet[26:58, 6:38], sheet[26 + 58 : 58 + 58, 6:38])
