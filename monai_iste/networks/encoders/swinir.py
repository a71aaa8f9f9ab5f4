"""SwinIR without its upsampler, as an encoder.

Architecture of Liang et al., "SwinIR: Image Restoration Using Swin Transformer", arXiv:2108.10257.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.errors import ConfigError
from monai_iste.networks import tuning
from monai_iste.networks.layers import Linear


def _partition(x: Tensor, window: int) -> Tensor:
    """Partition a map into windows, (B, h, w, C) -> (B, windows, window * window, C)."""
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c).transpose(2, 3)
    return x.reshape(b, -1, window * window, c)


def _merge(windows: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """Merge windows into a map, (B, windows, window * window, C) -> (B, h, w, C)."""
    b, c = windows.shape[0], windows.shape[-1]
    h, w = size
    return windows.view(b, h // window, w // window, window, window, c).transpose(2, 3).reshape(b, h, w, c)


def _shift(size: tuple[int, int], window: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Attention mask and pixel order of windows that are shifted by half their side.

    Shape:
        returns the additive mask (windows, window * window, window * window): 0 for pixels that attend to each other,
        -100 for pixels that were no neighbors before the map was rolled; for every place in the order of the shifted
        windows the place in that of the plain windows, (h * w,); and the way back.
    """
    h, w = size
    shift = window // 2
    i, j = torch.arange(h, device=device).view(-1, 1), torch.arange(w, device=device)
    rows = (i >= h - window).long() + (i >= h - shift).long()
    columns = (j >= w - window).long() + (j >= w - shift).long()
    regions = _partition((3 * rows + columns).view(1, h, w, 1), window)[0, :, :, 0]
    mask = (regions.unsqueeze(1) != regions.unsqueeze(2)).float() * -100.0

    plain = _partition((i * w + j).view(1, h, w, 1), window).flatten()  # the pixel at every place
    place = torch.argsort(plain)  # the place of every pixel
    rolled = (i * w + j).roll((-shift, -shift), (0, 1))
    shifted = place[_partition(rolled.view(1, h, w, 1), window).flatten()]
    return mask, shifted, torch.argsort(shifted)


class _WindowAttention(nn.Module):
    """Self-attention inside each window, with a learned bias for every relative position."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim)
        self.bias = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * window - 1) ** 2, heads), std=0.02))
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = grid.unsqueeze(2) - grid.unsqueeze(1) + window - 1
        self.relative = nn.Buffer(relative[0] * (2 * window - 1) + relative[1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, windows, n, C); mask: (windows, n, n) or None."""
        b, windows, n, c = x.shape
        attn_mask = self.bias[self.relative].permute(2, 0, 1).unsqueeze(0)  # (1, heads, n, n)
        if mask is not None:
            attn_mask = (attn_mask + mask.unsqueeze(1)).repeat(b, 1, 1, 1)
        # Views, which the attention reads as they lie: (B * windows, heads, n, C / heads).
        qkv = self.qkv(x).view(b * windows, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind()
        attn_mask = attn_mask.to(query.dtype)
        if query.is_cuda or (query.dtype == torch.float32 and not torch.is_grad_enabled()):
            x = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        else:  # on the CPU its kernel has no gradient of the bias, and is slower than this in bfloat16
            query, key, value = qkv.flatten(1, 2).unbind()
            mask_of_all = attn_mask.expand(b * windows, -1, -1, -1).flatten(0, 1)
            weights = torch.baddbmm(mask_of_all, query, key.mT, alpha=query.shape[-1] ** -0.5).softmax(-1)
            x = (weights @ value).view(b * windows, self.heads, n, c // self.heads)
        return self.out(x.transpose(1, 2).reshape(b, windows, n, c))


class _DropPath(nn.Module):
    """Stochastic depth: drop the whole branch of an image with probability ``drop_prob``, in training."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        return x * F.dropout(x.new_ones(x.shape[0], 1, 1, 1), self.drop_prob) if self.training else x


class _MLP(nn.Module):
    """linear - GELU - linear, at every pixel; the encoder initializes the layers."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = Linear(dim, hidden), Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x)))


class _SwinLayer(nn.Module):
    """Attention inside windows, then an MLP; both residual and after a layer norm."""

    def __init__(self, dim: int, heads: int, window: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = _WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = _MLP(dim, int(dim * mlp_ratio))
        self.drop_path = _DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, windows, n, C); mask: for shifted windows."""
        windows, once = x.shape[1], max(1, tuning.MAX_ATTENTION_PIXELS // (x.shape[0] * x.shape[2]))
        if torch.is_grad_enabled() or windows <= once:
            return self._windows(x, mask)
        # Windows are independent: a few at a time keep the memory of large images flat.
        parts = [
            self._windows(x[:, i : i + once], mask[i : i + once] if mask is not None else None)
            for i in range(0, windows, once)
        ]
        return torch.cat(parts, dim=1)

    def _windows(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class _SwinGroup(nn.Module):
    """Residual Swin Transformer block: Swin layers, alternately shifted, a convolution, and the skip.

    Outside its windows a layer works pixel by pixel. Pixels therefore stay in the order of the windows, and are only
    permuted from one layer to the next.
    """

    def __init__(self, dim: int, heads: int, window: int, mlp_ratio: float, drop_path: list[float]) -> None:
        super().__init__()
        self.window = window
        self.layers = nn.ModuleList(_SwinLayer(dim, heads, window, mlp_ratio, rate) for rate in drop_path)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor, shifted: Tensor, back: Tensor) -> Tensor:
        """x: (B, h, w, C), sides multiples of the window; mask, shifted, back: see :func:`_shift`."""
        y = _partition(x, self.window)
        for i, layer in enumerate(self.layers):
            if i > 0:
                y = y.flatten(1, 2).index_select(1, shifted if i % 2 == 1 else back).view(y.shape)
            y = layer(y, mask if i % 2 == 1 else None)
        if len(self.layers) % 2 == 0:
            y = y.flatten(1, 2).index_select(1, back).view(y.shape)
        y = _merge(y, self.window, (x.shape[1], x.shape[2]))
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SwinIREncoder(nn.Module):
    """Shallow convolution, residual Swin groups, closing convolution, long skip, and a projection to 64 channels.

    The default is the paper's encoder (11.6 M parameters). Images whose sides are not multiples of the window are
    padded by replicating the border, and the result is cropped back. The mask of shifted windows is applied to
    shifted layers only.

    Args:
        out_channels: width of the feature map.
        dim: width of the transformer.
        depths: layers of each group.
        heads: attention heads; must divide ``dim``.
        window: side of the attention windows, in pixels.
        mlp_ratio: hidden width of the MLPs over ``dim``.
        drop_path: stochastic depth of the last layer, rising linearly from 0. Not specified in the paper; our choice:
            SwinIR's own 0.1.
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
            _SwinGroup(dim, heads, window, mlp_ratio, rates[sum(depths[:i]) : sum(depths[: i + 1])])
            for i in range(len(depths))
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
        mask, shifted, back = _shift((image.shape[2], image.shape[3]), self.window, image.device)
        shallow = self.shallow(image)
        x = self.norm_in(shallow.permute(0, 2, 3, 1))
        for group in self.groups:
            x = group(x, mask, shifted, back)
        deep = self.closing(self.norm_out(x).permute(0, 3, 1, 2))
        return self.out(shallow + deep)[:, :, :h, :w]
