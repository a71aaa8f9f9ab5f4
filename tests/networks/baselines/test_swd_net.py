"""SWD-Net against its equations, written out pixel by pixel; and through a real training."""

import copy
import math

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import StatsHandler, from_engine
from overfitting import stripes
from reference import assert_all_learn, assert_close, assert_teaches, part, randomise, weights

from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.losses import SpatialWaveletLoss
from monai_iste.networks.baselines.swd_blocks import AlignedMultiPathConv, RefineContextFusion, feature_adaption
from monai_iste.networks.baselines.swd_net import SWDNet
from monai_iste.networks.baselines.wavelets import haar, inverse_haar, pad_to_multiple

TINY = {"shallow_channels": 3, "channels": 2, "blocks": 1, "wavelet_channels": 2}
SMALL = {"shallow_channels": 32, "channels": 16, "blocks": 2, "wavelet_channels": 6}


def network(scale=2, seed=0, **changes):
    """Weights as large as a trained network's, so that a stage at half an image's size still counts."""
    return randomise(SWDNet(scale, **{**TINY, **changes}), seed)


def image_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


# --- the equations, slowly; arrays are (C, h, w) ----------------------------------------------------------------------


def blocks_to_bands(x):
    c, h, w = x.shape
    bands = np.zeros((4 * c, h // 2, w // 2))
    for k in range(c):
        for i in range(h // 2):
            for j in range(w // 2):
                (p, q), (r, s) = x[k, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                bands[k, i, j] = (p + q + r + s) / 2
                bands[c + k, i, j] = (p - q + r - s) / 2
                bands[2 * c + k, i, j] = (p + q - r - s) / 2
                bands[3 * c + k, i, j] = (p - q - r + s) / 2
    return bands


def bands_to_blocks(bands):
    """By the transform's matrix, solved for the block."""
    matrix = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    c, (h, w) = len(bands) // 4, bands.shape[1:]
    x = np.zeros((c, 2 * h, 2 * w))
    for k in range(c):
        for i in range(h):
            for j in range(w):
                x[k, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = np.linalg.solve(matrix, bands[k::c, i, j]).reshape(2, 2)
    return x


def convolution(state, x, stride=1):
    """Zeros beyond the border; output pixel (i, j) is centered on input pixel (stride * i, stride * j)."""
    weight, bias = state["weight"], state["bias"]
    (_, h, w), (kh, kw) = x.shape, weight.shape[2:]
    out = np.zeros((len(weight), math.ceil(h / stride), math.ceil(w / stride)))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = bias
            for dy in range(kh):
                for dx in range(kw):
                    y, z = stride * i + dy - kh // 2, stride * j + dx - kw // 2
                    if 0 <= y < h and 0 <= z < w:
                        out[:, i, j] += weight[:, :, dy, dx] @ x[:, y, z]
    return out


def prelu(state, x):
    slope = state["weight"].reshape(-1, *[1] * (x.ndim - 1))
    return np.where(x > 0, x, slope * x)


def conv_prelu(state, x):
    return prelu(part(state, "1"), convolution(part(state, "0"), x))


def residual_block(state, x):
    y = convolution(part(state, "body.1"), conv_prelu(part(state, "body.0"), x))
    return prelu(part(state, "activation"), x + y)


def linear(state, name, x):
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def squeeze_excite(state, x):
    hidden = np.maximum(linear(state, "fc.0", x.mean((1, 2))), 0)
    return x * (1 / (1 + np.exp(-linear(state, "fc.2", hidden))))[:, None, None]


def adapted(state, x):
    hidden = prelu(part(state, "fc.1"), linear(state, "fc.0", x.mean((1, 2))))
    return x * np.tanh(linear(state, "fc.2", hidden))[:, None, None]


def fusion(state, backbone, bypass):
    _, h, w = backbone.shape
    pixels = [(i, j) for i in range(h) for j in range(w)]
    shares = reference.softmax([float(state["share.weight"][0, :, 0, 0] @ backbone[:, i, j]) for i, j in pixels])
    pooled = sum(share * bypass[:, i, j] for share, (i, j) in zip(shares, pixels, strict=True))
    context = reference.perceptron(reference.linear_layers(part(state, "context")), pooled)
    return squeeze_excite(part(state, "squeeze_excite"), backbone) + context[:, None, None]


def multi_path(state, x):
    kernels = {"along_x": (1, 3), "along_y": (3, 1), "diagonal": (3, 3)}
    out = conv_prelu(part(state, "approximation"), x)
    for path, kernel in kernels.items():
        assert state[f"{path}.0.0.weight"].shape[2:] == state[f"{path}.1.0.weight"].shape[2:] == kernel
        out = out + conv_prelu(part(state, f"{path}.1"), conv_prelu(part(state, f"{path}.0"), x))
    return out


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def spatial_module(state, x, blocks):
    fine, coarse = x, prelu(part(state, "halve.1"), convolution(part(state, "halve.0"), x, stride=2))
    for k in range(3):
        stage = part(state, f"rounds.{k}")
        for block in range(blocks):
            fine = residual_block(part(stage, f"fine.{block}"), fine)
            coarse = residual_block(part(stage, f"coarse.{block}"), coarse)
        up = convolution(part(stage, "to_fine"), coarse)
        bypass = np.array([[[u[i // 2, j // 2] for j in range(x.shape[2])] for i in range(x.shape[1])] for u in up])
        fused = leaky(fusion(part(stage, "fuse_fine"), fine, bypass))
        if k < 2:
            down = convolution(part(stage, "to_coarse"), fine, stride=2)
            coarse = leaky(fusion(part(stage, "fuse_coarse"), coarse, down))
        fine = fused
    return x + fine


def pixel_shuffle(x, scale):
    c, h, w = len(x) // scale**2, *x.shape[1:]
    out = np.zeros((c, h * scale, w * scale))
    for k, i, j in np.ndindex(out.shape):
        out[k, i, j] = x[k * scale**2 + (i % scale) * scale + j % scale, i // scale, j // scale]
    return out


def spatial_stage(state, image, scale, blocks):
    x = residual_block(part(state, "1"), conv_prelu(part(state, "0"), image))
    x = residual_block(part(state, "3"), conv_prelu(part(state, "2"), x))
    first = spatial_module(part(state, "4.first"), x, blocks)
    second = spatial_module(part(state, "4.second"), first, blocks)
    x = conv_prelu(part(state, "5"), np.concatenate([first, second]))
    x = pixel_shuffle(convolution(part(state, "6"), x), scale)
    x = conv_prelu(part(state, "9"), conv_prelu(part(state, "8"), x))
    return convolution(part(state, "10"), x)


def wavelet_stage(state, image):
    _, h, w = image.shape
    rows, columns = range(math.ceil(h / 4) * 4), range(math.ceil(w / 4) * 4)
    padded = np.array([[[c[min(i, h - 1), min(j, w - 1)] for j in columns] for i in rows] for c in image])
    fine = blocks_to_bands(padded)
    coarse = blocks_to_bands(fine)
    fine, coarse = adapted(part(state, "adapt_fine"), fine), adapted(part(state, "adapt_coarse"), coarse)
    for k in range(3):
        stage = part(state, f"rounds.{k}")
        fine = multi_path(part(stage, "fine.1"), multi_path(part(stage, "fine.0"), fine))
        coarse = multi_path(part(stage, "coarse.1"), multi_path(part(stage, "coarse.0"), coarse))
        fused = fusion(part(stage, "fuse_fine"), fine, bands_to_blocks(coarse))
        if k < 2:
            coarse = fusion(part(stage, "fuse_coarse"), coarse, blocks_to_bands(fine))
        fine = fused
    return bands_to_blocks(convolution(part(state, "closing"), fine))[:, :h, :w]


def interpolated(image, scale, bicubic):
    """Upsampled image and the gate of the stages' residuals; 1 without bicubic interpolation."""
    _, h, w = image.shape
    size = (h * scale, w * scale)
    if not bicubic:
        return np.array(
            [[[c[i // scale, j // scale] for j in range(size[1])] for i in range(size[0])] for c in image]
        ), 1
    contrasts = np.array([[reference.contrast(image, i, j) for j in range(w)] for i in range(h)])
    upsampled, gate = np.zeros((3, *size)), np.zeros(size)
    for (i, j), query in zip(np.ndindex(size), reference.grid(size), strict=True):
        upsampled[:, i, j] = reference.bicubic(image, query)
        gate[i, j] = sum(a.weight * contrasts[a.row, a.col] for a in reference.corners(query, (h, w)))
    return upsampled, gate


def swd_net(state, image, scale, bicubic, blocks=1):
    upsampled, gate = interpolated(image, scale, bicubic)
    spatial = upsampled + gate * spatial_stage(part(state, "spatial_stage"), image, scale, blocks)
    return spatial + gate * wavelet_stage(part(state, "wavelet_stage"), spatial), spatial


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize(("size", "scale"), [((1, 1), 2), ((3, 2), 2), ((2, 5), 3)])
def test_equals_its_equations(size, scale, bicubic):
    net, images = network(scale, bicubic_residual=bicubic), image_of(2, 3, *size)
    final, both, state = net.eval()(images), net.train()(images), weights(net)
    for k, image in enumerate(images.double().numpy() * 2 - 1):
        expected = [x * 0.5 + 0.5 for x in swd_net(state, image, scale, bicubic)]
        top = np.abs(expected).max()
        assert_close(final[k], expected[0], 1e-5 * top)
        assert_close(both[k], expected, 1e-5 * top)


def test_blocks_follow_each_other():
    net, image = network(blocks=2), image_of(1, 3, 3, 3)
    expected = swd_net(weights(net), image[0].double().numpy() * 2 - 1, 2, False, blocks=2)[0] * 0.5 + 0.5
    assert_close(net.eval()(image)[0], expected, 1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_refine_context_fusion(size):
    block, backbone, bypass = (
        randomise(RefineContextFusion(4)),
        reference.random(4, *size),
        reference.random(4, *size, seed=1),
    )
    expected = fusion(weights(block), backbone.double().numpy(), bypass.double().numpy())
    assert_close(block(backbone[None], bypass[None])[0], expected)


def test_fusion_begins_without_context_and_learns_it():
    torch.manual_seed(0)
    block, backbone, bypass = RefineContextFusion(4), reference.random(1, 4, 3, 5), reference.random(1, 4, 3, 5, seed=1)
    assert torch.equal(block(backbone, bypass), block.squeeze_excite(backbone))
    block(backbone, bypass).square().sum().backward()
    assert block.context[2].weight.grad.abs().max() > 0


def test_aligned_multi_path_convolution():
    block, x = randomise(AlignedMultiPathConv(2, 3)), reference.random(2, 4, 5)
    assert_close(block(x[None])[0], multi_path(weights(block), x.double().numpy()))
    assert count(AlignedMultiPathConv(96, 96)) == 39 * 96**2 + 7 * 2 * 96  # 9 + 2 * 3 + 2 * 3 + 2 * 9 taps


def test_feature_adaption():
    block, x = randomise(feature_adaption(12)), reference.random(12, 2, 3)
    assert_close(block(x[None])[0], adapted(weights(block), x.double().numpy()))


# --- the Haar transform -----------------------------------------------------------------------------------------------


def test_haar_equals_its_equation():
    x = reference.random(2, 3, 4, 6).double()
    for image, bands in zip(x, haar(x), strict=True):
        assert_close(bands, blocks_to_bands(image.numpy()), 1e-12)
        assert_close(inverse_haar(bands[None])[0], bands_to_blocks(bands.numpy()), 1e-12)


def test_haar_is_inverted_and_orthonormal():
    x, y = reference.random(2, 1, 3, 16, 8).double()
    for levels in (1, 2, 3):
        bands, other = x, y
        for _ in range(levels):
            bands, other = haar(bands), haar(other)
        assert bands.shape == (1, 3 * 4**levels, 16 // 2**levels, 8 // 2**levels)
        assert_close((bands * other).sum(), (x * y).sum().numpy(), 1e-12)
        for _ in range(levels):
            bands = inverse_haar(bands)
        assert_close(bands, x.numpy(), 1e-12)


def test_haar_equals_pywavelets():
    pywt = pytest.importorskip("pywt")
    x = reference.random(4, 6).double()
    mean, (along_y, along_x, both) = pywt.dwt2(x.numpy(), "haar")
    assert_close(haar(x[None, None])[0], [mean, along_x, along_y, both], 1e-12)


def test_padding_moves_nothing():
    x = image_of(1, 2, 5, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 2, 8, 4)
    assert torch.equal(padded[..., :5, :3], x)
    assert torch.equal(padded[..., 5:, :3], x[..., 4:, :].expand(-1, -1, 3, -1))
    assert torch.equal(padded[..., 3], padded[..., 2])
    assert torch.equal(pad_to_multiple(padded, 4), padded)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 5, 4), (1, 3, 4, 5)])
def test_haar_needs_even_sides(shape):
    with pytest.raises(ShapeError) as error:
        haar(torch.zeros(shape))
    assert_teaches(error.value, str(shape))


def test_inverse_haar_needs_four_bands():
    with pytest.raises(ShapeError) as error:
        inverse_haar(torch.zeros(1, 6, 2, 2))
    assert_teaches(error.value, "(1, 6, 2, 2)")


# --- size and shape ---------------------------------------------------------------------------------------------------


def test_has_its_published_size():
    net = SWDNet()
    assert (count(net.spatial_stage), count(net.wavelet_stage), count(net)) == (1_154_147, 1_999_740, 3_153_887)
    # The release never uses a third adaption of 12 channels and, in each spatial module, the fusion of the last round's
    # coarser stream; and each of its 15 other fusions has a bias that a softmax does not see.
    unused = count(feature_adaption(12)) + 2 * (count(RefineContextFusion(32)) + 1) + 15
    assert (unused, round((count(net) + unused) / 1e6, 2)) == (4_537, 3.16)
    assert len([m for m in net.modules() if isinstance(m, RefineContextFusion)]) == 15


@pytest.mark.parametrize(("scale", "size"), [(3, 3_200_127), (4, 3_264_863)])
def test_other_factors_widen_one_convolution(scale, size):
    assert count(SWDNet(scale)) == size == 3_153_887 + (scale**2 - 4) * (32 * 32 * 9 + 32)


def test_small_size_for_cpus():
    assert count(SWDNet(**SMALL)) == 389_215


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize(("size", "scale"), [((1, 2), 2), ((1, 7), 3), ((5, 3), 4), ((4, 6), 2)])
def test_any_size(size, scale, bicubic):
    net, image = network(scale, bicubic_residual=bicubic), image_of(2, 3, *size)
    output = (size[0] * scale, size[1] * scale)
    both = net.train()(image)
    assert both.shape == (2, 2, 3, *output)
    final = net.eval()(image, scale=scale)
    assert final.shape == (2, 3, *output)
    assert torch.equal(final, both[:, 0])
    assert not torch.equal(final, both[:, 1])


@pytest.mark.parametrize("size", [(5, 3), (4, 6)])
def test_stages_that_add_nothing_leave_every_pixel_in_its_place(size):
    net, image = network(3), image_of(1, 3, *size)
    for layer in (net.spatial_stage[-1], net.wavelet_stage.closing):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    repeated = image.repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert_close(net.eval()(image), repeated.numpy(), 1e-6)


def test_with_the_bicubic_residual_one_color_stays_that_color():
    image = torch.tensor([0.8, 0.3, 0.6]).view(1, 3, 1, 1).expand(1, 3, 5, 6)
    flat = image[..., :1, :1].expand(1, 3, 15, 18).numpy()
    assert_close(network(3, bicubic_residual=True).eval()(image), flat, 1e-6)
    assert np.abs(network(3).eval()(image).detach().numpy() - flat).max() > 0.01


def test_coordinates_get_the_pixel_they_lie_in():
    net, image = network().eval(), image_of(1, 3, 4, 3)
    coord = torch.tensor([[[-0.99, -0.99], [0.99, 0.99], [-0.99, 0.99]]])
    whole = net(image)[0]
    assert_close(
        net(image, coord=coord)[0], torch.stack([whole[:, 0, 0], whole[:, 7, 5], whole[:, 0, 5]]).detach().numpy()
    )


def test_autocast_stays_close():
    torch.manual_seed(0)
    net, image = SWDNet(**SMALL).eval(), image_of(1, 3, 8, 8)
    with torch.no_grad():
        expected = net(image)
        with torch.autocast("cpu", torch.bfloat16):
            difference = (net(image).float() - expected).abs()
    assert 0 < difference.max() < 0.02


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_no_coordinates_in_training():
    net = network().train()
    with pytest.raises(ConfigError) as error:
        net(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5, 2), torch.ones(1, 2))
    assert_teaches(error.value, "fixed_scale.json")


@pytest.mark.parametrize("changes", [{"channels": 1}, {"shallow_channels": 0}, {"wavelet_channels": 1}, {"blocks": 0}])
def test_too_narrow(changes):
    with pytest.raises(ConfigError) as error:
        network(**changes)
    assert_teaches(error.value, str(next(iter(changes.values()))))


def test_wrong_images_and_scales():
    for call in (lambda: network(1), lambda: network(2)(torch.zeros(1, 3, 4, 4), scale=3)):
        with pytest.raises(ScaleError) as scale_error:
            call()
        assert_teaches(scale_error.value)
    with pytest.raises(ShapeError) as shape_error:
        network()(torch.zeros(3, 4, 4))
    assert_teaches(shape_error.value, "(B, 3, h, w)")


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bicubic", [False, True])
def test_all_parameters_learn(bicubic):
    # Wide enough that no hidden layer of random weights is dead behind its ReLU.
    net = network(3, channels=16, wavelet_channels=16, bicubic_residual=bicubic).train()
    SpatialWaveletLoss()(net(image_of(2, 3, 5, 6)), image_of(2, 3, 15, 18, seed=1)).backward()
    assert_all_learn(net)


def pairs(count, seed=0, size=8):
    """Waves of colors and directions of their own, and their means over 2x2 pixels."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.arange(2 * size, dtype=torch.float32)] * 2, indexing="ij")
    items = []
    for _ in range(count):
        fy, fx, phase = (torch.rand(3, 3, 1, 1, generator=generator) * 2 - 1) * torch.tensor([1.2, 1.2, 3.1]).view(
            3, 1, 1, 1
        )
        label = 0.5 + 0.4 * torch.sin(fy * y + fx * x + phase)
        items.append({"image": F.avg_pool2d(label, 2), "label": label})
    return items


class Notes:
    """A handler that keeps what other handlers would read."""

    def __init__(self):
        self.losses, self.predictions = [], []

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.note)

    def note(self, engine):
        if "loss" in engine.state.output[0]:
            self.losses.append(from_engine(["loss"], first=True)(engine.state.output))
        self.predictions.append(from_engine(["pred"])(engine.state.output))


def test_trains_and_evaluates_in_monais_engines(capsys):
    net, notes, loader = network(), Notes(), DataLoader(pairs(4), batch_size=2)
    before, first = copy.deepcopy(net), next(iter(loader))
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=loader,
        network=net,
        optimizer=torch.optim.Adam(net.parameters(), 1e-3),
        loss_function=SpatialWaveletLoss(),
        decollate=True,
        train_handlers=[StatsHandler(name="swd", output_transform=from_engine(["loss"], first=True)), notes],
    )
    trainer.run()
    assert [len(p) for p in notes.predictions] == [2] * 4  # one for each item of the batch
    pred, loss = before.train()(first["image"]).detach(), notes.losses[0]
    assert_close(torch.stack(notes.predictions[0]), pred.numpy())
    assert loss == pytest.approx(float(SpatialWaveletLoss()(pred, first["label"])), rel=1e-5)
    assert f"Iter: 1/2 -- Loss: {loss:.4f}" in capsys.readouterr().out
    for old, new in zip(
        (before.spatial_stage, before.wavelet_stage), (net.spatial_stage, net.wavelet_stage), strict=True
    ):
        assert not torch.equal(next(old.parameters()), next(new.parameters()))  # the step reached its first layer

    notes = Notes()
    cpu = torch.device("cpu")
    SupervisedEvaluator(device=cpu, val_data_loader=loader, network=net, val_handlers=[notes], decollate=True).run()
    images = [image for batch in notes.predictions for image in batch]
    assert [tuple(image.shape) for image in images] == [(3, 16, 16)] * 4
    assert_close(images[0], net.eval()(first["image"])[0].detach().numpy())


def test_the_small_size_learns_a_tile_by_heart():
    torch.manual_seed(0)
    net, loss_function, label = SWDNet(**SMALL).train(), SpatialWaveletLoss(), stripes(16)
    image = F.interpolate(label, (8, 8), mode="bicubic", antialias=True)
    optimizer, errors = torch.optim.Adam(net.parameters(), 3e-3), []
    for _ in range(25):
        pred = net(image)
        errors.append([float((stage - label).abs().mean()) for stage in pred.detach().unbind(1)])
        optimizer.zero_grad()
        loss_function(pred, label).backward()
        optimizer.step()
    bicubic = float((F.interpolate(image, (16, 16), mode="bicubic") - label).abs().mean())
    for stage in range(2):  # both are taught, not only the final one
        assert errors[-1][stage] < min(0.5 * errors[0][stage], 0.7 * bicubic), (errors, bicubic)
