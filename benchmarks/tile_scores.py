"""Scores of one network on one tile: closeness to the ground truth and consistency with the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from monai.metrics.regression import PSNRMetric, RegressionMetric, SSIMMetric
from skimage.registration import phase_cross_correlation
from torch import Tensor, nn

from benchmarks.common import Row
from monai_iste.functional import to_range
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.metrics.protocols import Protocol
from monai_iste.networks import LIIF, Bicubic, EDSREncoder, load_published

__all__ = ["SCORES", "color_difference", "displacement", "published_liif", "score", "super_resolve", "tile_pair"]

#: Keys of the result of :func:`score`.
SCORES = ("psnr", "ssim", "lr_psnr", "color", "shift", "truth_shift")

_STEPS = 500  # resolution of the displacement, steps per low-resolution pixel


def published_liif(path: Any, device: str = "cpu") -> nn.Module:
    """Load LIIF with its authors' weights: EDSR-baseline encoder, trained on the photographs of DIV2K.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.
    """
    return load_published(LIIF(EDSREncoder()), path).to(device).eval()


def tile_pair(path: str, protocol: Protocol, scale: float, crop: int | None) -> dict[str, Any]:
    """Return the center crop of a tile and its reduction, see :meth:`Protocol.preprocessing`."""
    return dict(cast(Mapping[str, Any], protocol.preprocessing(crop)({"image": path, "scale": scale})))


@torch.no_grad()
def super_resolve(network: nn.Module, pair: Mapping[str, Any], device: str = "cpu", told: bool = False) -> Tensor:
    """Upscale the reduction: networks in canonical windows, bicubic at once.

    Args:
        told: whether the network is told the blur of the reduction.
    Shape:
        returns (3, H, W)
    """
    image = pair["image"].unsqueeze(0).to(device)
    if isinstance(network, Bicubic):
        return network(image, scale=pair["scale"])[0]
    blur = torch.tensor([pair["input_blur"]]) if told else None
    return ArbitraryScaleInferer()(image, network, scale=pair["scale"], input_blur=blur)[0]


def score(pred: Tensor, pair: Mapping[str, Any], protocol: Protocol) -> Row:
    """Score a super-resolved image.

    Shape:
        pred: (3, H, W)
    Returns:
        ``psnr`` and ``ssim`` under the protocol; ``lr_psnr``, the PSNR of the reduced result to the input; ``color``
        (:func:`color_difference`) in 8-bit levels; ``shift`` (:func:`displacement`) in low-resolution pixels;
        ``truth_shift``, the displacement of the ground truth, which is the error of the measurement.
    """
    scored = dict(cast(Mapping[str, Any], protocol.postprocessing()({**pair, "pred": pred.cpu()})))
    psnr, ssim = PSNRMetric(1.0), SSIMMetric(spatial_dims=2)

    def found(metric: RegressionMetric, first: str, second: str) -> float:
        return float(cast(Tensor, metric(scored[first].unsqueeze(0), scored[second].unsqueeze(0))))

    result = to_range(pred.cpu(), torch.uint8)
    return {
        "psnr": found(psnr, "pred", "label"),
        "ssim": found(ssim, "pred", "label"),
        "lr_psnr": found(psnr, "pred_reduced", "image"),
        "color": color_difference(result, pair["image"] * 255),
        "shift": displacement(result, pair["image"] * 255),
        "truth_shift": displacement(to_range(pair["label"], torch.uint8), pair["image"] * 255),
    }


def color_difference(result: Tensor, source: Tensor) -> float:
    """Compute the largest difference over channels between the mean colors of two images, in their unit.

    Shape:
        result: (3, H, W); source: (3, h, w)

    Example:
        >>> color_difference(torch.full((3, 4, 4), 7.0), torch.full((3, 2, 2), 6.0))
        1.0
    """
    means = [image.double().mean((1, 2)) for image in (result, source)]
    return float((means[0] - means[1]).abs().max())


def displacement(result: Tensor, source: Tensor) -> float:
    """Measure the displacement of a super-resolved image from bicubic interpolation, in low-resolution pixels.

    Both are reduced to the size of the source, averaged over channels, and registered by phase correlation to 1/500 of
    a pixel. The result is the larger displacement of the two axes.

    Shape:
        result: (3, H, W), of at least the source's size; source: (3, h, w)

    Example:
        >>> image = torch.rand(3, 24, 24)
        >>> displacement(Bicubic()(image[None], 2.0)[0], image)
        0.0
    """
    height, width = source.shape[1:]

    def common(image: Tensor) -> Any:
        shrunk = F.interpolate(image[None].float(), size=(height, width), mode="bicubic", antialias=True)
        return shrunk[0].mean(0).numpy()

    size = (int(result.shape[1]), int(result.shape[2]))
    bicubic = F.interpolate(source[None].float(), size=size, mode="bicubic", antialias=True)[0]
    found = phase_cross_correlation(common(bicubic), common(result), upsample_factor=_STEPS)[0]
    return float(abs(found).max())
