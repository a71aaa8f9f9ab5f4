"""The caption of exported pictures: the scale bar's length, the notice, and untouched pixels."""

import numpy as np
import pytest
from slide_files import picture

from monai_iste.viewer.caption import NARROWEST, ScaleBar, add_caption, scale_bar

NOTICE = "Inferred: iste_light x3.37, not measured. Not for diagnosis."


@pytest.mark.parametrize("mpp", [0.0031, 0.11, 0.25, 0.5, 1.7, 16, 300, None])
@pytest.mark.parametrize("room", [50, 73, 640.5])
def test_a_bar_is_as_long_as_its_label_says(mpp, room):
    scale = 3.37
    bar = scale_bar(mpp, scale, room)
    value, unit = bar.label.split(" ", 1)
    assert bar.label.isascii()
    per_unit = {"nm": 0.001, "um": 1, "mm": 1000, "px of the slide": 1}[unit]
    assert bar.length == pytest.approx(float(value) * per_unit / (mpp or 1 / scale))
    assert 0.39 * room < bar.length <= room * (1 + 1e-6)  # of 1, 2, 5 the next would be too long
    assert value.strip("0.")[0] in "125"
    assert len(value.strip("0.")) == 1


@pytest.mark.parametrize("size", [(1, 1), (40, 60), (54, NARROWEST), (300, 700), (500, 4096)])
def test_the_pixels_stay_and_the_caption_is_below(size):
    pixels = picture(max(size[0], 8), max(size[1], 8))[: size[0], : size[1]]
    room = 0.25 * max(size[1], NARROWEST)
    found = add_caption(pixels, scale_bar(0.25, 2, room), NOTICE)
    np.testing.assert_array_equal(found[: size[0], : size[1]], pixels)
    caption = found[size[0] :]
    assert caption.shape[0] >= 19
    assert caption.shape[1] == max(size[1], NARROWEST)
    assert (found[: size[0], size[1] :] == 255).all()
    ink = (caption > 128).all(2)
    assert 0.005 < ink.mean() < 0.5
    for edge in (ink[:2], ink[-2:], ink[:, :2], ink[:, -2:]):
        assert not edge.any()  # nothing is cut off


def test_the_bar_has_its_length_in_pixels():
    for length in (50, 80, 123):
        caption = add_caption(np.zeros((10, 800, 3), np.uint8), ScaleBar(length, "x"), "")[10:]
        rows = (caption > 250).all(2).sum(1)
        assert rows.max() == length
