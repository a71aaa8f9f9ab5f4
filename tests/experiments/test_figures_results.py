"""Figures of results (error maps, zoom strips, segmentations): the right pixels and scores in the right place."""

import math

import numpy as np
import pytest
import torch
from figure_panels import CROP, TILE, bar, network, panel, pixels
from reference import assert_teaches, randomise
from skimage.metrics import peak_signal_noise_ratio

from experiments import figures
from experiments.figures.drawing import covering_region
from experiments.figures.error_maps import error_limit
from experiments.figures.inputs import make_pair, reconstruct
from experiments.figures.segmentations import contours
from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError, DataError, ScaleError, ShapeError
from monai_iste.functional import upscale
from monai_iste.inferers import Region
from monai_iste.networks import LIIF, Bicubic, EDSREncoder
from monai_iste.networks.baselines import EDSR

pytest.importorskip("matplotlib")


# --- 5: error maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", [None, CROP])
def test_errors_and_scores_are_the_protocols(crop):
    """Against scikit-image, on 8-bit pictures without their outer 8 pixels."""
    net, other = network(), randomise(LIIF(EDSREncoder(4, 1), 8, bicubic_residual=True)).eval()
    figure = figures.draw_error_maps(TILE, {"LIIF": other, "ISTE": net}, scale=2, crop=crop)
    pair = make_pair(TILE, 2)
    size = pair.size
    assert size == (72, 96)
    truth = TILE[:, 8:64, 8:88].astype(int)
    part = (slice(0, 56), slice(0, 80)) if crop is None else (slice(12, 52), slice(22, 62))
    limits, shown = set(), []
    lower = [axes for axes in figure.axes if axes.get_xlabel().endswith("dB")]
    for name, below in zip(("Bicubic", "LIIF", "ISTE"), lower, strict=True):
        model = {"Bicubic": Bicubic(), "LIIF": other, "ISTE": net}[name]
        rgb = reconstruct(model, pair.low, 2.0, size).clamp(0, 1).mul(255).round().int().numpy()[:, 8:64, 8:88]
        psnr = peak_signal_noise_ratio(truth, rgb, data_range=255)
        assert float(below.get_xlabel().split()[0]) == pytest.approx(psnr, abs=0.006)
        error = np.abs(rgb - truth).mean(0)[part]
        assert np.allclose(pixels(below)[0], error, atol=1e-3)
        assert np.array_equal(pixels(panel(figure, name))[0], rgb.transpose(1, 2, 0)[part])
        limits.add(below.images[0].get_clim())
        shown.append(error)
    assert np.array_equal(pixels(panel(figure, "truth"))[0], truth.transpose(1, 2, 0)[part])
    ((low, high),) = limits  # one scale for all
    assert low == 0
    assert high % 5 == 0
    assert np.mean(np.stack(shown) <= high) >= 0.995
    assert np.mean(np.stack(shown) <= high - 5) < 0.995
    assert bar(figure).get_ylim() == (0, high)


def test_the_low_resolution_input_lies_under_the_truth():
    """The truth is drawn without its border, the input with it: the same place in both is the same tissue."""
    figure = figures.draw_error_maps(TILE, {"ISTE": network()}, scale=2, crop=CROP)
    (low,) = (axes for axes in figure.axes if axes.get_xlabel().startswith("LR input"))
    shown, extent = pixels(low)
    assert np.array_equal(shown, make_pair(TILE, 2).low.permute(1, 2, 0).mul(255).round().numpy()[10:30, 15:35])
    assert extent == [30, 70, 60, 20]
    assert (low.get_xlim(), low.get_ylim()) == ((30, 70), (60, 20))
    (frame,) = panel(figure, "truth, whole image").patches
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (30 - 8, 20 - 8, 40)


def test_a_network_of_one_scale_is_a_method_too():
    methods = {"EDSR": randomise(EDSR(4, 4, 1, bicubic_residual=True)).eval(), "ISTE": network()}
    figure = figures.draw_error_maps(TILE, methods, scale=4)
    expected = methods["EDSR"](make_pair(TILE, 4).low[None])[0]
    shown = pixels(panel(figure, "EDSR"))[0]
    assert np.array_equal(shown, expected.clamp(0, 1).mul(255).round().permute(1, 2, 0).detach().numpy()[8:-8, 8:-8])


def test_refuses_what_cannot_be_scored():
    with pytest.raises(ConfigError) as caught:
        figures.draw_error_maps(TILE, {"ISTE": network()}, protocol="y-shave-s")
    assert_teaches(caught.value, "y-shave-s")
    with pytest.raises(ShapeError):
        figures.draw_error_maps(TILE, {"ISTE": network()}, crop=Region(0, 0, 40, 40))  # in the border
    with pytest.raises(ScaleError):
        figures.draw_error_maps(TILE, {"ISTE": network()}, scale=0.5)
    with pytest.raises(DataError):
        figures.draw_error_maps("absent.png", {"ISTE": network()})


def test_the_error_limit_is_not_set_by_outliers():
    errors = torch.cat([torch.full((995,), 12.0), torch.full((5,), 200.0)])
    assert error_limit([errors[:500], errors[500:]]) == 15
    assert error_limit([errors[400:].clone()]) == 200
    assert error_limit([torch.zeros(4)]) == 5


# --- 6: the zoom strip ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", [Region(20, 30, 17, 17), Region(61, 86, 11, 11)])
def test_strip_shows_the_same_field_from_the_whole_upscaled_tile(crop):
    net, scales = network(), (1.3, 2.5, 3.7)
    figure = figures.draw_zoom_strip(TILE, net, scales, crop, mpp=0.5)
    tensor = torch.from_numpy(TILE)
    for column, scale in enumerate(scales):
        upper, lower = figure.axes[column], figure.axes[column + len(scales)]
        assert upper.get_title() == f"×{scale}"
        height, width = output_size(TILE.shape[1:], scale)
        region, extent = covering_region((height, width), TILE.shape[1:], crop)
        whole = upscale(tensor, scale, model=net).permute(1, 2, 0).numpy().astype(int)
        bicubic = (Bicubic()(tensor[None] / 255, scale)[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
        for axes, expected, tolerance in ((upper, bicubic, 1.5), (lower, whole, 1)):  # Pillow rounds twice
            shown, where = pixels(axes)
            top, left, rows, columns = region
            assert np.abs(shown - expected[top : top + rows, left : left + columns]).max() <= tolerance
            assert where == pytest.approx(extent)
            assert axes.get_xlim() == (crop.left, crop.left + crop.width)
            assert axes.get_ylim() == (crop.top + crop.height, crop.top)
        assert lower.get_xlabel() == f"{0.5 * TILE.shape[2] / width:.3f} µm/px"
    assert [axes.get_ylabel() for axes in (figure.axes[0], figure.axes[3])] == ["Bicubic", "ISTE"]


def test_strip_of_a_reduced_tile_counts_in_pixels_of_the_file():
    net = network()
    figure = figures.draw_zoom_strip(TILE, net, (2.5,), CROP, mpp=0.5, reduce=2)
    low = make_pair(TILE, 2).low.mul(255).round().byte()
    whole = upscale(low, 2.5, model=net).permute(1, 2, 0).numpy()
    shown, extent = pixels(figure.axes[1])
    assert np.array_equal(shown, whole[25:75, 37:88])  # 1.25 pixels of the result for each of the file
    assert extent == pytest.approx([37 / 1.25, 88 / 1.25, 60, 20])
    assert figure.axes[1].get_xlabel() == "0.400 µm/px"
    default = figures.draw_zoom_strip(TILE, net, (2.5,), reduce=1.2).axes[0]
    assert np.ptp(default.get_xlim()) == 48  # 40 low-resolution pixels


@pytest.mark.parametrize("mpp", [0, -1.0, math.nan])
def test_strip_refuses_pixel_sizes(mpp):
    with pytest.raises(ScaleError) as caught:
        figures.draw_zoom_strip(TILE, network(), mpp=mpp)
    assert_teaches(caught.value)


def test_strip_needs_a_network_of_any_scale():
    with pytest.raises(ConfigError) as caught:
        figures.draw_zoom_strip(TILE, EDSR(2, 4, 1))
    assert_teaches(caught.value, "EDSR")


# --- 10: segmentations ------------------------------------------------------------------------------------------------


def test_contours_run_half_way_between_pixels():
    labels = np.zeros((7, 9), int)
    labels[1:4, 2:5], labels[4:6, 2:5], labels[0:2, 7:9] = 3, 1000, 2
    lines = contours(labels)
    assert len(lines) == 3
    # In order of labels: 2 is cut by the image, 3 and 1000 are closed.
    corner, square, oblong = lines
    assert {tuple(p) for p in corner} == {(2.0, 8.5), (2.0, 7.5), (1.5, 7.0), (0.5, 7.0)}
    for line, (top, bottom) in ((square, (1, 4)), (oblong, (4, 6))):
        assert np.array_equal(line[0], line[-1])
        assert (line[:, 0].min(), line[:, 0].max()) == (top, bottom)
        assert (line[:, 1].min(), line[:, 1].max()) == (2, 5)
    assert contours(np.zeros((3, 3), int)) == []
    assert contours(np.ones((3, 3), int)) == []


def test_outlines_are_drawn_on_what_they_are_named_after():
    net, labels = network(), np.zeros((72, 97), np.int32)
    labels[10:30, 20:50], labels[40:60, 5:25] = 1, 2
    masks = {"truth": labels, "bicubic": labels * 0, "ISTE": labels[:, :96]}
    figure = figures.draw_segmentations(TILE, masks, {"ISTE": net}, 2.0)
    pair = make_pair(TILE, 2)
    titles = {
        "image": pair.truth,
        "truth": pair.truth,
        "Bicubic, ×2": reconstruct(Bicubic(), pair.low, 2.0, pair.size),
        "ISTE, ×2": reconstruct(net, pair.low, 2.0, pair.size),
    }
    for title, image in titles.items():
        shown, extent = pixels(panel(figure, title))
        assert np.array_equal(shown, image.clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy())
        assert extent == [0, 96, 72, 0]
    assert [len(axes.lines) for axes in figure.axes] == [0, 2, 0, 2]
    x, y = figure.axes[1].lines[0].get_data()
    assert (x.min(), x.max(), y.min(), y.max()) == (20, 50, 10, 30)


def test_refuses_maps_of_another_size_and_none():
    with pytest.raises(ShapeError) as caught:
        figures.draw_segmentations(TILE, {"truth": np.zeros((9, 9), int)}, {})
    assert_teaches(caught.value, "72 x 97", "9 x 9", "truth")
    with pytest.raises(ConfigError) as caught:
        figures.draw_segmentations(TILE, {}, {})
    assert_teaches(caught.value, "none")
