"""Samples on a grid: rows, columns and the colors at their crossings."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from reference import assert_teaches

from monai_iste.engines import PrepareGrids
from monai_iste.errors import ConfigError, ShapeError
from monai_iste.inferers import GridInferer
from monai_iste.networks import ISTE, LIIF, EDSREncoder
from monai_iste.transforms import RandSampleGrid, RandSampleGridd

HEIGHT, WIDTH = 13, 29
IMAGE = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)


def pixels_of(axis, length):
    """Index of the pixel whose center a coordinate is: (c + 1) * n / 2 - 1 / 2, which must be whole."""
    place = (axis.double().numpy() + 1) * length / 2 - 0.5
    np.testing.assert_allclose(place, place.round(), atol=1e-4)
    return place.round().astype(int)


@pytest.mark.parametrize("numbers", [(1, 1), (5, 9), (HEIGHT, WIDTH), (40, 3)])
@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor, MetaTensor, lambda a: torch.as_tensor(a) / 255])
def test_each_color_is_the_pixel_at_its_crossing(numbers, wrap):
    image = wrap(IMAGE)
    rows, columns, rgb, cell = RandSampleGrid(*numbers).set_random_state(0)(image, (5, 8))
    assert (rows.shape, columns.shape) == ((numbers[0],), (numbers[1],))
    assert (rows.dtype, columns.dtype, cell.dtype) == (torch.float32,) * 3
    assert rgb.dtype == torch.as_tensor(image).dtype
    assert type(rgb) is torch.Tensor
    y, x = pixels_of(rows, HEIGHT), pixels_of(columns, WIDTH)
    expected = [np.asarray(image)[:, i, j] for i in y for j in x]  # row by row
    np.testing.assert_array_equal(rgb, np.stack(expected))
    np.testing.assert_allclose(cell, [2 * 5 / HEIGHT, 2 * 8 / WIDTH], rtol=1e-6)


def test_lines_are_distinct_in_order_and_all_are_drawn():
    transform = RandSampleGrid(4, 7).set_random_state(0)
    seen = np.zeros(HEIGHT), np.zeros(WIDTH)
    for _ in range(300):
        rows, columns, _, _ = transform(IMAGE, (5, 8))
        for lines, length, count in ((rows, HEIGHT, seen[0]), (columns, WIDTH, seen[1])):
            index = pixels_of(lines, length)
            assert (np.diff(index) > 0).all()
            count[index] += 1
    for count, drawn in zip(seen, (4, 7), strict=True):
        expected = 300 * drawn / len(count)
        assert abs(count - expected).max() < 5 * np.sqrt(expected)


def test_more_lines_than_pixels_repeat_some():
    rows, _, _, _ = RandSampleGrid(100, 1).set_random_state(0)(IMAGE, (5, 8))
    index = pixels_of(rows, HEIGHT)
    assert (np.diff(index) >= 0).all()
    assert len(np.unique(index)) == HEIGHT


@pytest.mark.parametrize("dictionary", [False, True])
def test_the_same_seed_gives_the_same_lines(dictionary):
    def run(seed):
        if dictionary:
            transform = RandSampleGridd(num_rows=5, num_columns=6).set_random_state(seed)
            data = transform({"image": IMAGE[:, :5, :8], "label": IMAGE})
            return torch.cat([data["rows"], data["columns"]])
        return torch.cat(RandSampleGrid(5, 6).set_random_state(seed)(IMAGE, (5, 8))[:2])

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_all_keys_are_sampled_at_the_same_lines():
    data = {"image": IMAGE[:, :5, :8], "label": IMAGE, "mask": IMAGE[:1], "name": "a"}
    result = RandSampleGridd(("label", "mask"), num_rows=5, num_columns=6).set_random_state(0)(data)
    assert set(result) == {*data, "rows", "columns", "cell"}
    assert data["label"] is IMAGE
    assert result["label"].shape == (30, 3)
    torch.testing.assert_close(result["mask"], result["label"][:, :1])


def test_wrong_inputs_are_named():
    with pytest.raises(ShapeError) as shape:
        RandSampleGrid()(IMAGE[None], (5, 8))
    assert_teaches(shape.value, "(C, H, W)", "(1, 3, 13, 29)")
    for numbers in ((0, 5), (5, -1)):
        with pytest.raises(ConfigError) as count:
            RandSampleGrid(*numbers)
        assert_teaches(count.value, "num_rows", f"{numbers[0]}, {numbers[1]}")


class Distributed(torch.nn.Module):
    """A network behind a wrapper that passes its call on and nothing else, as DistributedDataParallel does."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


@pytest.mark.parametrize("make", [ISTE, LIIF])
def test_a_batch_reaches_the_network_and_the_colors_have_the_order_of_the_label(make):
    """A network that returns the image itself at scale 1 must give the label, so the order of both is one."""
    widths = {"texture_channels": 4} if make is ISTE else {}
    net = make(EDSREncoder(4, 1), hidden_channels=4, bicubic_residual=True, **widths)
    for weight in net.parameters():
        torch.nn.init.zeros_(weight)
    item = {"image": torch.from_numpy(IMAGE) / 255, "label": torch.from_numpy(IMAGE) / 255}
    sample = RandSampleGridd(num_rows=5, num_columns=6).set_random_state(0)
    batch = torch.utils.data.default_collate([sample(item), sample(item)])
    image, label, args, kwargs = PrepareGrids()(batch, "cpu")
    assert (label.shape, args, set(kwargs)) == ((2, 30, 3), (), {"rows", "columns", "cell"})
    colors = GridInferer()(image, net, *args, **kwargs)
    torch.testing.assert_close(colors, label, rtol=0, atol=1e-5)
    torch.testing.assert_close(GridInferer()(image, Distributed(net), *args, **kwargs), colors, rtol=0, atol=1e-5)
