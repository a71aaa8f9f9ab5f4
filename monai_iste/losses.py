"""Training losses that PyTorch does not provide."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.networks.baselines.wavelets import haar, pad_to_multiple
from monai_iste.networks.checks import shape_of

__all__ = ["ColorL1Loss", "SpatialWaveletLoss"]


class ColorL1Loss(nn.Module):
    """L1 loss of the colors, plus ``weight`` times the L1 loss of the mean color of each image.

    The optimum of L1 alone is the median of the possible colors of a pixel. At a large scale, and for dark structures
    on a bright background, the median is brighter than the mean, and whole images are tinted. The second term corrects
    their mean color.

    Differs from the paper: the paper uses the first term only.

    Args:
        weight: weight of the second term.
    Shape:
        pred, target: (B, Q, C); returns a scalar

    Example:
        >>> import torch
        >>> loss = ColorL1Loss(weight=2)
        >>> float(loss(torch.tensor([[[1.0], [-1.0]]]), torch.zeros(1, 2, 1)))  # the mean color is correct
        1.0
        >>> float(loss(torch.tensor([[[1.0], [1.0]]]), torch.zeros(1, 2, 1)))
        3.0
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(pred, target) + self.weight * F.l1_loss(pred.mean(1), target.mean(1))


class SpatialWaveletLoss(nn.Module):
    """Compute ``spatial_weight * L1(spatial) + final_weight * L1(final) + L1(Haar(final))`` against the label.

    Implements Eq. (4) of Chen et al., "Joint Spatial-Wavelet Dual-Stream Network for Super-Resolution", MICCAI 2020,
    with the weights of its release, for :class:`~monai_iste.networks.baselines.swd_net.SWDNet`.
    Differs from the release: means over pixels instead of sums, a constant factor that does not affect Adam. Sides that
    are not divisible are padded by replication.

    Args:
        spatial_weight: weight of the image of the spatial stage.
        final_weight: weight of the final image.
        levels: number of wavelet levels that are compared; the release compares 1.
    Shape:
        pred: (B, 2, 3, H, W), the final image and that of the spatial stage; target: (B, 3, H, W); returns a scalar
    Raises:
        ShapeError: the shapes of ``pred`` and ``target`` do not match.
        ConfigError: ``levels`` is below 1.

    Example:
        >>> import torch
        >>> pred = torch.stack([torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.25)], dim=1)
        >>> float(SpatialWaveletLoss(0.5, 0.25)(pred, torch.zeros(1, 3, 4, 4)))  # a quarter of the bands is 1
        0.5
    """

    def __init__(self, spatial_weight: float = 0.1, final_weight: float = 0.1, levels: int = 1) -> None:
        super().__init__()
        if levels < 1:
            raise ConfigError("at least one level of wavelets", repr(levels), "The release compares one.")
        self.spatial_weight, self.final_weight, self.levels = spatial_weight, final_weight, levels

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        if target.ndim != 4 or pred.shape != (target.shape[0], 2, *target.shape[1:]):
            raise ShapeError(
                "the two images of an SWDNet in training mode, (B, 2, 3, H, W), and a label (B, 3, H, W)",
                f"{shape_of(pred)} and {shape_of(target)}",
                "Train with whole labels (experiments/configs/fixed_scale.json); judge single images by another loss.",
            )
        final, spatial = (pred - target.unsqueeze(1)).unbind(1)
        loss = self.spatial_weight * spatial.abs().mean() + self.final_weight * final.abs().mean()
        bands = pad_to_multiple(final, 2**self.levels)
        for _ in range(self.levels):  # the transform is linear: Haar(final) - Haar(target) = Haar(final - target)
            bands = haar(bands)
            loss = loss + bands.abs().mean()
        return loss
