import numpy as np
import pytest
import torch
from PIL import Image
from reference import assert_teaches

from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.networks import ISTE, PRESETS, Bicubic, EDSREncoder, SwinIREncoder, create_iste


def conv(inputs, outputs, kernel):
    return inputs * outputs * kernel**2 + outputs


def linear(inputs, outputs):
    return inputs * outputs + outputs


def swinir(dim, groups, layers=6, heads=6, window=8, out=64):
    attention = linear(dim, 3 * dim) + linear(dim, dim) + (2 * window - 1) ** 2 * heads
    layer = 2 * dim + attention + 2 * dim + linear(dim, 2 * dim) + linear(2 * dim, dim)
    body = groups * (layers * layer + conv(dim, dim, 3))
    return conv(3, dim, 3) + 2 * dim + body + 2 * dim + conv(dim, dim, 3) + conv(dim, out, 3)


def edsr(width, blocks):
    return conv(3, width, 3) + (2 * blocks + 1) * conv(width, width, 3)


def branches(feat, texture, hidden, layers):
    """LFI and its projection; TL's convolution and phase; STF's MLP; LPD; LTD."""
    interactor = conv(feat, 3 * feat, 1) + conv(feat, texture, 1)
    learner = conv(feat, 3 * texture, 3) + linear(2, texture)
    fusion = linear(2 * texture, texture) + linear(texture, texture)
    hidden_and_color = (layers - 1) * linear(hidden, hidden) + linear(hidden, 3)
    decoders = linear(texture + 4, hidden) + linear(texture, hidden) + 2 * hidden_and_color
    return interactor + learner + fusion + decoders


COUNTS = {
    "iste": (swinir(180, 6) + branches(64, 256, 256, 3), 12_670_506),
    "iste_small": (swinir(60, 4) + branches(64, 256, 256, 3), 2_005_746),
    "iste_light": (edsr(48, 8) + branches(48, 32, 32, 2), 412_646),
    "iste_light2": (edsr(64, 10) + linear(2, 32) + linear(32, 2 * 64 * 10) + branches(64, 16, 32, 2), 865_206),
}


@pytest.mark.parametrize("preset", COUNTS)
def test_published_sizes(preset):
    by_arithmetic, number = COUNTS[preset]
    assert sum(p.numel() for p in create_iste(preset).parameters()) == by_arithmetic == number


def test_the_papers_size():
    assert swinir(180, 6) == 11_603_044
    assert round(COUNTS["iste"][1] / 1e6, 2) == 12.67
    assert COUNTS["iste_light"][1] < 1_000_000


def test_every_preset_is_counted():
    assert set(COUNTS) == set(PRESETS)
    assert all(preset.summary for preset in PRESETS.values())


def test_presets_are_what_they_say():
    light, small = create_iste("iste_light"), create_iste("iste_small")
    assert isinstance(light.encoder, EDSREncoder)
    assert isinstance(small.encoder, SwinIREncoder)
    assert light.bicubic_residual
    assert not small.bicubic_residual
    for net in (light, small, ISTE(EDSREncoder(8, 1))):
        assert net.training_keys == "queries"
        assert net.local_feature_interactor.heads == 1
    assert not ISTE(EDSREncoder(8, 1)).bicubic_residual
    assert "bicubic_residual" not in PRESETS["iste"].arguments


@pytest.mark.parametrize("preset", ["iste_small", "iste_light"])
def test_presets_run(preset):
    net = create_iste(preset).eval()
    with torch.no_grad():
        result = net(torch.rand(1, 3, 5, 9), scale=1.3)
    assert result.shape == (1, 3, 6, 12)
    assert result.isfinite().all()


def test_changes_go_to_the_network():
    net = create_iste("iste_light", use_lfi=False, texture_corners="nearest", scale=3.7, bicubic_residual=False)
    assert net.texture_neighbors.__name__ == "nearest_pixel"
    assert net.scale == 3.7
    assert not net.bicubic_residual
    assert not hasattr(net.local_feature_interactor, "qkv")
    encoder = EDSREncoder(8, 1)
    assert create_iste("iste_light", encoder=encoder).encoder is encoder
    assert PRESETS["iste_light"].arguments["bicubic_residual"]


def test_networks_of_one_preset_share_nothing():
    first, second = create_iste("iste_light"), create_iste("iste_light")
    shared = {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in second.parameters()}
    assert not shared


@pytest.mark.parametrize("preset", ["", "ISTE", "iste_huge"])
def test_refuses_unknown_presets(preset):
    with pytest.raises(ConfigError) as caught:
        create_iste(preset)
    assert_teaches(caught.value, "iste_light", "iste_small", repr(preset))


def test_refuses_unknown_choices():
    with pytest.raises(ConfigError) as caught:
        create_iste("iste_light", inference_keys="some")
    assert_teaches(caught.value, "inference_keys", "'some'", "lattice, all")


# --- the baseline of every table --------------------------------------------------------------------------------------


def output_of(size, scale):
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@pytest.mark.parametrize("scale", [1, 1.3, 2, 2.5, 3.7])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (9, 16), (33, 20)])
def test_bicubic_equals_pillow(size, scale):
    # Pillow clips between its two passes where the result overshoots black or white: keep away from both.
    pixels = np.random.default_rng(0).integers(64, 192, (*size, 3), dtype=np.uint8)
    output = output_of(size, scale)
    expected = np.asarray(Image.fromarray(pixels).resize(output[::-1], Image.Resampling.BICUBIC))
    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).float() / 255
    actual = Bicubic()(image, scale=scale)[0].permute(1, 2, 0).mul(255).round().numpy()
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1  # Pillow rounds twice


@pytest.mark.parametrize("scale", [1, 1.3, 2, 2.5, 3.7])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (9, 16), (33, 20)])
def test_bicubic_equals_pillow_in_float(size, scale):
    pixels = np.random.default_rng(1).random(size, dtype=np.float32)
    expected = Image.fromarray(pixels).resize(output_of(size, scale)[::-1], Image.Resampling.BICUBIC)
    actual = Bicubic()(torch.from_numpy(pixels)[None, None], scale=scale)[0, 0].numpy()
    assert np.abs(actual - np.asarray(expected)).max() <= 1e-5


def test_bicubic_scales():
    image = torch.rand(2, 3, 4, 6)
    assert Bicubic()(image).shape == (2, 3, 8, 12)
    assert Bicubic(scale=3)(image).shape == (2, 3, 12, 18)
    assert not list(Bicubic().parameters())
    with pytest.raises(ScaleError) as caught:
        Bicubic()(image, scale=0)
    assert_teaches(caught.value, "finite scale above 0", "0")
    with pytest.raises(ShapeError) as caught:
        Bicubic()(image[0])
    assert_teaches(caught.value, "(B, C, h, w)", "(3, 4, 6)")
