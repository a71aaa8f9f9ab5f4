"""Figures of texture features and of the two decoders: they show values that the network computes."""

import numpy as np
import pytest
import reference
import torch
from figure_panels import CROP, TILE, bar, network, panel, pixels
from reference import assert_close, assert_teaches, random

from experiments import figures
from experiments.figures import intermediates
from experiments.figures import texture_features as textures
from experiments.figures.decoders import _panels, display_gain, on_gray
from experiments.figures.inputs import make_pair
from monai_iste.errors import ConfigError
from monai_iste.inferers import Region
from monai_iste.networks import Bicubic

pytest.importorskip("matplotlib")


# --- 7: features ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texture_corners", ["nearest", "four"])
def test_features_are_the_networks(texture_corners):
    net, low, scale = network(texture_corners=texture_corners), torch.rand(3, 9, 7), 2.5
    region = Region(3, 4, 11, 6)
    before, after = intermediates.texture_features(net, low, scale, region)
    image = (low[None] - 0.5) / 0.5
    feat = net.encoder(image)
    assert_close(before, feat[0].detach().numpy())
    output = reference.output_size((9, 7), scale)
    amp_freq, cell = net.texture_learner.amp_freq(feat)[0].detach().double().numpy(), reference.cell_of((9, 7), output)
    corners = {"nearest": reference.nearest, "four": reference.corners}[texture_corners]
    state = reference.weights(net.texture_learner)
    assert after.shape == (5, 11, 6)
    for y, x in ((0, 0), (10, 5), (4, 3)):
        query = reference.centre(3 + y, output[0]), reference.centre(4 + x, output[1])
        expected = sum(a.weight * reference.texture(state, amp_freq, a, cell) for a in corners(query, (9, 7)))
        assert_close(after[:, y, x], expected)


def test_maps_are_standardized_and_the_most_varied_are_chosen():
    maps = random(4, 6, 5) * torch.tensor([1.0, 3.0, 0.0, 2.0]).view(4, 1, 1) + 7
    assert textures.most_varied(maps, 3) == [1, 3, 0]
    actual = textures.standardized(maps).numpy()
    expected = maps.double().numpy()
    for a, e in zip(actual[[0, 1, 3]], expected[[0, 1, 3]], strict=True):
        assert np.allclose(a, (e - e.mean()) / e.std(), atol=1e-4)
    assert np.array_equal(actual[2], np.zeros((6, 5)))


def test_feature_maps_are_drawn_alike_and_in_place():
    net = network()
    figure = figures.draw_texture_features(TILE, net, 2.0, channels=2, crop=CROP)
    rows = figure.axes[:4], figure.axes[4:8]
    before, after = intermediates.texture_features(net, make_pair(TILE, 2).low, 2.0, CROP)
    for row, maps in ((rows[0], before[:, 10:30, 15:35]), (rows[1], after)):
        chosen = textures.most_varied(maps, 2)
        assert [axes.get_title() for axes in row[1:]] == ["mean absolute", *(f"channel {n}" for n in chosen)]
        for axes, values in zip(row[1:], [maps.abs().mean(0), *maps[chosen]], strict=True):
            shown, extent = pixels(axes)
            assert np.allclose(shown, (values - values.mean()) / values.std(correction=0), atol=1e-4)
            assert extent == [30, 70, 60, 20]
            assert axes.images[0].get_clim() == (-3, 3)
    assert bar(figure).get_ylim() == (-3, 3)
    assert pixels(rows[0][0])[0].shape == (20, 20, 3)
    assert pixels(rows[1][0])[0].shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("draw", "arguments"),
    [
        (figures.draw_texture_features, {"use_tl": False}),
        (figures.draw_decoders, {"use_ltd": False}),
        (figures.draw_retrieval, {"use_stf": False}),
    ],
)
def test_refuses_networks_without_the_module(draw, arguments):
    for net in (network(**arguments), Bicubic()):
        with pytest.raises(ConfigError) as caught:
            draw(TILE, net)
        assert_teaches(caught.value, "ISTE")


# --- 9: decoders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("texture_corners", ["nearest", "four"])
@pytest.mark.parametrize("scale", [2, 3.7])
def test_the_panels_add_up_to_the_output(scale, texture_corners, residual):
    net = network(bicubic_residual=residual, texture_corners=texture_corners)
    low = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0))
    region = Region(2, 3, 12, 9)
    parts = intermediates.decoder_parts(net, low, scale, region)
    with torch.no_grad():
        output = net(low[None], scale=scale)[0, :, 2:14, 3:12]
    assert_close(parts.total, output.numpy(), 1e-5)
    shown = dict(row[::2] for row in _panels(parts, residual, "ISTE"))
    gain = display_gain(parts.pixel, parts.texture)
    base = shown["Bicubic ($I_{B}$)"] if residual else 0.5
    summed = base + (shown["$I_{LPD}$"] - 0.5) / gain + (shown["$I_{LTD}$"] - 0.5) / gain
    assert_close(summed, output.numpy(), 1e-5)
    assert_close(shown["ISTE"], output.numpy(), 1e-5)
    assert min(part.abs().max() for part in (parts.pixel, parts.texture)) > 0.01


@pytest.mark.parametrize("residual", [True, False])
def test_each_part_is_its_decoders(residual):
    """By the literal equations: bicubic, contrast, LPD and LTD at single output pixels."""
    net, size, scale = network(bicubic_residual=residual), (5, 6), 2.5
    low = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    output = reference.output_size(size, scale)
    parts = intermediates.decoder_parts(net, low, scale, Region(0, 0, *output))
    cell, image = reference.cell_of(size, output), (low.double().numpy() - 0.5) / 0.5
    seen = []
    net.self_texture_fusion.register_forward_hook(lambda module, args, result: seen.append(result))
    encoding = net.encode(low[None], torch.zeros(1, 1, 2), torch.tensor(cell)[None].float())
    fused = seen[0][0].detach().double().numpy()
    amp_freq = encoding.amp_freq[0].detach().double().numpy()
    for y, x in ((0, 0), (5, 7), (output[0] - 1, output[1] - 1)):
        query = reference.centre(y, output[0]), reference.centre(x, output[1])
        fade = 1.0
        if residual:
            fade = sum(a.weight * reference.contrast(image, a.row, a.col) for a in reference.corners(query, size))
        (near,) = reference.nearest(query, size)
        texture = reference.texture(reference.weights(net.texture_learner), amp_freq, near, cell)
        lpd = reference.lpd(reference.weights(net.local_pixel_decoder), fused, query, cell)
        ltd = reference.ltd(reference.weights(net.local_texture_decoder), [texture], [1.0])
        base = reference.bicubic(image, query) * 0.5 + 0.5 if residual else np.full(3, 0.5)
        assert_close(parts.pixel[:, y, x], 0.5 * fade * lpd)
        assert_close(parts.texture[:, y, x], 0.5 * fade * ltd)
        assert_close(parts.base[:, y, x], base)


def test_decoders_are_restored_after_a_figure():
    net, low = network(), torch.rand(1, 3, 6, 6)
    before = net(low, scale=2)
    intermediates.decoder_parts(net, low[0], 2, Region(0, 0, 12, 12))
    assert torch.equal(net(low, scale=2), before)


def test_gain_is_a_power_of_two_that_fits():
    for extreme in (0.01, 0.06, 0.2, 0.49, 0.7):
        gain = display_gain(torch.tensor([-extreme, extreme / 3]), torch.tensor([extreme / 2]))
        assert gain == 1 or (gain * extreme <= 0.5 < 2 * gain * extreme)
    assert display_gain(torch.zeros(3)) == 1
    assert on_gray(torch.tensor([-0.1, 0.0, 0.2]), 2).tolist() == pytest.approx([0.3, 0.5, 0.9])


@pytest.mark.parametrize("residual", [True, False])
def test_decoders_images_are_drawn_in_place(residual):
    net = network(bicubic_residual=residual)
    figure = figures.draw_decoders(TILE, net, 2.0, CROP)
    parts = intermediates.decoder_parts(net, make_pair(TILE, 2).low, 2.0, CROP)
    gain = display_gain(parts.pixel, parts.texture)
    expected = {"$I_{LPD}$": 0.5 + gain * parts.pixel, "$I_{LTD}$": 0.5 + gain * parts.texture, "ISTE": parts.total}
    for title, image in expected.items():
        shown, extent = pixels(panel(figure, title))
        assert np.array_equal(shown, image.clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy())
        assert extent == [30, 70, 60, 20]
    assert np.array_equal(pixels(panel(figure, "truth"))[0], TILE[:, 20:60, 30:70].transpose(1, 2, 0))
    assert len(figure.axes) == (5 if residual else 4)
    note = panel(figure, "$I_{LPD}$").get_xlabel()
    assert note == f"shown: 0.5 + {'' if gain == 1 else f'{gain:g} '}$I_{{LPD}}$"
