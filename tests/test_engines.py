"""Batches, rows and tables around the engines."""

import copy

import pytest
import torch
from monai.inferers import SimpleInferer
from reference import assert_teaches
from torch import nn

from monai_iste.engines import EncoderPrecision, PrepareQueries, PrepareWholeImage
from monai_iste.errors import ConfigError
from monai_iste.handlers.reports import format_table, mean_rows
from monai_iste.networks import create_iste


def test_training_batches_reach_the_network_with_coordinates():
    batch = {k: torch.rand(2, 4) for k in ("image", "label", "coord", "cell")}
    image, label, args, kwargs = PrepareQueries()(batch, "cpu")
    assert torch.equal(image, batch["image"])
    assert torch.equal(label, batch["label"])
    assert args == ()
    assert set(kwargs) == {"coord", "cell"}
    assert torch.equal(kwargs["coord"], batch["coord"])


def test_evaluation_batches_reach_the_network_with_a_scale():
    batch = {"image": torch.rand(1, 3, 2, 2), "label": torch.rand(1, 3, 7, 7), "scale": torch.tensor([3.7])}
    image, label, args, kwargs = PrepareWholeImage()(batch, "cpu")
    assert (image.shape, label.shape, args) == ((1, 3, 2, 2), (1, 3, 7, 7), ())
    assert abs(kwargs["scale"] - 3.7) < 1e-6
    assert isinstance(kwargs["scale"], float)
    assert PrepareWholeImage()({"image": batch["image"], "scale": batch["scale"]}, "cpu")[1] is None


IMAGES = [
    {"image": name, "scale": scale, "method": method, "psnr": psnr, "ssim": psnr / 100}
    for scale in (4, 2)
    for method, gain in (("bicubic", 0), ("iste", 2))
    for name, psnr in (("a", 40 / scale + gain), ("b", 60 / scale + gain))
]


def test_rows_are_means_over_images_in_order_of_scale():
    rows = mean_rows(IMAGES)
    assert [(r["scale"], r["method"], r["psnr"], r["images"]) for r in rows] == [
        (2, "bicubic", 25.0, 2),
        (2, "iste", 27.0, 2),
        (4, "bicubic", 12.5, 2),
        (4, "iste", 14.5, 2),
    ]
    assert rows[0]["ssim"] == 0.25


def test_table_shows_the_gain_over_bicubic_at_the_same_scale():
    lines = format_table(mean_rows(IMAGES), "iste-rgb").splitlines()
    assert lines[0] == "protocol iste-rgb"
    assert lines[3].split() == ["x2", "iste", "27.00", "0.2700", "+2.00"]
    assert lines[4].split() == ["x4", "bicubic", "12.50", "0.1250", "+0.00"]
    alone = format_table([row for row in mean_rows(IMAGES) if row["method"] == "iste"], "iste-rgb").splitlines()
    assert alone[2].split() == ["x2", "iste", "27.00", "0.2700"]


def gradients(precision):
    """Colors and gradients of a training step, and the types of what the encoder's layers return."""
    torch.manual_seed(0)
    network, types = create_iste("iste_light").train(), {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, out, name=name: types.__setitem__(name, out.dtype))
    image, coord = torch.rand(2, 3, 12, 12), torch.rand(2, 50, 2) * 1.8 - 0.9
    colors = EncoderPrecision(SimpleInferer(), precision)(image, network, coord=coord, cell=torch.full((2, 2), 0.7))
    colors.square().mean().backward()
    assert "forward" not in vars(network.encoder)
    return colors.detach(), {name: value.grad for name, value in network.named_parameters()}, types


def test_in_bf16_only_the_encoder_is_rounded_and_gradients_stay_close():
    colors, grads, types = gradients("fp32")
    rounded, rounded_grads, rounded_types = gradients("bf16")
    assert set(types.values()) == {torch.float32}
    half = {name for name, kind in rounded_types.items() if kind == torch.bfloat16}
    assert len(half) > 8
    assert all(name.startswith("encoder.body") for name in half)
    assert 0 < (colors - rounded).abs().max() < 0.01
    for name, grad in grads.items():
        assert rounded_grads[name].dtype == torch.float32
        if grad.norm() > 0:
            similarity = nn.functional.cosine_similarity(grad.flatten(), rounded_grads[name].flatten(), dim=0)
            assert similarity > 0.98, name


def test_with_fp32_it_is_the_inferer_itself_and_networks_without_encoder_are_left_alone():
    class Network(nn.Module):
        def forward(self, image, **options):
            return image + 1

    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(EncoderPrecision(SimpleInferer(), "fp32")(image, Network()), image + 1)
    with pytest.raises(ConfigError) as caught:
        EncoderPrecision(SimpleInferer(), "bf16")(image, Network())
    assert_teaches(caught.value, "a network with an encoder", "Network")
    with pytest.raises(ConfigError) as caught:
        EncoderPrecision(SimpleInferer(), "fp16")
    assert_teaches(caught.value, "fp32 or bf16", "fp16")


def test_a_copy_of_the_network_computes_with_its_own_encoder():
    network = create_iste("iste_light")
    inferer, image = EncoderPrecision(SimpleInferer()), torch.rand(1, 3, 8, 8)
    inferer(image, network, scale=2)
    twin = copy.deepcopy(network)
    before = inferer(image, network, scale=2)
    with torch.no_grad():
        network.encoder.head.weight.zero_()
    assert torch.equal(inferer(image, twin, scale=2), before)


def test_the_encoder_is_restored_after_an_error():
    network = create_iste("iste_light")

    def fail(*arguments):
        raise MemoryError

    network.encoder.head.register_forward_hook(fail)
    with pytest.raises(MemoryError):
        EncoderPrecision(SimpleInferer())(torch.rand(1, 3, 8, 8), network, scale=2)
    assert "forward" not in vars(network.encoder)
