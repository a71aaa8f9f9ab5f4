"""Coordinate samples: each color is the pixel at its coordinate."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from reference import assert_teaches

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.transforms import RandSampleCoordinates, RandSampleCoordinatesd

HEIGHT, WIDTH = 13, 29
IMAGE = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)


def pixel_of(coord):
    """Row and column whose center a coordinate is: (c + 1) * n / 2 - 1 / 2, which must be whole."""
    place = (coord.double().numpy() + 1) * (HEIGHT, WIDTH) / 2 - 0.5
    np.testing.assert_allclose(place, place.round(), atol=1e-4)
    return tuple(place.round().astype(int).T)


@pytest.mark.parametrize("points", [1, 100, HEIGHT * WIDTH, 1000, None])
@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor, MetaTensor, lambda a: torch.as_tensor(a) / 255])
def test_each_color_is_the_pixel_at_its_coordinate(points, wrap):
    image = wrap(IMAGE)
    coord, rgb, cell = RandSampleCoordinates(points).set_random_state(0)(image, (5, 8))
    count = points or HEIGHT * WIDTH
    assert (coord.shape, rgb.shape, cell.shape) == ((count, 2), (count, 3), (2,))
    assert (coord.dtype, cell.dtype) == (torch.float32, torch.float32)
    assert rgb.dtype == torch.as_tensor(image).dtype
    rows, columns = pixel_of(coord)
    np.testing.assert_array_equal(rgb, np.asarray(image)[:, rows, columns].T)
    np.testing.assert_allclose(cell, [2 * 5 / HEIGHT, 2 * 8 / WIDTH], rtol=1e-6)


def test_all_points_come_row_by_row_without_chance():
    coord, rgb, _ = RandSampleCoordinates(None)(IMAGE, (5, 8))
    rows, columns = pixel_of(coord)
    np.testing.assert_array_equal(rows * WIDTH + columns, np.arange(HEIGHT * WIDTH))
    np.testing.assert_array_equal(rgb.numpy().reshape(HEIGHT, WIDTH, 3), np.moveaxis(IMAGE, 0, -1))


@pytest.mark.parametrize("points", [100, HEIGHT * WIDTH])
def test_points_are_distinct_and_spread(points):
    transform = RandSampleCoordinates(points).set_random_state(0)
    seen = np.zeros(HEIGHT * WIDTH)
    for _ in range(50):
        rows, columns = pixel_of(transform(IMAGE, (5, 8))[0])
        index = rows * WIDTH + columns
        assert len(np.unique(index)) == points
        seen[index] += 1
    assert seen.min() > 0


def test_more_points_than_pixels_repeat_some():
    rows, columns = pixel_of(RandSampleCoordinates(1000).set_random_state(0)(IMAGE, (5, 8))[0])
    assert len(np.unique(rows * WIDTH + columns)) > 0.8 * HEIGHT * WIDTH


@pytest.mark.parametrize("dictionary", [False, True])
def test_the_same_seed_gives_the_same_points(dictionary):
    def run(seed):
        if dictionary:
            transform = RandSampleCoordinatesd(num_points=50).set_random_state(seed)
            return transform({"image": IMAGE[:, :5, :8], "label": IMAGE})["coord"]
        return RandSampleCoordinates(50).set_random_state(seed)(IMAGE, (5, 8))[0]

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_the_dictionary_keeps_what_it_was_given():
    data = {"image": IMAGE[:, :5, :8], "label": IMAGE, "mask": IMAGE[:1], "name": "a"}
    result = RandSampleCoordinatesd(("label", "mask"), num_points=50).set_random_state(0)(data)
    assert set(result) == {"image", "label", "mask", "coord", "cell", "name"}
    assert data["label"] is IMAGE
    rows, columns = pixel_of(result["coord"])
    np.testing.assert_array_equal(result["label"], IMAGE[:, rows, columns].T)
    np.testing.assert_array_equal(result["mask"], IMAGE[:1, rows, columns].T)
    np.testing.assert_allclose(result["cell"], [10 / HEIGHT, 16 / WIDTH], rtol=1e-6)


def test_wrong_inputs_are_named():
    with pytest.raises(ShapeError) as shape:
        RandSampleCoordinates(5)(IMAGE[None], (5, 8))
    assert_teaches(shape.value, "(C, H, W)", "(1, 3, 13, 29)")
    with pytest.raises(ConfigError) as count:
        RandSampleCoordinates(0)
    assert_teaches(count.value, "num_points", "got 0")
