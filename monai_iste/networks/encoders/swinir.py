"""SwinIR without its upsampler, as an encoder.

Architecture of Liang et al., "SwinIR: Image Restoration Using Swin Transformer", arXiv:2108.10257.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import MLPBlock
from monai.networks.layers import DropPath
from torch import Tensor, nn

from monai_iste.errors import ConfigError

__all__ = ["SwinIREncoder"]


def _partition(x: Tensor, window: int) -> Tensor:
    """(B, h, w, C) -> (B, windows, window * window, C)."""
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c).transpose(2, 3)
    return x.reshape(b, -1, window * window, c)


def _merge(windows: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """(B, windows, window * window, C) -> (B, h, w, C)."""
    b, c = windows.shape[0], windows.shape[-1]
    h, w = size
    return windows.view(b, h // window, w // window, window, window, c).transpose(2, 3).reshape(b, h, w, c)


def _shift_mask(size: tuple[int, int], window: int, shift: int, device: torch.device) -> Tensor:
    """Additive mask that keeps pixels of a shifted window apart when they were no neighbours before the roll.

    Shape:
        returns (windows, window * window, window * window): 0 where two pixels may see each other, else -100
    """
    i, j = torch.arange(size[0], device=device).view(-1, 1), torch.arange(size[1], device=device)
    rows = (i >= size[0] - window).long() + (i >= size[0] - shift).long()
    columns = (j >= size[1] - window).long() + (j >= size[1] - shift).long()
    regions = _partition((3 * rows + columns).view(1, size[0], size[1], 1), window)[0, :, :, 0]
    return (regions.unsqueeze(1) != regions.unsqueeze(2)).float() * -100.0


class _WindowAttention(nn.Module):
    """Self-attention inside each window, with a learned bias for every relative position."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * window - 1) ** 2, heads), std=0.02))
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = grid.unsqueeze(2) - grid.unsqueeze(1) + window - 1
        self.relative = nn.Buffer(relative[0] * (2 * window - 1) + relative[1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, windows, n, C); mask: (windows, n, n) or None."""
        b, windows, n, c = x.shape
        bias = self.bias[self.relative].permute(2, 0, 1)  # (heads, n, n)
        bias = bias.expand(windows, -1, -1, -1) if mask is None else bias + mask.unsqueeze(1)
        # Windows and heads share one axis, so that the bias is broadcast over the batch and never copied.
        qkv = self.qkv(x).view(b, windows, n, 3, self.heads, c // self.heads).permute(3, 0, 1, 4, 2, 5)
        query, key, value = qkv.reshape(3, b, windows * self.heads, n, c // self.heads).unbind()
        attn_mask = bias.reshape(1, windows * self.heads, n, n).to(query.dtype)
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        return self.out(x.view(b, windows, self.heads, n, -1).transpose(2, 3).reshape(b, windows, n, c))


class _DropPath(DropPath):
    """Stochastic depth in a form that TorchScript can compile."""

    def forward(self, x: Tensor) -> Tensor:
        return x * F.dropout(x.new_ones(x.shape[0], 1, 1, 1), self.drop_prob) if self.training else x


class _SwinLayer(nn.Module):
    """Attention inside (shifted) windows, then an MLP; both residual and after a layer norm."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attention = _WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, int(dim * mlp_ratio))
        self.drop_path = _DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, h, w, C), sides multiples of the window; mask: for shifted windows."""
        y = self.norm1(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = self.attention(_partition(y, self.window), mask if self.shift else None)
        y = _merge(y, self.window, (x.shape[1], x.shape[2]))
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class _SwinGroup(nn.Module):
    """Residual Swin Transformer block: Swin layers, alternately shifted, a convolution, and the skip."""

    def __init__(self, dim: int, depth: int, heads: int, window: int, mlp_ratio: float, drop_path: list[float]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _SwinLayer(dim, heads, window, window // 2 * (i % 2), mlp_ratio, drop_path[i]) for i in range(depth)
        )
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = layer(y, mask)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SwinIREncoder(nn.Module):
    """Shallow convolution, residual Swin groups, closing convolution, long skip, and a projection to 64 channels.

    The default is the paper's encoder (11.6 M parameters). Images whose sides are no multiple of the window are
    padded by replicating the border, and the result is cropped back. The mask of shifted windows is applied to
    shifted layers only (upstream applies it to all when the size differs from training).

    Args:
        out_channels: width of the feature map.
        dim: width of the transformer.
        depths: layers of each group.
        heads: attention heads; must divide ``dim``.
        window: side of the attention windows, in pixels.
        mlp_ratio: hidden width of the MLPs over ``dim``.
        drop_path: stochastic depth of the last layer, rising linearly from 0; SwinIR's own 0.1 ("paper silent").
    Shape:
        image: (B, 3, h, w); returns (B, out_channels, h, w)
    Units: intensities in [-1, 1].
    Raises:
        ConfigError: ``heads`` does not divide ``dim``.

    Example:
        >>> SwinIREncoder(8, dim=12, depths=(2,), heads=2)(torch.zeros(1, 3, 9, 5)).shape
        torch.Size([1, 8, 9, 5])
    """

    def __init__(
        self,
        out_channels: int = 64,
        dim: int = 180,
        depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6),
        heads: int = 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ConfigError(f"a number of heads that divides {dim}", str(heads), "Choose another.")
        self.out_channels = out_channels
        self.window = window
        rates = torch.linspace(0, drop_path, sum(depths)).tolist()
        self.shallow = nn.Conv2d(3, dim, 3, padding=1)
        self.norm_in = nn.LayerNorm(dim)
        self.groups = nn.ModuleList(
            _SwinGroup(dim, depth, heads, window, mlp_ratio, rates[sum(depths[:i]) : sum(depths[: i + 1])])
            for i, depth in enumerate(depths)
        )
        self.norm_out = nn.LayerNorm(dim)
        self.closing = nn.Conv2d(dim, dim, 3, padding=1)
        self.out = nn.Sequential(nn.Conv2d(dim, out_channels, 3, padding=1), nn.LeakyReLU(0.01, inplace=True))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2:]
        image = F.pad(image, (0, -w % self.window, 0, -h % self.window), mode="replicate")
        mask = _shift_mask((image.shape[2], image.shape[3]), self.window, self.window // 2, image.device)
        shallow = self.shallow(image)
        x = self.norm_in(shallow.permute(0, 2, 3, 1))
        for group in self.groups:
            x = group(x, mask)
        deep = self.closing(self.norm_out(x).permute(0, 3, 1, 2))
        return self.out(shallow + deep)[:, :, :h, :w]
