"""Consistency with the input and power spectrum: two metrics that complement PSNR and SSIM and need no weights.

* ``lr_psnr``, consistency with the input: :class:`AddReducedd` reduces the result again, and MONAI's PSNRMetric
  compares it with the low-resolution image. It detects results that contradict the scan, not details that a network
  invents between its pixels.
* ``spectrum``, amount of detail: :class:`RadialSpectrumMetric` compares the power at all spatial frequencies with that
  of the ground truth. Smooth results lack power at high frequencies even if their PSNR is high.

Not specified in the paper; our choice: both. Gradient-magnitude (GMSD) and Haar-wavelet (HaarPSI) similarity are not
provided: the maintained libraries that have them import torchvision, which fails beside a CPU build of torch.
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

#: Variance of the rounding to 8 bits, for intensities in [0, 1]: lower limit of the spectrum of an 8-bit image.
ROUNDING_NOISE = 1 / (12 * 255**2)

_SMALLEST_SIDE = 8  # pixels; the Hann window suppresses most of a smaller image


class AddReducedd(MapTransform):
    """Add ``{key}_reduced``, the degradation of every prediction, for the comparison with the low-resolution image.

    The prediction is clamped, rounded to 8 bits as in a saved file, and reduced to the size of ``image`` by
    :func:`~monai_iste.transforms.degradation.degrade`, which also made ``image`` from the ground truth. MONAI's
    PSNRMetric of ``{key}_reduced`` and ``image`` is the consistency with the low-resolution image ("LR-PSNR")::

        PSNR(D(y), x) = -10 log10 mean (D(y) - x)^2,  x = D(truth), y the prediction, D the protocol's degradation

    It is infinite for the ground truth. D(y) and x are rounded to 8 bits, as in the protocol; this alone lowers 53 dB
    by about 1 dB. The comparison uses whole RGB images, so this transform precedes the one that removes the border and
    converts to luma. :func:`monai_iste.slides.consistency.consistency_map` computes the same for blocks of a slide.

    Args:
        keys: predictions.
        degradation: degradation of the protocol, a key of :data:`monai_iste.transforms.degradation.DEGRADATIONS`.
        allow_missing_keys: skip absent keys instead of raising.
    Shape:
        image: (3, h, w); predictions: (3, H, W); ``{key}_reduced``: (3, h, w), float32
    Units: [0, 1].
    Raises:
        ConfigError: the degradation is unknown.
        ScaleError: a prediction is smaller than ``image``.

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
    """Compute the power of an image at every spatial frequency, averaged over directions and channels, in dB.

    With ``x`` one channel, ``w`` the outer product of two Hann windows (they suppress the discontinuity between
    opposite borders), ``F`` the discrete Fourier transform and ``n = min(H, W)``::

        y(i, j) = w(i, j) (x(i, j) - sum(w x) / sum(w))
        P(u, v) = mean over channels of |F[y](u, v)|^2 / sum(w^2)
        S(k)    = 10 log10( mean of P over ring k + 1 / (12 * 255^2) ),   k = 1 ... n // 2
        ring k: the frequencies with k - 1/2 <= n sqrt(u^2 + v^2) < k + 1/2,  u and v in cycles per pixel

    Ring k is at k / n cycles per pixel, and the last ring is the Nyquist frequency. The mean color and the corners
    beyond the last ring are not included. White noise of variance s^2 has 10 log10 s^2 in every ring. The constant is
    the variance of the rounding to 8 bits. It keeps the logarithm of a uniform image finite, and it adds 3 dB where the
    power of an image is that of its rounding, less where it is higher.

    Shape:
        image: (..., C, H, W); returns (..., min(H, W) // 2), float64
    Units: image in [0, 1]; dB.
    Raises:
        ShapeError: the image has no channel axis, or a side is shorter than 8 pixels.

    Example:
        >>> round(float(radial_power_spectrum(torch.full((3, 16, 24), 0.5))[0]), 2)  # rounding only
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
    image = image.float()  # float32: its error of -130 dB is far below that of 8 bits, and float64 takes twice as long
    mean = (image * window).sum((-2, -1), keepdim=True) / window.sum()
    power = torch.fft.rfft2((image - mean) * window).abs().double().square().mean(-3) / window.square().sum()
    rings, multiplicity = _rings(height, width, image.device)
    count = int(rings.max()) + 1
    total = power.new_zeros(*power.shape[:-2], count).index_add_(-1, rings, (power * multiplicity).flatten(-2))
    frequencies = multiplicity.new_zeros(count)
    frequencies.index_add_(0, rings, multiplicity.expand(height, -1).flatten())
    kept = slice(1, min(height, width) // 2 + 1)
    return 10 * torch.log10(total[..., kept] / frequencies[kept] + ROUNDING_NOISE)


def _hann(n: int, device: torch.device) -> Tensor:
    return torch.hann_window(n, periodic=False, dtype=torch.float64, device=device).float()


def _rings(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the ring of each frequency of ``rfft2``, (H * (W // 2 + 1),), and its multiplicity, (W // 2 + 1,).

    ``rfft2`` omits half of the frequencies; their power equals that of the opposite frequencies.
    """
    u = torch.fft.fftfreq(height, dtype=torch.float64, device=device)
    v = torch.fft.rfftfreq(width, dtype=torch.float64, device=device)
    rings = (torch.hypot(u[:, None], v) * min(height, width) + 0.5 + 1e-9).floor().long()  # k - 1/2 belongs to k
    multiplicity = torch.full_like(v, 2)
    multiplicity[0] = 1
    if width % 2 == 0:
        multiplicity[-1] = 1
    return rings.flatten(), multiplicity


class RadialSpectrumMetric(RegressionMetric):
    """Compute the distance of the radial power spectra of prediction and ground truth; 0 dB if they are equal.

    It is the root mean square over frequencies of the difference in dB, known in speech processing as the log-spectral
    distance::

        d = sqrt( mean over k of (S_pred(k) - S_label(k))^2 )

    with S of :func:`radial_power_spectrum`. It measures the amount of detail, not its position, so it complements PSNR
    and does not replace it. All frequencies have the same weight; PSNR is dominated by the low ones.

    Args:
        reduction: see MONAI's metrics.
        get_not_nans: see MONAI's metrics.
    Shape:
        y_pred, y: (B, C, H, W); a call returns (B, 1)
    Units: images in [0, 1]; dB.
    Raises:
        ShapeError: see :func:`radial_power_spectrum`. ValueError (of MONAI): the shapes differ.

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
