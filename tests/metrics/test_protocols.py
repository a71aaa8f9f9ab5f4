"""Protocols against scikit-image and Pillow, which share no code with MONAI's metrics."""

import numpy as np
import pytest
import torch
from monai.metrics import PSNRMetric, SSIMMetric
from PIL import Image, ImageFilter
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, ShapeError
from monai_iste.metrics import PROTOCOLS, get_protocol
from monai_iste.metrics.protocols import luma


def scored(protocol: str, scale: float, crop: int | None = 100) -> dict:
    """The sample's unseen region through both ends of a protocol, with a noisy truth as the prediction."""
    image = sample_datalists()[1][0]["image"]
    item = get_protocol(protocol).preprocessing(crop)({"image": image, "scale": scale})
    noise = torch.randn(item["label"].shape, generator=torch.Generator().manual_seed(0)) * 0.05
    return {**item, **get_protocol(protocol).postprocessing()({**item, "pred": item["label"] + noise})}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scale", [1.3, 2.0, 3.7])
def test_pair_is_made_as_the_protocol_says(protocol, scale):
    image = sample_datalists()[1][0]["image"]
    item = get_protocol(protocol).preprocessing(None)({"image": image, "scale": scale})
    h, w = item["image"].shape[1:]
    assert (h, w) == (int(image.shape[1] / scale + 1e-9), int(image.shape[2] / scale + 1e-9))
    assert item["label"].shape[1:] == (round(h * scale), round(w * scale))
    assert torch.equal(item["label"] * 255, torch.from_numpy(image[:, : round(h * scale), : round(w * scale)]).float())
    high = Image.fromarray(image[:, : round(h * scale), : round(w * scale)].transpose(1, 2, 0))
    if protocol == "iste-rgb":
        effective = (round(h * scale) / h + round(w * scale) / w) / 2
        high = high.filter(ImageFilter.GaussianBlur((effective - 1) / 2))
    low = np.asarray(high.resize((w, h), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert torch.equal((item["image"] * 255).round(), torch.from_numpy(low.copy()).float())
    assert item["image"].dtype == torch.float32
    assert item["image"].min() >= 0
    assert item["image"].max() <= 1


def test_scores_equal_scikit_image():
    item = scored("iste-rgb", 2.0)
    pred, label = item["pred"], item["label"]
    psnr = PSNRMetric(1.0)(pred[None], label[None]).item()
    ssim = SSIMMetric(2)(pred[None], label[None]).item()
    a, b = pred.permute(1, 2, 0).double().numpy(), label.permute(1, 2, 0).double().numpy()
    assert psnr == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-4)
    reference = structural_similarity(
        b, a, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim == pytest.approx(reference, abs=1e-5)


def test_scored_view_is_shaved_clamped_and_eight_bit():
    item = scored("iste-rgb", 2.0)
    for key in ("pred", "bicubic", "label"):
        assert item[key].shape == (3, 100 - 16, 100 - 16)
        levels = item[key] * 255
        assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert item["pred"].min() >= 0
    assert item["pred"].max() <= 1


def test_bicubic_beside_the_prediction_is_pillows():
    item = get_protocol("bicubic-rgb").preprocessing(60)({"image": sample_datalists()[1][0]["image"], "scale": 3.0})
    low = Image.fromarray((item["image"] * 255).round().byte().permute(1, 2, 0).numpy())
    expected = np.asarray(low.resize((60, 60), Image.Resampling.BICUBIC)).transpose(2, 0, 1)[:, 8:-8, 8:-8]
    view = get_protocol("bicubic-rgb").postprocessing()({**item, "pred": item["label"]})["bicubic"]
    assert np.abs(view.numpy() * 255 - expected).max() <= 1.001


@pytest.mark.parametrize(("scale", "shave"), [(1.3, 2), (2.0, 2), (3.7, 4), (8.0, 8)])
def test_luma_protocol_scores_what_scikit_image_computes(scale, shave):
    image = sample_datalists()[1][0]["image"]
    item = get_protocol("y-shave-s").preprocessing(100)({"image": image, "scale": scale})
    noise = torch.randn(item["label"].shape, generator=torch.Generator().manual_seed(0)) * 0.05
    pred = item["label"] + noise
    view = get_protocol("y-shave-s").postprocessing()({**item, "pred": pred})
    # From here on NumPy and scikit-image alone, in [16, 235] as the papers do it.
    levels = np.rint(np.clip(pred.permute(1, 2, 0).numpy(), 0, 1) * 255).astype(np.uint8)
    truth = np.rint(item["label"].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    a, b = (rgb2ycbcr(rgb)[shave:-shave, shave:-shave, 0] for rgb in (levels, truth))
    assert view["pred"].shape == view["bicubic"].shape == view["label"].shape == (1, *a.shape)
    assert np.abs(view["pred"][0].numpy() * 255 - a).max() < 1e-4
    psnr = PSNRMetric(1.0)(view["pred"][None], view["label"][None]).item()
    ssim = SSIMMetric(2)(view["pred"][None], view["label"][None]).item()
    assert psnr == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), abs=1e-4)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim == pytest.approx(structural_similarity(b, a, data_range=255, **window), abs=1e-5)


def test_luma_of_the_primaries():
    primaries = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]]).float().T[..., None]
    expected = torch.tensor([65.481, 128.553, 24.966, 0, 219]) + 16
    assert torch.allclose(luma(primaries)[0, :, 0] * 255, expected)
    with pytest.raises(ShapeError, match=r"got \(1, 4, 4\)"):
        luma(torch.zeros(1, 4, 4))


def test_tiny_images_keep_a_window_for_ssim():
    item = scored("iste-rgb", 2.0, crop=20)
    assert item["pred"].shape == (3, 12, 12)


def test_unknown_protocol():
    with pytest.raises(ConfigError, match=r"iste-rgb, bicubic-rgb, y-shave-s, got 'psnr'"):
        get_protocol("psnr")
