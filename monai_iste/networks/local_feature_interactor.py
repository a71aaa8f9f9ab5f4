"""Local Feature Interactor (LFI): every feature attends to its 3x3 neighborhood.

Implements Sec. III-B, Eq. (2) of Duan et al., arXiv:2401.15613.
"""

from __future__ import annotations

from typing import Optional, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.networks.checks import shape_of


def _window(x: Tensor) -> list[Tensor]:
    """Neighbors of every pixel, row by row, of a map padded by one: (B, h + 2, w + 2, ...) -> 9 (B, h, w, ...)."""
    h, w = x.shape[1] - 2, x.shape[2] - 2
    return [x[:, i // 3 : i // 3 + h, i % 3 : i % 3 + w] for i in range(9)]


class QueryProjection(nn.Module):
    """Projection F_LFI -> F_LFIC to the width of the texture keys. Alone, it is the ablation "w/o LFI".

    Differs from the paper: none; the paper does not define this step. The authors' code uses a 3x3 convolution; the
    default here is 1x1, because it keeps the retrieval of Eq. (4) low-rank (a similarity of 64 + 1 instead of 576 + 1
    numbers) and saves 9/10 of its cost.

    Args:
        in_channels: width of the encoder's feature map.
        query_channels: width of queries and keys.
        kernel_size: 1 or 3.
    Shape:
        feat: (B, in_channels, h, w); returns (B, query_channels, h, w)
    Raises:
        ConfigError: ``kernel_size`` is neither 1 nor 3 (another would change the map's size).
    """

    def __init__(self, in_channels: int = 64, query_channels: int = 256, kernel_size: int = 1) -> None:
        super().__init__()
        if kernel_size not in (1, 3):
            raise ConfigError("a projection kernel of 1 or 3", str(kernel_size), "Choose one of these.")
        self.projection = nn.Conv2d(
            in_channels, query_channels, kernel_size, padding=kernel_size // 2, padding_mode="replicate"
        )

    def forward(self, feat: Tensor) -> Tensor:
        return self.projection(self.attend(feat))

    def attend(self, feat: Tensor) -> Tensor:
        """Compute F_LFI, (B, in_channels, h, w); here the features themselves."""
        return feat

    @torch.jit.unused
    def projection_matrix(self) -> Optional[Tensor]:
        """Matrix (query_channels, in_channels + 1) of the projection, bias last; None unless it is 1x1 and widens."""
        weight, bias = self.projection.weight, cast(Tensor, self.projection.bias)
        if weight.shape[2] != 1 or weight.shape[0] <= weight.shape[1] + 1:
            return None
        return torch.cat([weight.flatten(1), bias.unsqueeze(1)], dim=1)


class LocalFeatureInteractor(QueryProjection):
    """Attention of one query (the pixel) to ten tokens (the pixel, the mean of its 3x3 window, its eight neighbors).

    ``F_LFI = softmax(Q K^T / sqrt(d)) V`` with one set of projections for all tokens, followed by the projection
    F_LFI -> F_LFIC. Because the projections are linear, they are applied once per pixel and the mean's key and value
    are the mean of the nine keys and values, which is exact.

    Differs from the paper: the square root stands inside the exponential (as printed it would stand outside, which
    would make the weights sum to 1/sqrt(d)). One head, as printed; the authors' code uses eight. Not specified in the
    paper; our choice: replicated borders, which also work on images of one pixel.

    Args:
        in_channels: width C of the feature map.
        query_channels: width of the result.
        heads: attention heads; must divide ``in_channels``.
        kernel_size: kernel size of the projection F_LFI -> F_LFIC, see :class:`QueryProjection`.
    Shape:
        feat: (B, C, h, w); returns (B, query_channels, h, w)
    Raises:
        ConfigError: ``heads`` does not divide ``in_channels``.
        ShapeError: feat is not (B, C, h, w).

    Example:
        >>> LocalFeatureInteractor(8, 16)(torch.zeros(1, 8, 5, 7)).shape
        torch.Size([1, 16, 5, 7])
    """

    def __init__(self, in_channels: int = 64, query_channels: int = 256, heads: int = 1, kernel_size: int = 1) -> None:
        super().__init__(in_channels, query_channels, kernel_size)
        if heads < 1 or in_channels % heads:
            raise ConfigError(f"a number of heads that divides {in_channels}", str(heads), "Choose another.")
        self.heads = heads
        self.qkv = nn.Conv2d(in_channels, 3 * in_channels, 1)

    def attend(self, feat: Tensor) -> Tensor:
        """Compute F_LFI, (B, C, h, w)."""
        if feat.ndim != 4 or feat.shape[1] * 3 != self.qkv.out_channels:
            raise ShapeError(
                f"features of shape (B, {self.qkv.in_channels}, h, w)", shape_of(feat), "Check the encoder."
            )
        b, c, h, w = feat.shape
        d = c // self.heads
        # Padded first: a 1x1 projection of replicated borders is the replicated border of the projection.
        around = F.pad(feat, (1, 1, 1, 1), mode="replicate").contiguous(memory_format=torch.channels_last)
        tokens = self.qkv(around).permute(0, 2, 3, 1).reshape(b, h + 2, w + 2, 3, self.heads, d)
        query, key, value = tokens[:, 1:-1, 1:-1, 0], tokens[:, :, :, 1], tokens[:, :, :, 2]
        logits = torch.stack([(query * near).sum(-1) for near in _window(key)]) / d**0.5
        # Token 10, the window's mean: its logit is the mean of the nine, its value the mean of the nine values.
        weights = torch.cat([logits, logits.mean(0, keepdim=True)]).softmax(0)
        weights = (weights[:9] + weights[9:] / 9).unsqueeze(-1)
        out = torch.zeros_like(query, dtype=weights.dtype)
        for i, near in enumerate(_window(value)):
            out.addcmul_(weights[i], near)
        return out.reshape(b, h, w, c).permute(0, 3, 1, 2)
