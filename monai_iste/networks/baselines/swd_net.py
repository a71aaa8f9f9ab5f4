"""SWD-Net: upscaling in space, then a correction of the Haar wavelet coefficients.

Implements Chen et al., "Joint Spatial-Wavelet Dual-Stream Network for Super-Resolution", MICCAI 2020. Sizes are those
of the authors' release.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.errors import ConfigError
from monai_iste.networks.baselines.fixed_scale import FixedScaleNetwork
from monai_iste.networks.baselines.swd_blocks import (
    AlignedMultiPathConv,
    RefineContextFusion,
    ResidualBlock,
    conv_prelu,
    feature_adaption,
)
from monai_iste.networks.baselines.wavelets import haar, inverse_haar, pad_to_multiple
from monai_iste.networks.residual_gate import residual_gate


class SWDNet(FixedScaleNetwork):
    """``I_S = upsampled + spatial stage(image)``, ``I = I_S + inverse Haar(wavelet stage(Haar(I_S)))``.

    Both stages have two streams, one at half the resolution of the other, which exchange features through
    :class:`RefineContextFusion`. The loss looks at both images, see :class:`~monai_iste.losses.SpatialWaveletLoss`: in
    training mode the network returns them stacked, as MONAI's DynUNet returns its heads; in evaluation mode the final
    one. The loss derives the predicted wavelets from the final image, because the transform is invertible.

    The default has 3,153,887 parameters at x2. The release has 3,158,424, the 3.16 M of the paper: 4,522 that it never
    uses and 15 without effect on a softmax are left out here.
    ``SWDNet(shallow_channels=32, channels=16, blocks=2, wavelet_channels=6)``, 0.39 M, trains on CPUs.

    Differs from the release: any whole factor (there 2), by one PixelShuffle; images of any size, padded by
    replication for the wavelet stage and cropped again; the fusion's context, which is computed there and then dropped,
    is added as the paper has it; intensities in [-1, 1] as in the other networks (there [0, 1]).
    A pixel depends on the whole image that is passed, because both stages use averages over it.

    Args:
        scale: the factor, 2 or more.
        shallow_channels: width of the spatial stage's first layers.
        channels: width of the spatial stage.
        blocks: residual blocks in each stream of each of its six rounds.
        wavelet_channels: width of the wavelet stage's finer stream; the coarser one has four times as many.
        bicubic_residual: the spatial stage adds to bicubic interpolation instead of nearest (the paper's), and both
            stages are gated to 0 where the image is flat (:func:`~monai_iste.networks.residual_gate.residual_gate`).
    Shape:
        image: (B, 3, h, w); returns (B, 3, h * scale, w * scale), in training mode (B, 2, 3, h * scale, w * scale):
        final, spatial. With coordinates as :class:`FixedScaleNetwork`, in evaluation mode only.
    Units: images and results in [0, 1], results not clamped.
    Raises:
        ShapeError: a tensor's shape does not fit.
        ScaleError: the scale is not 2, 3, 4, ..., or a call requests another scale.
        ConfigError: a width is below 2, there are no blocks, or coordinates are given in training mode.

    Example:
        >>> SWDNet(3, 8, 4, 1, 4).eval()(torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 3, 15, 21])
    """

    def __init__(
        self,
        scale: int = 2,
        shallow_channels: int = 64,
        channels: int = 32,
        blocks: int = 4,
        wavelet_channels: int = 24,
        bicubic_residual: bool = False,
    ) -> None:
        super().__init__(scale)  # without its residual: the wavelet stage must see the whole image, see upscale
        if min(shallow_channels, channels, wavelet_channels) < 2 or blocks < 1:
            received = f"{shallow_channels}, {channels}, {wavelet_channels} and {blocks}"
            raise ConfigError(
                "three widths of at least 2 and a block", received, "Published: widths 64, 32, 24 and 4 blocks."
            )
        self.upsampling = "bicubic" if bicubic_residual else "nearest"
        self.spatial_stage = SpatialStage(self.scale, shallow_channels, channels, blocks)
        self.wavelet_stage = WaveletStage(wavelet_channels)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "bicubic_residual": self.upsampling == "bicubic"}

    def forward(
        self,
        image: Tensor,
        coord: Tensor | None = None,
        cell: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        if coord is not None:
            self._check_evaluation()
        return super().forward(image, coord, cell, scale)

    def forward_grid(self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor) -> Tensor:
        self._check_evaluation()
        return super().forward_grid(image, rows, columns, cell)

    def _check_evaluation(self) -> None:
        """Raise ConfigError in training mode, where the result is a stack of whole images."""
        if self.training:
            raise ConfigError(
                "whole images while an SWDNet is trained, for its loss compares wavelets",
                "coordinates",
                "Add the overlay experiments/configs/fixed_scale.json, or call eval().",
            )

    def upscale(self, image: Tensor) -> Tensor:
        """Compute the final image, (B, 3, H, W); in training mode those of both stages, (B, 2, 3, H, W)."""
        upsampled = F.interpolate(image, scale_factor=self.scale, mode=self.upsampling)
        gate: Tensor | float = 1.0
        if self.upsampling == "bicubic":
            gate = F.interpolate(residual_gate(image), upsampled.shape[2:], mode="bilinear", align_corners=False)
        spatial = upsampled + gate * self.spatial_stage(image)
        final = spatial + gate * self.wavelet_stage(spatial)
        return torch.stack([final, spatial], dim=1) if self.training else final


class SpatialStage(nn.Sequential):
    """Shallow layers, two dual-stream modules whose results are joined, PixelShuffle, three convolutions.

    Shape:
        image: (B, 3, h, w); returns the residual of the upsampled image, (B, 3, h * scale, w * scale)
    """

    def __init__(self, scale: int, shallow_channels: int, channels: int, blocks: int) -> None:
        wide, c = shallow_channels, channels
        super().__init__(
            conv_prelu(3, wide),
            ResidualBlock(wide),
            conv_prelu(wide, c),
            ResidualBlock(c),
            _BothModules(c, blocks),
            conv_prelu(2 * c, c),
            nn.Conv2d(c, c * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
            conv_prelu(c, c),
            conv_prelu(c, c, (1, 1)),
            nn.Conv2d(c, 3, 3, padding=1),
        )


class WaveletStage(nn.Module):
    """Haar coefficients of two levels, adapted channel by channel, through three rounds of two streams.

    Shape:
        image: (B, 3, H, W); returns its residual, (B, 3, H, W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.adapt_fine = feature_adaption(12)
        self.adapt_coarse = feature_adaption(48)
        widths = [(12, channels), (channels, channels), (channels, 12)]
        self.rounds = nn.ModuleList(_WaveletRound(*width, channels, last=i == 2) for i, width in enumerate(widths))
        self.closing = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        fine = haar(pad_to_multiple(image, 4))
        coarse = haar(fine)
        fine, coarse = self.adapt_fine(fine), self.adapt_coarse(coarse)
        for stage in self.rounds:
            fine, coarse = stage(fine, coarse)
        return inverse_haar(self.closing(fine))[..., : image.shape[2], : image.shape[3]]


class _WaveletRound(nn.Module):
    """An encoding and a decoding convolution in each stream, then fusion; after the last round of the finer only."""

    def __init__(self, in_channels: int, out_channels: int, channels: int, last: bool) -> None:
        super().__init__()
        self.fine, self.coarse = (
            nn.Sequential(
                AlignedMultiPathConv(k * in_channels, k * channels),
                AlignedMultiPathConv(k * channels, k * out_channels),
            )
            for k in (1, 4)
        )
        self.fuse_fine = RefineContextFusion(out_channels)
        self.fuse_coarse = None if last else RefineContextFusion(4 * out_channels)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = self.fine(fine), self.coarse(coarse)
        fused = self.fuse_fine(fine, inverse_haar(coarse))
        return fused, coarse if self.fuse_coarse is None else self.fuse_coarse(coarse, haar(fine))


class _BothModules(nn.Module):
    """Two dual-stream modules in a row, the results of both joined: (B, C, h, w) -> (B, 2 * C, h, w)."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.first, self.second = _DualStreamModule(channels, blocks), _DualStreamModule(channels, blocks)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return torch.cat([first, self.second(first)], dim=1)


class _DualStreamModule(nn.Module):
    """Three stages in full (fine) and in half (coarse) resolution, added to their input."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.halve = nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.PReLU(channels))
        self.rounds = nn.ModuleList(_SpatialRound(channels, blocks, last=i == 2) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        fine, coarse = x, self.halve(x)
        for stage in self.rounds:
            fine, coarse = stage(fine, coarse)
        return x + fine


class _SpatialRound(nn.Module):
    """Residual blocks in each stream, then fusion and LeakyReLU; in a module's last round of the finer one only."""

    def __init__(self, channels: int, blocks: int, last: bool) -> None:
        super().__init__()
        self.fine, self.coarse = (nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks))) for _ in range(2))
        self.to_fine, self.fuse_fine = nn.Conv2d(channels, channels, 1), RefineContextFusion(channels)
        self.to_coarse = None if last else nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.fuse_coarse = None if last else RefineContextFusion(channels)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = self.fine(fine), self.coarse(coarse)
        # Halving rounds odd sides up: doubled again, one row or column is too many.
        bypass = F.interpolate(self.to_fine(coarse), scale_factor=2)[..., : fine.shape[2], : fine.shape[3]]
        fused = F.leaky_relu(self.fuse_fine(fine, bypass), 0.1)
        if self.to_coarse is None or self.fuse_coarse is None:
            return fused, coarse
        return fused, F.leaky_relu(self.fuse_coarse(coarse, self.to_coarse(fine)), 0.1)
