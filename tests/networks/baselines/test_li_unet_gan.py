"""The U-Net of Li et al. and its discriminator, block by block, pixel by pixel."""

import math

import numpy as np
import pytest
import reference
import torch
from reference import assert_all_learn, assert_close, assert_teaches, part, randomise, weights

from monai_iste.coordinates import cell_size, pixel_centers
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.networks.baselines.li_unet_gan import ConditionalDiscriminator, LiUNetGAN, bicubic_upsampled

TINY = (2, 3, 4, 5)


def network(scale=2, seed=0, **changes):
    return randomise(LiUNetGAN(scale, **{"channels": TINY, **changes}), seed).eval()


def critic(seed=0):
    return randomise(ConditionalDiscriminator(TINY), seed)


def image_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


# --- the equations, slowly; arrays are (C, h, w) ----------------------------------------------------------------------


def convolution(state, x, stride=1, before=0, after=0):
    """Zeros beyond the border: ``before`` rows and columns of them, ``after`` at the other end."""
    weight, bias = state["weight"], state.get("bias", 0.0)
    k = weight.shape[2]
    x = np.pad(x, ((0, 0), (before, after), (before, after)))
    out = np.zeros((len(weight), (x.shape[1] - k) // stride + 1, (x.shape[2] - k) // stride + 1))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            window = x[:, stride * i : stride * i + k, stride * j : stride * j + k]
            out[:, i, j] = np.array([(kernel * window).sum() for kernel in weight]) + bias
    return out


def prelu(state, x):
    return np.where(x > 0, x, state["weight"][0] * x)


def block(state, x, stride=1):
    hidden = convolution(part(state, "0"), x, stride, 1, 1)
    return convolution(part(state, "2"), prelu(part(state, "1"), hidden))


def down(state, x):
    skip = convolution(part(state, "skip"), x, stride=2)
    return prelu(part(state, "act"), block(part(state, "block"), x, stride=2) + skip)


def doubled(x):
    """Bilinear: a new pixel lies a quarter of an old one from the nearest center; the border is replicated."""
    _, h, w = x.shape
    out = np.zeros((len(x), 2 * h, 2 * w))
    for i in range(2 * h):
        for j in range(2 * w):
            y, z = (i - 0.5) / 2, (j - 0.5) / 2
            for row, row_weight in ((math.floor(y), 1 - y % 1), (math.floor(y) + 1, y % 1)):
                for col, col_weight in ((math.floor(z), 1 - z % 1), (math.floor(z) + 1, z % 1)):
                    pixel = x[:, min(max(row, 0), h - 1), min(max(col, 0), w - 1)]
                    out[:, i, j] += row_weight * col_weight * pixel
    return out


def up(state, x):
    x = doubled(x)
    return block(part(state, "block"), x) + convolution(part(state, "skip"), x)


def shuffled(x):
    out = np.zeros((3, 2 * x.shape[1], 2 * x.shape[2]))
    for c in range(3):
        for i in range(2):
            for j in range(2):
                out[c, i::2, j::2] = x[4 * c + 2 * i + j]
    return out


def unet(state, image):
    _, h, w = image.shape
    padded = np.zeros((3, math.ceil(h / 16) * 16, math.ceil(w / 16) * 16))
    for i in range(padded.shape[1]):
        for j in range(padded.shape[2]):
            padded[:, i, j] = image[:, min(i, h - 1), min(j, w - 1)]
    d0 = down(part(state, "down.0"), padded)
    d1 = down(part(state, "down.1"), d0)
    d2 = down(part(state, "down.2"), d1)
    d3 = down(part(state, "down.3"), d2)
    u2 = np.concatenate([up(part(state, "up.0"), d3), d2]) + block(part(state, "across.0"), d2)
    u1 = np.concatenate([up(part(state, "up.1"), u2), d1]) + block(part(state, "across.1"), d1)
    u0 = np.concatenate([up(part(state, "up.2"), u1), d0]) + block(part(state, "across.2"), d0)
    return shuffled(convolution(part(state, "last.0"), u0))[:, :h, :w]


def upsampled(image, size):
    return np.array([reference.bicubic(image, query) for query in reference.grid(size)]).T.reshape(3, *size)


@pytest.mark.parametrize(("size", "scale"), [((5, 9), 2), ((7, 1), 3), ((8, 4), 4)])
def test_generator_equals_its_equations(size, scale):
    net, images = network(scale), image_of(2, 3, *size)
    for image, result in zip(images.double().numpy() * 2 - 1, net(images), strict=True):
        large = upsampled(image, (size[0] * scale, size[1] * scale))
        assert_close(result, unet(weights(net), large) * 0.5 + 0.5)


def test_learning_the_difference_equals_its_equation():
    net, images = network(bicubic_residual=True), image_of(1, 3, 5, 9)
    images[:, :, 2:] = 0.4  # flat ground
    large = upsampled(images[0].double().numpy() * 2 - 1, (10, 18))
    gate = np.array([[reference.contrast(large, i, j) for j in range(18)] for i in range(10)])
    result = net(images)
    assert_close(result[0], (unet(weights(net), large) * gate + large) * 0.5 + 0.5)
    assert_close(result[0, :, -2:], np.full((3, 2, 18), 0.4))


def test_critic_equals_its_equation():
    judge, rgb, condition = critic(), image_of(1, 3, 35, 32), image_of(1, 3, 35, 32, seed=1)
    state, x = weights(judge), np.concatenate([rgb[0].double().numpy(), condition[0].double().numpy()]) * 2 - 1
    for layer in (0, 2, 4, 6):
        x = convolution(part(state, f"layers.{layer}"), x, 2, 1, 1)
        x = np.where(x > 0, x, 0.2 * x)
    expected = convolution(part(state, "layers.9"), x, 1, 2, 1)
    assert expected.shape == (1, 2, 2)
    assert_close(judge(rgb, condition)[0], expected)


# --- the published networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "number", "published"), [(LiUNetGAN, 7_388_122, 7.39), (ConditionalDiscriminator, 2_767_808, 2.77)]
)
def test_published_sizes(module, number, published):
    assert count(module()) == number
    assert round(number / 1e6, 2) == published


@pytest.mark.parametrize("scale", [2, 4])
def test_size_by_hand(scale):
    def block(i, o, kernel):
        return (i * kernel**2 + 1) * o + 1 + o * o

    a, b, c, d = channels = (6, 5, 9, 4)
    down = sum(block(i, o, 4) + i * o + 1 for i, o in ((3, a), (a, b), (b, c), (c, d)))
    up = sum(block(i, o, 3) + i * o for i, o in ((d, c), (2 * c, b), (2 * b, a)))
    across = sum(block(n, 2 * n, 3) for n in (a, b, c))
    assert count(LiUNetGAN(scale, channels)) == down + up + across + (2 * a + 1) * 12
    critic = sum((16 * i + 1) * o for i, o in ((6, a), (a, b), (b, c), (c, d))) + 16 * d
    assert count(ConditionalDiscriminator(channels)) == critic


# --- called as the others are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 5), (9, 16), (16, 24)])
def test_any_size(size, scale):
    net, image = network(scale), image_of(2, 3, *size)
    expected = (2, 3, size[0] * scale, size[1] * scale)
    assert net(image).shape == net(image, scale=float(scale)).shape == expected
    assert torch.equal(net(image), net(image, scale=scale))


@pytest.mark.parametrize("bicubic_residual", [False, True])
def test_an_image_at_its_final_size_gives_the_same(bicubic_residual):
    net, image = network(3, bicubic_residual=bicubic_residual), image_of(2, 3, 6, 11)
    large = bicubic_upsampled(image, (18, 33))
    assert_close(net(large, scale=1), net(image).detach().numpy())


def test_coordinates_get_the_pixels_of_the_whole_image():
    net, image = network(), image_of(1, 3, 6, 5)
    coord, cell = pixel_centers((12, 10)).expand(1, -1, -1), cell_size((6, 5), (12, 10)).expand(1, -1)
    assert torch.equal(net(image, coord=coord, cell=cell).mT.reshape(1, 3, 12, 10), net(image))


def test_goes_through_the_inferer():
    net, image = network(), image_of(1, 3, 30, 26)
    with torch.no_grad():
        assert_close(ArbitraryScaleInferer(window=64)(image, net, scale=2), net(image).numpy())


def test_a_low_resolution_condition_is_brought_to_size():
    judge, rgb, condition = critic(), image_of(2, 3, 32, 48), image_of(2, 3, 16, 24, seed=1)
    assert torch.equal(judge(rgb, condition), judge(rgb, bicubic_upsampled(condition, (32, 48))))
    assert not torch.equal(judge(rgb, condition), judge(rgb, condition.flip(3)))


def test_all_parameters_learn():
    net, judge, image = network(), critic(), image_of(2, 3, 20, 20)
    judge(net(image), image).square().mean().backward()
    assert_all_learn(net, judge)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda c: LiUNetGAN(channels=c), ConditionalDiscriminator])
@pytest.mark.parametrize("channels", [(64, 128, 256), (0, 1, 2, 3), (64, 128, 256, 512, 1024)])
def test_four_widths_are_needed(channels, make):
    with pytest.raises(ConfigError) as error:
        make(channels)
    assert_teaches(error.value, str(channels))


@pytest.mark.parametrize("scale", [3, 1.5, 0])
def test_only_its_own_scale(scale):
    with pytest.raises(ScaleError) as error:
        network()(image_of(1, 3, 4, 4), scale=scale)
    assert_teaches(error.value, "scale 2", "LiUNetGAN")


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 1, 4, 4)])
@pytest.mark.parametrize("scale", [1, 2])
def test_only_batches_of_rgb(scale, shape):
    with pytest.raises(ShapeError) as error:
        network()(torch.zeros(shape), scale=scale)
    assert_teaches(error.value, "(B, 3, h, w)")


@pytest.mark.parametrize(
    ("rgb", "condition", "word"),
    [
        ((1, 3, 15, 40), (1, 3, 15, 40), "16 x 16"),
        ((1, 1, 32, 32), (1, 3, 32, 32), "(B, 3, h, w)"),
        ((1, 3, 32, 32), (3, 32, 32), "(B, 3, h, w)"),
    ],
)
def test_critic_refuses(rgb, condition, word):
    with pytest.raises(ShapeError) as error:
        critic()(torch.zeros(rgb), torch.zeros(condition))
    assert_teaches(error.value, word)
