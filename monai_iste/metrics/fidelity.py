"""Two questions that PSNR and SSIM do not answer, asked without any network's weights.

* Does the result still agree with the image it was made from? :class:`AddReducedd` reduces it again; MONAI's
  PSNRMetric between that and the low-resolution image is the metric ``lr_psnr``. What a network invents between the
  pixels is not seen by it; what contradicts the scan is.
* Is there as much detail of every fineness as in the truth? :class:`RadialSpectrumMetric` is the metric ``spectrum``.
  Smooth results lack power at high frequencies, whatever their PSNR.

Neither is in the paper. Gradient-magnitude (GMSD) and Haar-wavelet (HaarPSI) similarity are not offered: every kept
library that has them imports torchvision, which fails beside a torch for the CPU (:mod:`monai_iste.metrics.fid`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.metrics.regression import RegressionMetric
from monai.transforms import MapTransform
from monai.utils import MetricReduction
from torch import Tensor

from monai_iste.errors import ShapeError
from monai_iste.transforms.degradation import BlurDegradation, degrade

#: Variance of the rounding to 8 bits, of intensities in [0, 1]: what no spectrum of an 8-bit image falls below.
ROUNDING_NOISE = 1 / (12 * 255**2)

_SMALLEST_SIDE = 8  # pixels; the Hann window leaves little of fewer


class AddReducedd(MapTransform):
    """Put ``{key}_reduced`` beside every prediction: the low-resolution image that it would itself have given.

    The prediction is clamped, rounded to 8 bits as a saved file would be, and reduced to the size of ``image`` by
    :func:`~monai_iste.transforms.degradation.degrade`, which made ``image`` from the truth. MONAI's PSNRMetric of
    ``{key}_reduced`` and ``image`` is then the consistency with the low-resolution image ("LR-PSNR")::

        PSNR(D(y), x) = -10 log10 mean (D(y) - x)^2,  x = D(truth), y the prediction, D the protocol's degradation

    The truth itself reaches infinity. Both D(y) and x are rounded to 8 bits, as the protocol does it, which alone
    lowers 53 dB by about 1 dB. It compares whole images in RGB whatever the protocol shaves or scores afterwards, so it
    stands before the transform that does. The same question, asked of a slide block by block:
    :func:`monai_iste.slides.consistency.consistency_map`.

    Args:
        keys: predictions.
        degradation: a key of :data:`monai_iste.transforms.DEGRADATIONS`; the protocol's.
        allow_missing_keys: whether absent keys are passed over.
    Shape:
        image: (3, h, w); predictions: (3, H, W); ``{key}_reduced``: (3, h, w), float32
    Units: [0, 1].
    Raises:
        ConfigError: there is no such degradation. ScaleError: a prediction is smaller than ``image``.

    Example:
        >>> data = {"image": torch.full((3, 4, 6), 0.4), "pred": torch.full((3, 8, 12), 0.6)}
        >>> AddReducedd("pred")(data)["pred_reduced"].mul(255).round().unique().tolist()
        [153.0]
    """

    def __init__(
        self,
        keys: KeysCollection = ("pred", "bicubic"),
        degradation: str = "blur_bicubic",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.degradation = BlurDegradation(degradation).preset

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            levels = d[key].detach().float().clamp(0, 1).mul(255).round().byte().cpu()  # Pillow works on the CPU
            low = degrade(levels, tuple(d["image"].shape[-2:]), self.degradation)
            d[f"{key}_reduced"] = low.to(d["image"].device).float() / 255
        return d


def radial_power_spectrum(image: Tensor) -> Tensor:
    """The power of an image at every spatial frequency, averaged over directions and channels, in dB.

    With ``x`` one channel, ``w`` the outer product of two Hann windows (without them the jump between opposite borders
    would be taken for detail), ``F`` the discrete Fourier transform and ``n = min(H, W)``::

        y(i, j) = w(i, j) (x(i, j) - sum(w x) / sum(w))
        P(u, v) = mean over channels of |F[y](u, v)|^2 / sum(w^2)
        S(k)    = 10 log10( mean of P over ring k + 1 / (12 * 255^2) ),   k = 1 ... n // 2
        ring k: the frequencies with k - 1/2 <= n sqrt(u^2 + v^2) < k + 1/2,  u and v in cycles per pixel

    so ring k is k / n cycles per pixel, the last one Nyquist's; the mean color and the corners beyond Nyquist's ring
    are left out. White noise of variance s^2 has 10 log10 s^2 in every ring. The constant is the variance of rounding
    to 8 bits: it keeps the logarithm of a uniform image finite, adds 3 dB where an image has no power but its rounding,
    and less the more it has.

    Shape:
        image: (..., C, H, W); returns (..., min(H, W) // 2), float64
    Units: image in [0, 1]; dB.
    Raises:
        ShapeError: the image has no channel axis, or a side is shorter than 8 pixels.

    Example:
        >>> round(float(radial_power_spectrum(torch.full((3, 16, 24), 0.5))[0]), 2)  # nothing but rounding
        -58.92
    """
    if image.ndim < 3 or min(image.shape[-2:]) < _SMALLEST_SIDE:
        raise ShapeError(
            f"an image of shape (..., C, H, W) of at least {_SMALLEST_SIDE} x {_SMALLEST_SIDE} pixels",
            f"shape {tuple(image.shape)}",
            "Score larger images.",
        )
    height, width = image.shape[-2:]
    window = torch.outer(*(_hann(n, image.device) for n in (height, width)))
    image = image.float()  # its error, -130 dB, is far below that of 8 bits, and double takes twice as long
    mean = (image * window).sum((-2, -1), keepdim=True) / window.sum()
    power = torch.fft.rfft2((image - mean) * window).abs().double().square().mean(-3) / window.square().sum()
    rings, share = _rings(height, width, image.device)
    total = power.new_zeros(*power.shape[:-2], int(rings.max()) + 1).index_add_(-1, rings, (power * share).flatten(-2))
    frequencies = share.new_zeros(int(rings.max()) + 1).index_add_(0, rings, share.expand(height, -1).flatten())
    kept = slice(1, min(height, width) // 2 + 1)
    return 10 * torch.log10(total[..., kept] / frequencies[kept] + ROUNDING_NOISE)


def _hann(n: int, device: torch.device) -> Tensor:
    return torch.hann_window(n, periodic=False, dtype=torch.float64, device=device).float()


def _rings(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The ring of each frequency of ``rfft2``, (H * (W // 2 + 1),), and how many it stands for, (W // 2 + 1,).

    ``rfft2`` leaves out half of the frequencies, whose power is that of their opposites.
    """
    u = torch.fft.fftfreq(height, dtype=torch.float64, device=device)
    v = torch.fft.rfftfreq(width, dtype=torch.float64, device=device)
    rings = (torch.hypot(u[:, None], v) * min(height, width) + 0.5 + 1e-9).floor().long()  # k - 1/2 belongs to k
    share = torch.full_like(v, 2)
    share[0] = 1
    if width % 2 == 0:
        share[-1] = 1
    return rings.flatten(), share


class RadialSpectrumMetric(RegressionMetric):
    """How far the radial power spectrum of a prediction is from the truth's: 0 dB when equal.

    The root mean square over frequencies of the difference in dB, known from speech as the log-spectral distance::

        d = sqrt( mean over k of (S_pred(k) - S_label(k))^2 )

    with S of :func:`radial_power_spectrum`. It knows how much detail there is, not whether it is in its place: read it
    beside PSNR, never alone. Every frequency counts alike, so it is the high ones, of little power, that it adds to
    what PSNR says.

    Args:
        reduction: as in MONAI's metrics.
        get_not_nans: as in MONAI's metrics.
    Shape:
        y_pred, y: (B, C, H, W); a call returns (B, 1)
    Units: images in [0, 1]; dB.
    Raises:
        ShapeError: as :func:`radial_power_spectrum`. ValueError (MONAI's): the shapes differ.

    Example:
        >>> label = torch.rand(1, 3, 32, 32)
        >>> round(float(RadialSpectrumMetric()(label / 2, label)), 1)  # half the amplitude: 20 log10(2)
        6.0
    """

    def __init__(self, reduction: MetricReduction | str = MetricReduction.MEAN, get_not_nans: bool = False) -> None:
        super().__init__(reduction, get_not_nans)

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        difference = radial_power_spectrum(y_pred) - radial_power_spectrum(y)
        return difference.square().mean(-1, keepdim=True).sqrt()
