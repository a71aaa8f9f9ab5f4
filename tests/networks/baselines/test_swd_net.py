"""SWD-Net against its equations, written out pixel by pixel; and through a real training."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import StatsHandler, from_engine
from overfitting import stripes
from reference import assert_all_learn, assert_close, assert_teaches, randomise, weights
from swd_equations import swd_net

from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.losses import SpatialWaveletLoss
from monai_iste.networks.baselines.swd_blocks import RefineContextFusion, feature_adaption
from monai_iste.networks.baselines.swd_net import SWDNet

TINY = {"shallow_channels": 3, "channels": 2, "blocks": 1, "wavelet_channels": 2}
SMALL = {"shallow_channels": 32, "channels": 16, "blocks": 2, "wavelet_channels": 6}


def network(scale=2, seed=0, **changes):
    """Weights as large as a trained network's, so that a stage at half an image's size still counts."""
    return randomise(SWDNet(scale, **{**TINY, **changes}), seed)


def image_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


# --- the equations ----------------------------------------------------------------------------------------------------


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
