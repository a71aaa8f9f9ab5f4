"""Spectra against a Fourier transform written out, reductions against Pillow."""

import cmath
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import PSNRMetric
from PIL import Image, ImageFilter
from reference import assert_teaches

from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.metrics import PROTOCOLS, get_protocol
from monai_iste.metrics.fidelity import AddReducedd, RadialSpectrumMetric, radial_power_spectrum
from monai_iste.slides.consistency import consistency_map


def random_image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth spots, 40 to 200 of 255, uint8 values in [0, 1]."""
    coarse = Image.fromarray((random_image(height // 8, width // 8, 3, seed=seed).numpy() * 160 + 40).astype(np.uint8))
    levels = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))
    return torch.from_numpy(levels.copy()).permute(2, 0, 1) / 255


# --- the spectrum -----------------------------------------------------------------------------------------------------


def spectrum_written_out(image: np.ndarray) -> list[float]:
    """The docstring's equations with loops; rings decided in fractions."""
    height, width = image.shape[1:]
    n = min(height, width)

    def hann(i: int, size: int) -> float:
        return math.sin(math.pi * i / (size - 1)) ** 2

    window = [[hann(i, height) * hann(j, width) for j in range(width)] for i in range(height)]
    total = sum(map(sum, window))
    squares = sum(value**2 for row in window for value in row)
    power: dict[int, list[float]] = {}
    for a in range(-(height // 2), height - height // 2):
        for b in range(-(width // 2), width - width // 2):
            reach = n * n * (Fraction(a, height) ** 2 + Fraction(b, width) ** 2)
            ring = next(k for k in range(n) if reach < Fraction(2 * k + 1, 2) ** 2)
            for channel in image:
                places = [(i, j) for i in range(height) for j in range(width)]
                mean = sum(window[i][j] * channel[i, j] for i, j in places) / total
                transform = sum(
                    window[i][j] * (channel[i, j] - mean) * cmath.exp(-2j * math.pi * (a * i / height + b * j / width))
                    for i, j in places
                )
                power.setdefault(ring, []).append(abs(transform) ** 2 / squares)
    noise = 1 / (12 * 255**2)
    return [10 * math.log10(sum(power[k]) / len(power[k]) + noise) for k in range(1, n // 2 + 1)]


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 9), (1, 12, 9), (1, 9, 14)])
def test_spectrum_is_the_fourier_transform_written_out(shape):
    image = random_image(*shape).double()
    image[:, : shape[1] // 2] *= 0.3
    expected = spectrum_written_out(image.numpy())
    assert len(expected) == min(shape[1:]) // 2
    np.testing.assert_allclose(radial_power_spectrum(image).numpy(), expected, atol=1e-3)


def test_white_noise_is_flat_at_its_variance():
    noise = torch.randn(3, 200, 256, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5
    spectrum = radial_power_spectrum(noise)
    assert spectrum.shape == (100,)
    for part in spectrum[5:].split(19):
        assert part.mean().item() == pytest.approx(-20, abs=0.2)


def test_a_uniform_image_has_the_power_of_its_rounding():
    spectrum = radial_power_spectrum(torch.full((3, 20, 30), 0.7))
    assert spectrum.numpy() == pytest.approx(10 * math.log10(1 / (12 * 255**2)), abs=1e-3)
    levels = (0.2 + 0.6 * torch.rand(256, 256, generator=torch.Generator().manual_seed(0))) * 255
    rounding = (levels.round() - levels)[None] / 255
    assert radial_power_spectrum(rounding)[20:].mean().item() == pytest.approx(spectrum[0].item() + 3.01, abs=0.1)


def test_a_wave_is_found_at_its_frequency_in_either_direction():
    wave = 0.5 + 0.1 * torch.cos(2 * math.pi * torch.arange(128) * 20 / 128)
    for image in (wave.expand(3, 128, 128), wave[:, None].expand(3, 128, 128)):
        spectrum = radial_power_spectrum(image)
        assert spectrum.argmax() == 20 - 1
        assert spectrum[40:].max() < -58  # nothing but the rounding


def test_opposite_borders_that_differ_are_no_detail():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert radial_power_spectrum(ramp)[8:].max() < -40
    assert radial_power_spectrum(ramp)[0] > -20


def test_a_batch_is_scored_image_by_image():
    images = random_image(2, 3, 24, 30)
    spectra = radial_power_spectrum(images)
    assert spectra.shape == (2, 12)
    for image, spectrum in zip(images, spectra, strict=True):
        assert torch.allclose(spectrum, radial_power_spectrum(image))


def test_distance_is_the_root_mean_square_of_the_difference_in_db():
    pred, label = random_image(2, 3, 20, 20), random_image(2, 3, 20, 20, seed=1)
    label = label * torch.tensor([0.5, 0.1]).view(2, 1, 1, 1)
    metric = RadialSpectrumMetric()
    each = metric(pred, label)
    assert each.shape == (2, 1)
    for i in range(2):
        difference = radial_power_spectrum(pred[i]).numpy() - radial_power_spectrum(label[i]).numpy()
        assert each[i].item() == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert metric.aggregate().item() == pytest.approx(each.mean().item())


def test_distance_depends_on_amount_and_not_on_position():
    label, metric = random_image(1, 3, 32, 32), RadialSpectrumMetric()
    assert metric(label, label).item() == 0
    assert metric(label.flip(-1), label).item() == pytest.approx(0, abs=1e-3)
    assert metric(label * 0.1 + 0.4, label).item() == pytest.approx(20, abs=0.1)
    smooth = torch.nn.functional.avg_pool2d(label, 3, 1, 1)
    assert metric(smooth, label).item() > 5


def test_what_has_no_spectrum_is_refused():
    for shape in ((3, 7, 20), (20, 20)):
        with pytest.raises(ShapeError) as error:
            radial_power_spectrum(torch.zeros(shape))
        assert_teaches(error.value, str(shape), "8 x 8")
    with pytest.raises(ValueError, match="shapes dont match"):
        RadialSpectrumMetric()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 18))


# --- reduced again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("scale", [1.3, 2.0, 3.7])
def test_the_truth_reduces_to_the_low_resolution_image(protocol, scale):
    item = protocol.preprocessing(80)({"image": (texture(96, 88) * 255).round().byte().numpy(), "scale": scale})
    reduced = AddReducedd("pred", protocol.degradation)({**item, "pred": item["label"]})["pred_reduced"]
    assert torch.equal(reduced, item["image"])


def test_reduction_is_pillows_of_the_image_as_it_would_be_saved():
    pred = texture(60, 48) * 3 - 0.8
    assert pred.min() < -0.1
    assert pred.max() > 1.1
    data = {"image": torch.zeros(3, 15, 12), "pred": pred}
    reduced = AddReducedd("pred")(data)["pred_reduced"]
    saved = np.rint(np.clip(pred.numpy(), 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    low = Image.fromarray(saved).filter(ImageFilter.GaussianBlur(1.5)).resize((12, 15), Image.Resampling.BICUBIC)
    assert np.array_equal(np.rint(reduced.numpy() * 255).transpose(1, 2, 0), np.asarray(low))
    assert torch.equal(data["pred"], pred)
    assert reduced.dtype == torch.float32


def lr_psnr(pred: torch.Tensor, image: torch.Tensor, degradation: str = "blur_bicubic") -> float:
    reduced = AddReducedd("pred", degradation)({"image": image, "pred": pred})["pred_reduced"]
    return PSNRMetric(1.0)(reduced[None], image[None]).item()


def test_contradictions_are_seen_and_detail_between_the_pixels_is_not():
    item = get_protocol("iste-rgb").preprocessing(96)(
        {"image": (texture(96, 96) * 255).round().byte().numpy(), "scale": 4.0}
    )
    label, image = item["label"], item["image"]
    assert lr_psnr(label + 10 / 255, image) == pytest.approx(20 * math.log10(25.5), abs=0.1)
    checks = 0.1 * (-1.0) ** (torch.arange(96)[:, None] + torch.arange(96))
    assert PSNRMetric(1.0)((label + checks)[None], label[None]).item() == pytest.approx(20, abs=0.1)
    assert lr_psnr(label + checks, image) > 50
    assert lr_psnr(label, image, "bicubic") < 50  # another degradation


def test_slides_ask_the_same_question():
    item = get_protocol("iste-rgb").preprocessing(96)(
        {"image": (texture(96, 96) * 255).round().byte().numpy(), "scale": 3.0}
    )
    pred = (item["label"] + 0.1 * (random_image(3, 96, 96) - 0.3)).clamp(0, 1)
    reduced = AddReducedd("pred")({**item, "pred": pred})["pred_reduced"]
    mean = (reduced - item["image"]).abs().mean().item() * 255
    x, y = ((image * 255).round().byte().numpy() for image in (item["image"], pred))
    levels = consistency_map(
        lambda region: x.transpose(1, 2, 0)[region.slices],
        lambda region: y.transpose(1, 2, 0)[region.slices],
        (32, 32),
        (96, 96),
        block=32,
    )
    assert mean > 3
    assert levels.item() == pytest.approx(mean, abs=0.2)


def test_both_are_kept_for_each_image_by_monais_handler():
    label = texture(64, 64)
    items = [
        AddReducedd("pred")({"image": texture(64, 64)[:, ::2, ::2], "label": label, "pred": label * gain})
        for gain in (0.9, 0.8)
    ]
    engine = Engine(lambda engine, item: [item])
    for name, metric, keys in (
        ("lr_psnr", PSNRMetric(1.0), ["pred_reduced", "image"]),
        ("spectrum", RadialSpectrumMetric(), ["pred", "label"]),
    ):
        IgniteMetricHandler(metric, output_transform=from_engine(keys)).attach(engine, name)
    engine.run(items)
    details = engine.state.metric_details
    first, second = (lr_psnr(item["pred"], item["image"]) for item in items)
    assert details["lr_psnr"].flatten().tolist() == pytest.approx([first, second])
    assert engine.state.metrics["lr_psnr"] == pytest.approx((first + second) / 2)
    assert details["spectrum"].shape == (2, 1)
    assert details["spectrum"][1] > details["spectrum"][0] > 0


def test_mistakes_are_refused():
    with pytest.raises(ConfigError) as error:
        AddReducedd(degradation="blur")
    assert_teaches(error.value, "blur_bicubic", "'blur'")
    with pytest.raises(ScaleError) as scale_error:
        AddReducedd("pred")({"image": torch.zeros(3, 8, 8), "pred": torch.zeros(3, 6, 6)})
    assert_teaches(scale_error.value, "6 x 6", "8 x 8")
    with pytest.raises(KeyError):
        AddReducedd()({"image": torch.zeros(3, 8, 8), "pred": torch.zeros(3, 8, 8)})
    assert "pred_reduced" in AddReducedd(allow_missing_keys=True)(
        {"image": torch.zeros(3, 8, 8), "pred": torch.zeros(3, 8, 8)}
    )
