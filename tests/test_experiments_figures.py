"""Figures: the right numbers in the right place, the same file every time."""

import math
from fractions import Fraction

import numpy as np
import pytest
import reference
import torch
import typer
from PIL import Image
from reference import assert_close, assert_teaches, random, randomise
from skimage.data import immunohistochemistry
from skimage.metrics import peak_signal_noise_ratio
from torch import nn
from typer.testing import CliRunner

from monai_iste.coordinates import Samples, cell_size, output_size
from monai_iste.errors import ConfigError, DataError, OutputError, ScaleError, ShapeError
from monai_iste.experiments import figures
from monai_iste.experiments.figures import intermediates, retrieval
from monai_iste.experiments.figures import texture_features as textures
from monai_iste.experiments.figures.decoders import _panels, gain_for, on_grey
from monai_iste.experiments.figures.drawing import add_scale_bar, covering
from monai_iste.experiments.figures.error_maps import error_limit
from monai_iste.experiments.figures.inputs import make_pair, parse_crop, reconstruct, view_of
from monai_iste.experiments.figures.segmentations import contours
from monai_iste.experiments.figures.style import Sheet, style
from monai_iste.inferers import Region
from monai_iste.magnify import upscale
from monai_iste.networks import ISTE, LIIF, Bicubic, EDSREncoder, create_iste
from monai_iste.networks.baselines import EDSR

pytest.importorskip("matplotlib")

TILE = np.ascontiguousarray(immunohistochemistry().transpose(2, 0, 1)[:, 96:168, 200:297])  # 72 x 97
CROP = Region(20, 30, 40, 40)


def network(**arguments):
    widths = {"texture_channels": 5, "hidden_channels": 6, "bicubic_residual": True}
    return randomise(ISTE(EDSREncoder(4, 1), **{**widths, **arguments})).eval()


def pixels(axes):
    """What a panel shows, and where: its only image and that image's extent."""
    (image,) = axes.images
    return np.asarray(image.get_array()), image.get_extent()


def panel(figure, title):
    (found,) = (axes for axes in figure.axes if axes.get_title() == title)
    return found


def bar(figure):
    (found,) = (axes for axes in figure.axes if hasattr(axes, "_colorbar"))
    return found


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 7), (10, 20), (37, 74)])
@pytest.mark.parametrize("view", [Region(0, 0, 10, 20), Region(3, 5, 4, 9), Region(9, 19, 1, 1)])
def test_a_view_is_covered_by_the_pixels_that_touch_it(size, view):
    """Pixel i of n covers [i, i + 1] * field / n, in exact fractions."""
    region, extent = covering(size, (10, 20), view)
    for first, count, n, length, start, span, low, high in (
        (region.top, region.height, size[0], 10, view.top, view.height, extent[3], extent[2]),
        (region.left, region.width, size[1], 20, view.left, view.width, extent[0], extent[1]),
    ):
        unit = Fraction(length, n)
        touching = [i for i in range(n) if (i + 1) * unit > start and i * unit < start + span]
        assert list(range(first, first + count)) == touching
        assert low == pytest.approx(float(touching[0] * unit))
        assert high == pytest.approx(float((touching[-1] + 1) * unit))


def test_panels_share_a_width_and_do_not_overlap():
    with style():
        sheet, rows = Sheet.grid((0.5, 2.0), 3, 7.0, (1, 1), (0, 1), left=0.2, right=0.4)
    boxes = [[sheet.box(axes) for axes in row] for row in rows]
    side = (7.0 - 0.6 - 2 * 0.05) / 3
    for row, aspect in zip(boxes, (0.5, 2.0), strict=True):
        assert [box[2:] for box in row] == [pytest.approx((side, aspect * side))] * 3
        assert row[0][0] == pytest.approx(0.2)
        assert row[2][0] + side == pytest.approx(7.0 - 0.4)
    assert boxes[1][0][1] > boxes[0][0][1] + boxes[0][0][3]
    assert boxes[1][0][1] + boxes[1][0][3] < sheet.height


def test_text_that_is_too_wide_becomes_smaller_alike():
    with style():
        sheet, rows = Sheet.grid((1.0,), 4, 3.5, (1,), (1,))
        rows[0][0].set_title("a title that is too wide")
        rows[0][1].set_title("b")
        rows[0][1].set_xlabel("c")
        sheet.finished()
    sizes = [axes.title.get_fontsize() for axes in rows[0]]
    assert 5 <= sizes[0] < 7
    assert sizes[1] == sizes[0]
    assert rows[0][1].xaxis.label.get_fontsize() == 7


@pytest.mark.parametrize(("side", "mpp", "length"), [(40, 0.25, 2), (40, 0.5, 5), (100, 0.62, 10), (48, 1.5, 20)])
def test_scale_bar(side, mpp, length):
    """The largest of 1, 2, 5, 10, ... um that takes at most 30 % of the view."""
    with style():
        axes = Sheet(3.5, 3.5).panel(0, 0, 3.5, 3.5)
        assert add_scale_bar(axes, Region(7, 9, side, side), mpp) == pytest.approx(length)
    (line,) = axes.lines
    assert np.ptp(line.get_xdata()) * mpp == pytest.approx(length)
    assert np.ptp(line.get_xdata()) <= 0.3 * side
    assert axes.texts[0].get_text() == f"{length} µm"


def test_views():
    image = torch.full((3, 40, 60), 0.5)
    image[:, 24:40, 32:48] = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert view_of(image, None, 16) == (24, 32, 16, 16)
    assert view_of(image, None, None) == (0, 0, 40, 60)
    assert view_of(image, Region(1, 2, 3, 3), 16) == (1, 2, 3, 3)
    with pytest.raises(ShapeError) as caught:
        view_of(image, Region(30, 0, 20, 20), 16)
    assert_teaches(caught.value, "40 x 60")
    assert parse_crop(None) is None
    assert parse_crop("1,2,3") == (1, 2, 3, 3)
    for text in ("1,2", "1,2,0", "1, 2,3", "-1,2,3", "a,b,c"):
        with pytest.raises(ConfigError) as caught:
            parse_crop(text)
        assert_teaches(caught.value, text)


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
def test_strip_shows_the_same_field_from_the_whole_magnified_tile(crop):
    net, scales = network(), (1.3, 2.5, 3.7)
    figure = figures.draw_zoom_strip(TILE, net, scales, crop, mpp=0.5)
    tensor = torch.from_numpy(TILE)
    for column, scale in enumerate(scales):
        upper, lower = figure.axes[column], figure.axes[column + len(scales)]
        assert upper.get_title() == f"×{scale}"
        height, width = output_size(TILE.shape[1:], scale)
        region, extent = covering((height, width), TILE.shape[1:], crop)
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
    waves, cell = net.texture_learner.waves(feat)[0].detach().double().numpy(), reference.cell_of((9, 7), output)
    answers = {"nearest": reference.nearest, "four": reference.corners}[texture_corners]
    state = reference.weights(net.texture_learner)
    assert after.shape == (5, 11, 6)
    for y, x in ((0, 0), (10, 5), (4, 3)):
        query = reference.centre(3 + y, output[0]), reference.centre(4 + x, output[1])
        expected = sum(a.weight * reference.texture(state, waves, a, cell) for a in answers(query, (9, 7)))
        assert_close(after[:, y, x], expected)


def test_maps_are_standardised_and_the_most_varied_are_chosen():
    maps = random(4, 6, 5) * torch.tensor([1.0, 3.0, 0.0, 2.0]).view(4, 1, 1) + 7
    assert textures.most_varied(maps, 3) == [1, 3, 0]
    actual = textures.standardised(maps).numpy()
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


# --- 8: retrieval -----------------------------------------------------------------------------------------------------


class Untouched(nn.Module):
    """An encoder whose features are the image."""

    out_channels = 3

    def forward(self, image):
        return image


def planted(use_tl, key_side):
    """A network whose keys and queries are the colours themselves: a pixel retrieves its own colour's key."""
    net = ISTE(Untouched(), texture_channels=3, hidden_channels=4, use_lfi=False, use_tl=use_tl, key_side=key_side)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.local_feature_interactor.projection.weight[:, :, 0, 0] = torch.eye(3)
        net.texture_learner.conv.weight[:3, :, 1, 1] = torch.eye(3)  # with TL: the amplitudes
        if use_tl:
            net.texture_learner.phase.bias.fill_(-math.log(3))  # 2 pi sigmoid(-log 3) = pi / 2: the sine is 1
    return net.eval()


@pytest.mark.parametrize("use_tl", [True, False])
@pytest.mark.parametrize(("key_side", "step"), [(5, 2), (3, 3)])
def test_known_matches_are_found_at_their_place(use_tl, key_side, step):
    """Every pixel has the colour of one of those that give a key, and retrieves it."""
    h, w = 9, 8
    net = planted(use_tl, key_side)
    rows, columns = range(0, h, step), range(0, w, step)
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(len(rows), len(columns), 3, generator=generator)
    source = torch.stack(
        [torch.randint(len(n), (h, w), generator=generator) for n in (rows, columns)], dim=-1
    )  # which key's colour a pixel has
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            source[y, x] = torch.tensor([i, j])
    low = colours[source[..., 0], source[..., 1]].permute(2, 0, 1)
    found = intermediates.retrieve(net, low, 3.0)
    assert found.keys == len(rows) * len(columns)
    assert_close(found.confidence, np.ones((h, w)))
    for y in range(h):
        for x in range(w):
            at = rows[int(source[y, x, 0])], columns[int(source[y, x, 1])]
            assert found.place[y, x].tolist() == pytest.approx(np.add(at, reference.lattice_offset(*at) / 2).tolist())
    arrow = retrieval.arrows(low, found, 3)[0]
    assert arrow.place == pytest.approx(found.place[arrow.pixel].tolist())


VARIANTS = {
    "lattice": {},
    "few keys": {"key_side": 3},
    "all keys": {"inference_keys": "all"},
    "matrix": {"texture_channels": 9},
    "w/o LFI, 3x3": {"use_lfi": False, "query_kernel": 3},
}


@pytest.mark.parametrize("scale", [1, 2.5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_keys_lie_where_the_texture_was_sampled(variant, scale):
    """The Texture Learner, asked at the place of a key, answers that key."""
    net, size = network(**VARIANTS[variant]), (7, 5)
    image = torch.rand(1, 3, *size) * 2 - 1
    cell = cell_size(size, output_size(size, scale)).unsqueeze(0)
    waves = net.texture_learner.waves(net.encoder(image))
    keys = net.keys(waves, torch.zeros(1, 1, 2), cell)
    places = net.key_positions(size, cell)
    assert places.shape == (keys.shape[1], 2)
    pixel = (places + 0.5).floor()
    samples = Samples(
        (pixel[:, 0] * size[1] + pixel[:, 1]).long().view(1, -1, 1),
        (2 * (places - pixel)).float().view(1, -1, 1, 2),
        torch.ones(1, len(places), 1, 1),
    )
    assert_close(net.texture_learner(waves, samples, cell).squeeze(2), keys.detach().numpy())


@pytest.mark.parametrize("variant", VARIANTS)
def test_retrieval_is_the_networks_own(variant):
    """Index and confidence by the literal similarity, and F_STF from both is the one that the network uses."""
    net, size = network(**VARIANTS[variant]), (7, 5)
    low = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    found = intermediates.retrieve(net, low, 2.5)
    cell = cell_size(size, output_size(size, 2.5)).unsqueeze(0)
    feat = net.encoder((low[None] - 0.5) / 0.5)
    keys = net.keys(net.texture_learner.waves(feat), torch.zeros(1, 1, 2), cell)[0].detach()
    query = net.local_feature_interactor(feat).detach().flatten(2)[0].T
    similarity = reference.similarity(list(query.double().numpy()), list(keys.double().numpy()))
    assert found.key.flatten().tolist() == similarity.argmax(1).tolist()
    assert_close(found.confidence.flatten(), similarity.max(1))
    fused = query + net.self_texture_fusion.mlp(
        torch.cat([query, keys[found.key.flatten()]], dim=1)
    ) * found.confidence.view(-1, 1)
    seen = []
    net.self_texture_fusion.register_forward_hook(lambda module, args, result: seen.append(result))
    net.encode(low[None], torch.zeros(1, 1, 2), cell)
    assert_close(seen[0].flatten(2)[0].T, fused.detach().numpy())


def test_pixels_are_the_best_apart_and_seeded():
    score = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    chosen = retrieval.choose_pixels(score, 5, 8.0, seed=3, border=4)
    assert chosen == retrieval.choose_pixels(score, 5, 8.0, seed=3, border=4)
    assert chosen != retrieval.choose_pixels(score, 5, 8.0, seed=4, border=4)
    assert len(chosen) == 5
    least = score[4:-4, 4:-4].flatten().quantile(0.95)
    for i, (y, x) in enumerate(chosen):
        assert 4 <= y < 36
        assert 4 <= x < 46
        assert score[y, x] >= least
        assert all(math.hypot(y - v, x - u) >= 8 for v, u in chosen[:i])
    assert len(retrieval.choose_pixels(score[:3, :3], 9, 2.0)) in (2, 3, 4)  # the others do not fit


def test_arrows_prefer_texture_and_confidence():
    low = torch.full((3, 30, 40), 0.9)
    low[:, :, 20:] = torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0))
    confidence = torch.full((30, 40), 0.2)
    confidence[:15] = 0.9
    found = intermediates.Retrieval(torch.zeros(30, 40).long(), torch.zeros(30, 40, 2), confidence, 1)
    for arrow in retrieval.arrows(low, found, 4):
        assert arrow.pixel[0] < 15
        assert arrow.pixel[1] >= 20
        assert arrow.confidence == pytest.approx(0.9)


def test_arrows_are_drawn_from_pixel_to_key():
    net = network(key_side=4)
    figure = figures.draw_retrieval(TILE, net, 2.0, count=3, seed=1)
    pair = make_pair(TILE, 2)
    found = intermediates.retrieve(net, pair.low, 2.0)
    expected = retrieval.arrows(pair.low, found, 3, 1)
    drawn = [text for text in figure.axes[0].texts if text.arrow_patch is not None]
    assert len(drawn) == len(expected) == 3
    for text, arrow in zip(drawn, expected, strict=True):
        y, x = arrow.pixel
        v, u = found.place[y, x].tolist()
        assert (text.xyann, text.xy) == (pytest.approx((x + 0.5, y + 0.5)), pytest.approx((u + 0.5, v + 0.5)))
    low, high = bar(figure).get_xlim()
    assert all(low <= arrow.confidence <= high for arrow in expected)
    patches = [axes for axes in figure.axes[1:] if axes.patches and axes.images]
    for axes, centre in zip(patches, [end for a in expected for end in (a.pixel, a.place)], strict=True):
        (frame,) = axes.patches
        assert (frame.get_y(), frame.get_x()) == tuple(math.floor(n + 0.5) for n in centre)
        assert np.mean(axes.get_ylim()) == frame.get_y() + 0.5
        shown, (left, right, bottom, top) = pixels(axes)
        part = pair.truth[:, round(2 * top) : round(2 * bottom), round(2 * left) : round(2 * right)]
        assert np.array_equal(shown, part.permute(1, 2, 0).mul(255).round().numpy())
    note = f"{len(found.key.unique())} of {found.keys} keys"
    assert any(note in axes.get_xlabel() for axes in figure.axes)


# --- 9: decoders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("texture_corners", ["nearest", "four"])
@pytest.mark.parametrize("scale", [2, 3.7])
def test_what_is_shown_adds_up_to_the_output(scale, texture_corners, residual):
    net = network(bicubic_residual=residual, texture_corners=texture_corners)
    low = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0))
    region = Region(2, 3, 12, 9)
    parts = intermediates.decoder_parts(net, low, scale, region)
    with torch.no_grad():
        output = net(low[None], scale=scale)[0, :, 2:14, 3:12]
    assert_close(parts.total, output.numpy(), 1e-5)
    shown = dict(row[::2] for row in _panels(parts, residual, "ISTE"))
    gain = gain_for(parts.pixel, parts.texture)
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
    waves = encoding.waves[0].detach().double().numpy()
    for y, x in ((0, 0), (5, 7), (output[0] - 1, output[1] - 1)):
        query = reference.centre(y, output[0]), reference.centre(x, output[1])
        fade = 1.0
        if residual:
            fade = sum(a.weight * reference.contrast(image, a.row, a.col) for a in reference.corners(query, size))
        (near,) = reference.nearest(query, size)
        texture = reference.texture(reference.weights(net.texture_learner), waves, near, cell)
        lpd = reference.lpd(reference.weights(net.local_pixel_decoder), fused, query, cell)
        ltd = reference.ltd(reference.weights(net.local_texture_decoder), [texture], [1.0])
        base = reference.bicubic(image, query) * 0.5 + 0.5 if residual else np.full(3, 0.5)
        assert_close(parts.pixel[:, y, x], 0.5 * fade * lpd)
        assert_close(parts.texture[:, y, x], 0.5 * fade * ltd)
        assert_close(parts.base[:, y, x], base)


def test_decoders_answer_again_after_a_figure():
    net, low = network(), torch.rand(1, 3, 6, 6)
    before = net(low, scale=2)
    intermediates.decoder_parts(net, low[0], 2, Region(0, 0, 12, 12))
    assert torch.equal(net(low, scale=2), before)


def test_gain_is_a_power_of_two_that_fits():
    for extreme in (0.01, 0.06, 0.2, 0.49, 0.7):
        gain = gain_for(torch.tensor([-extreme, extreme / 3]), torch.tensor([extreme / 2]))
        assert gain == 1 or (gain * extreme <= 0.5 < 2 * gain * extreme)
    assert gain_for(torch.zeros(3)) == 1
    assert on_grey(torch.tensor([-0.1, 0.0, 0.2]), 2).tolist() == pytest.approx([0.3, 0.5, 0.9])


@pytest.mark.parametrize("residual", [True, False])
def test_decoders_images_are_drawn_in_place(residual):
    net = network(bicubic_residual=residual)
    figure = figures.draw_decoders(TILE, net, 2.0, CROP)
    parts = intermediates.decoder_parts(net, make_pair(TILE, 2).low, 2.0, CROP)
    gain = gain_for(parts.pixel, parts.texture)
    expected = {"$I_{LPD}$": 0.5 + gain * parts.pixel, "$I_{LTD}$": 0.5 + gain * parts.texture, "ISTE": parts.total}
    for title, image in expected.items():
        shown, extent = pixels(panel(figure, title))
        assert np.array_equal(shown, image.clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy())
        assert extent == [30, 70, 60, 20]
    assert np.array_equal(pixels(panel(figure, "truth"))[0], TILE[:, 20:60, 30:70].transpose(1, 2, 0))
    assert len(figure.axes) == (5 if residual else 4)
    note = panel(figure, "$I_{LPD}$").get_xlabel()
    assert note == f"shown: 0.5 + {'' if gain == 1 else f'{gain:g} '}$I_{{LPD}}$"


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


# --- files and the command --------------------------------------------------------------------------------------------


@pytest.fixture
def tile(tmp_path):
    path = tmp_path / "tile.png"
    Image.fromarray(TILE[:, :40, :48].transpose(1, 2, 0)).save(path)
    return path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "iste_light=1.pt"  # what follows the first = is the file
    torch.save(randomise(create_iste("iste_light")).state_dict(), path)
    return path


def run(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(figures.figure)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_the_same_figure_gives_the_same_file(suffix, tmp_path):
    import matplotlib

    net = network()
    files = []
    for i in range(2):
        with matplotlib.rc_context({"font.size": 20 + i, "figure.dpi": 50}):  # the user's settings do not matter
            figures.save_figure(figures.draw_decoders(TILE, net, 2.0, CROP, width=3.5), tmp_path / f"{i}.{suffix}")
        files.append((tmp_path / f"{i}.{suffix}").read_bytes())
    assert files[0] == files[1]
    if suffix == "png":
        with Image.open(tmp_path / "0.png") as picture:
            assert picture.width == 1050  # 3.5 inches of 300 dots
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_files_that_are_refused(tmp_path):
    figure = figures.draw_decoders(TILE, network(), 2.0, CROP)
    (tmp_path / "there.png").write_bytes(b"kept")
    for name in ("a.jpg", "a", "absent/a.png", "there.png"):
        with pytest.raises(OutputError) as caught:
            figures.save_figure(figure, tmp_path / name)
        assert_teaches(caught.value, name.partition("/")[0])
    assert (tmp_path / "there.png").read_bytes() == b"kept"
    figures.save_figure(figure, tmp_path / "there.png", overwrite=True)
    with Image.open(tmp_path / "there.png") as picture:
        assert picture.width == 2100


@pytest.mark.parametrize("number", range(5, 11))
def test_command(number, tile, weights, tmp_path):
    Image.fromarray(np.ones((40, 48), np.uint8)).save(tmp_path / "mask.png")
    more = {
        5: ["--method", "bicubic", "--method", f"iste_light={weights}", "--crop", "10,12,20"],
        6: ["--mpp", 0.5, "--crop", "20,30,9"],
        10: ["--masks", f"truth={tmp_path / 'mask.png'}"],
    }.get(number, [])
    out = tmp_path / "out.png"
    options = ["--image", tile, "--weights", weights, "--scale", 2, "--out", out, "--width", 3.5]
    result = run(number, *options, *more)
    assert result.exit_code == 0, result.output
    assert result.output == f"wrote {out}\n"
    with Image.open(out) as picture:
        assert picture.width == 1050


def test_command_refuses_before_the_work(tile, weights, tmp_path, monkeypatch):
    def error_of(*arguments):
        result = run(*arguments, "--image", tile)
        assert result.exit_code != 0
        assert list(tmp_path.glob("*.png")) == [tile]
        return result.exception

    out = ("--out", tmp_path / "a.png")
    cases = [
        (error_of(4, *out), "5 to 10"),
        (error_of(5, "--out", tmp_path / "a.gif"), "a.gif"),
        (error_of(5, "--crop", "1,2", *out), "1,2"),
        (error_of(10, "--masks", "truth", *out), "truth"),
        (error_of(5, "--preset", "absent", *out), "absent"),
        (error_of(7, "--channels", 0, "--weights", weights, *out), "0"),
        (error_of(8, "--arrows", 0, "--weights", weights, *out), "0"),
        (error_of(9, "--width", 1, "--weights", weights, *out), "1"),
    ]
    for error, word in cases:
        assert_teaches(error, word)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert_teaches(error_of(5, *out), "experiments")


def test_methods_have_the_tables_names(weights, tmp_path):
    torch.save(EDSR(4, 48, 8, bicubic_residual=True).state_dict(), tmp_path / "edsr.pt")
    texts = [f"iste_light={weights}", "bicubic", f"edsr_small={tmp_path / 'edsr.pt'}", f"iste_light={weights}"]
    methods = figures.load_methods(texts, 4.0)
    assert list(methods) == ["ISTE", "Bicubic", "EDSR", "iste_light"]
    assert methods["EDSR"].scale == 4
    assert not any(method.training for method in methods.values())
    plain = figures.load_methods([f"iste_light={weights}"], 4.0, bicubic_residual=False)["ISTE"]
    assert methods["ISTE"].bicubic_residual
    assert not plain.bicubic_residual
