"""The zoom strip as it is printed: panels and scale bars grow with the scale."""

from itertools import pairwise

import pytest
from figure_panels import TILE, network

from experiments import figures
from monai_iste.inferers import Region

pytest.importorskip("matplotlib")

SCALES = (1.5, 3.0, 6.0)


def bars(figure):
    """Length of the bar of each panel of the network, in inches on paper."""
    lower = figure.axes[len(SCALES) :]
    found = []
    for axes in lower:
        (line,) = axes.lines
        (start, end), _ = line.get_data()
        box = axes.get_position()
        found.append((end - start) / abs(axes.get_xlim()[1] - axes.get_xlim()[0]) * box.width * figure.get_figwidth())
    return found


@pytest.mark.parametrize("crop", [Region(10, 20, 24, 24), Region(10, 20, 16, 32)])
def test_panels_grow_with_the_scale_and_stand_on_one_line(crop):
    figure = figures.draw_zoom_strip(TILE, network(), SCALES, crop, mpp=0.5)
    for row in (figure.axes[: len(SCALES)], figure.axes[len(SCALES) :]):
        boxes = [axes.get_position() for axes in row]
        width, height = figure.get_figwidth(), figure.get_figheight()
        unit = boxes[0].width * width / SCALES[0]
        for box, scale in zip(boxes, SCALES, strict=True):
            assert box.width * width == pytest.approx(unit * scale)
            assert box.height * height == pytest.approx(unit * scale * crop.height / crop.width)
            assert box.y0 == pytest.approx(boxes[0].y0)
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        assert boxes[0].x0 > 0
        assert boxes[-1].x1 <= 1 + 1e-9
    upper, lower = figure.axes[len(SCALES) - 1].get_position(), figure.axes[-1].get_position()
    assert upper.y0 > lower.y1
    assert upper.y1 < 1
    assert lower.y0 > 0
    assert {axes.get_xlim() for axes in figure.axes} == {(20, 20 + crop.width)}  # the same field


def test_one_physical_length_is_printed_longer_at_larger_scales():
    figure = figures.draw_zoom_strip(TILE, network(), SCALES, Region(10, 20, 24, 24), mpp=0.5)
    lengths = bars(figure)
    assert [length / lengths[0] for length in lengths] == pytest.approx([1, 2, 4])
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [[], [], [], [], [], ["2 µm"]]
    (line,) = figure.axes[-1].lines
    assert line.get_xdata()[1] - line.get_xdata()[0] == pytest.approx(2 / 0.5)  # pixels of the tile


def test_without_a_pixel_size_the_bar_is_in_pixels():
    figure = figures.draw_zoom_strip(TILE, network(), SCALES, Region(10, 20, 24, 24))
    assert [text.get_text() for text in figure.axes[-1].texts] == ["5 px"]
    (line,) = figure.axes[-1].lines
    assert line.get_xdata()[1] - line.get_xdata()[0] == pytest.approx(5)
    assert {axes.get_xlabel() for axes in figure.axes} == {""}
