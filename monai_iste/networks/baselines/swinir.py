"""SwinIR: window attention at low resolution, then pixel shuffles; one network for each scale.

Implements Liang et al., "SwinIR: Image Restoration Using Swin Transformer", arXiv:2108.10257, for classical
super-resolution.
"""

from __future__ import annotations

from monai_iste.networks.baselines.pixel_shuffle import PixelShuffleNetwork
from monai_iste.networks.encoders import SwinIREncoder


class SwinIR(PixelShuffleNetwork):
    """:class:`SwinIREncoder` with a pixel-shuffle head. The default is SwinIR-M, 11.75 M parameters at x2.

    ``dim=60, depths=(6,) * 4`` is the size of SwinIR-S. Its authors give that one a head of a single convolution; here
    it has the head of the larger one.

    Differs from the paper: intensities in [-1, 1], not around the mean color of DIV2K, unless published weights are
    loaded (:func:`load_published`). See :class:`SwinIREncoder` for borders.

    Args:
        scale: the magnification, 3 or a power of 2.
        dim: width of the transformer.
        depths: layers of each group.
        heads: attention heads; must divide ``dim``.
        window: side of the attention windows, in pixels.
        mlp_ratio: hidden width of the MLPs over ``dim``.
        drop_path: stochastic depth of the last layer, rising linearly from 0.
        out_channels: width of the head.
        bicubic_residual: add the bicubic interpolation of the image, see :class:`FixedScaleNetwork`; not in the paper.
    Shape:
        image: (B, 3, h, w); returns (B, 3, h * scale, w * scale)
    Units: image and result in [0, 1], the result not clamped.
    Raises:
        ShapeError: the image is not (B, 3, h, w).
        ScaleError: the scale is not supported, or a call requests another scale.
        ConfigError: ``heads`` does not divide ``dim``.

    Example:
        >>> import torch
        >>> SwinIR(4, dim=12, depths=(2,), heads=2)(torch.zeros(1, 3, 9, 5)).shape
        torch.Size([1, 3, 36, 20])
    """

    def __init__(
        self,
        scale: int = 2,
        dim: int = 180,
        depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6),
        heads: int = 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.1,
        out_channels: int = 64,
        bicubic_residual: bool = False,
    ) -> None:
        encoder = SwinIREncoder(out_channels, dim, depths, heads, window, mlp_ratio, drop_path)
        super().__init__(encoder, scale, bicubic_residual)
