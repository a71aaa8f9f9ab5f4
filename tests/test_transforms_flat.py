"""Crops of one colour: a pixel's, for all keys or none, as often as asked, and nothing written into the input."""

import numpy as np
import pytest
import torch
from reference import assert_teaches

from monai_iste.errors import ShapeError
from monai_iste.transforms import RandOneColour, RandOneColourd

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 9, 7), np.uint8)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_every_pixel_has_the_colour_of_one(convert):
    transform, seen = RandOneColour(prob=1).set_random_state(0), set()
    for _ in range(300):
        image = convert(IMAGE.copy())
        flat = transform(image)
        assert type(flat) is type(image)
        assert (flat.dtype, flat.shape) == (image.dtype, image.shape)
        colours = np.unique(np.asarray(flat).reshape(3, -1), axis=1)
        assert colours.shape == (3, 1)
        seen.add(tuple(colours[:, 0].tolist()))
        np.testing.assert_array_equal(np.asarray(image), IMAGE)
    assert seen <= {tuple(colour) for colour in IMAGE.reshape(3, -1).T.tolist()}
    assert len(seen) > 50  # of 63 pixels


def test_as_often_as_asked():
    transform = RandOneColour(prob=0.3).set_random_state(0)
    assert RandOneColour(prob=0)(IMAGE) is IMAGE
    assert 0.2 < np.mean([not np.array_equal(transform(IMAGE), IMAGE) for _ in range(1000)]) < 0.4


def test_all_keys_or_none():
    transform, seen = RandOneColourd(("image", "label"), prob=0.5).set_random_state(0), set()
    for _ in range(20):
        result = transform({"image": IMAGE, "label": IMAGE, "scale": 2.0})
        assert result["scale"] == 2.0
        changed = [not np.array_equal(result[key], IMAGE) for key in ("image", "label")]
        assert changed[0] == changed[1]
        seen.add(changed[0])
    assert seen == {True, False}


def test_one_seed_one_sequence():
    runs = [RandOneColourd("image", prob=0.5).set_random_state(3) for _ in range(2)]
    for _ in range(10):
        first, second = (run({"image": IMAGE})["image"] for run in runs)
        np.testing.assert_array_equal(first, second)


def test_other_images_are_refused():
    with pytest.raises(ShapeError) as caught:
        RandOneColour(prob=1)(np.zeros((3, 4, 4)))
    assert_teaches(caught.value, "uint8")
