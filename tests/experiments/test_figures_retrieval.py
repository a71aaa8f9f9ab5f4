"""Figures of retrieval: the retrieved keys, their positions, and the arrows to them."""

import math

import numpy as np
import pytest
import reference
import torch
from figure_panels import TILE, bar, network, pixels
from reference import assert_close
from torch import nn

from experiments import figures
from experiments.figures import intermediates, retrieval
from experiments.figures.inputs import make_pair
from monai_iste.coordinates import Neighbors, cell_size, output_size
from monai_iste.networks import ISTE

pytest.importorskip("matplotlib")


class Untouched(nn.Module):
    """An encoder whose features are the image."""

    out_channels = 3

    def forward(self, image):
        return image


def planted(use_tl, key_side):
    """A network whose keys and queries are the colors themselves: a pixel retrieves its own color's key."""
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
    """Every pixel has the color of a pixel that gives a key, and retrieves that key."""
    h, w = 9, 8
    net = planted(use_tl, key_side)
    rows, columns = range(0, h, step), range(0, w, step)
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(len(rows), len(columns), 3, generator=generator)
    source = torch.stack(
        [torch.randint(len(n), (h, w), generator=generator) for n in (rows, columns)], dim=-1
    )  # which key's color a pixel has
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            source[y, x] = torch.tensor([i, j])
    low = colors[source[..., 0], source[..., 1]].permute(2, 0, 1)
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
    """The Texture Learner, evaluated at the position of a key, returns that key."""
    net, size = network(**VARIANTS[variant]), (7, 5)
    image = torch.rand(1, 3, *size) * 2 - 1
    cell = cell_size(size, output_size(size, scale)).unsqueeze(0)
    amp_freq = net.texture_learner.amp_freq(net.encoder(image))
    keys = net.keys(amp_freq, torch.zeros(1, 1, 2), cell)
    places = net.key_positions(size, cell)
    assert places.shape == (keys.shape[1], 2)
    pixel = (places + 0.5).floor()
    neighbors = Neighbors(
        (pixel[:, 0] * size[1] + pixel[:, 1]).long().view(1, -1, 1),
        (2 * (places - pixel)).float().view(1, -1, 1, 2),
        torch.ones(1, len(places), 1, 1),
    )
    assert_close(net.texture_learner(amp_freq, neighbors, cell).squeeze(2), keys.detach().numpy())


@pytest.mark.parametrize("variant", VARIANTS)
def test_retrieval_is_the_networks_own(variant):
    """Index and confidence by the literal similarity, and F_STF from both is the one that the network uses."""
    net, size = network(**VARIANTS[variant]), (7, 5)
    low = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    found = intermediates.retrieve(net, low, 2.5)
    cell = cell_size(size, output_size(size, 2.5)).unsqueeze(0)
    feat = net.encoder((low[None] - 0.5) / 0.5)
    keys = net.keys(net.texture_learner.amp_freq(feat), torch.zeros(1, 1, 2), cell)[0].detach()
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
    for axes, center in zip(patches, [end for a in expected for end in (a.pixel, a.place)], strict=True):
        (frame,) = axes.patches
        assert (frame.get_y(), frame.get_x()) == tuple(math.floor(n + 0.5) for n in center)
        assert np.mean(axes.get_ylim()) == frame.get_y() + 0.5
        shown, (left, right, bottom, top) = pixels(axes)
        part = pair.truth[:, round(2 * top) : round(2 * bottom), round(2 * left) : round(2 * right)]
        assert np.array_equal(shown, part.permute(1, 2, 0).mul(255).round().numpy())
    note = f"{len(found.key.unique())} of {found.keys} keys"
    assert any(note in axes.get_xlabel() for axes in figure.axes)
