"""EDSR: residual blocks at low resolution, then pixel shuffles; one network for each scale.

Implements Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", arXiv:1707.02921.
"""

from __future__ import annotations

from monai_iste.networks.baselines.pixel_shuffle import PixelShuffleNetwork
from monai_iste.networks.encoders import EDSREncoder


class EDSR(PixelShuffleNetwork):
    """:class:`EDSREncoder` with a pixel-shuffle head. The default is the baseline size, 1.37 M parameters at x2.

    Differs from the paper: intensities in [-1, 1], not around the mean color of DIV2K, unless published weights are
    loaded (:func:`load_published`); no residual scaling, which only the 256-wide network has.

    Args:
        scale: the magnification, 3 or a power of 2.
        out_channels: width of every layer.
        num_blocks: number of residual blocks.
        bicubic_residual: add the bicubic interpolation of the image, see :class:`FixedScaleNetwork`; not in the paper.
    Shape:
        image: (B, 3, h, w); returns (B, 3, h * scale, w * scale)
    Units: image and result in [0, 1], the result not clamped.
    Raises:
        ShapeError: the image is not (B, 3, h, w).
        ScaleError: the scale is not supported, or a call requests another scale.

    Example:
        >>> import torch
        >>> EDSR(3, out_channels=8, num_blocks=1)(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 3, 15, 21])
    """

    def __init__(
        self, scale: int = 2, out_channels: int = 64, num_blocks: int = 16, bicubic_residual: bool = False
    ) -> None:
        super().__init__(EDSREncoder(out_channels, num_blocks), scale, bicubic_residual)
