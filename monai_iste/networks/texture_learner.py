"""Texture Learner (TL): periodic texture features at continuous coordinates.

Implements Sec. III-C, Eq. (3) of Duan et al., arXiv:2401.15613.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.coordinates import AxisNeighbors, Neighbors, key_lattice, key_step
from monai_iste.networks.grid_sampling import GridPixel, gather, gather_rows, row_groups
from monai_iste.networks.layers import linear


class TextureLearner(nn.Module):
    """``texture = A * sin(f_y * dy + f_x * dx + phase)``, with ``phase = 2 pi sigmoid(Linear(cell))``.

    Amplitude A and frequencies f come from one 3x3 convolution of the feature map (:meth:`amp_freq`, once per image);
    dy, dx is the offset of the query from a contributing low-resolution pixel.

    Differs from the paper: none. The factor 2 pi is the authors' code; the text prints only the sigmoid.

    Args:
        in_channels: width of the encoder's feature map.
        texture_channels: number T of sine waves.
    Shape:
        amp_freq: (B, 3 T, h, w); neighbors: n pixels for each of Q queries; cell: (B, 2) or (B, Q, 2);
        returns (B, Q, n, T)
    Units: offsets and cells in half low-resolution pixels; frequencies in radians per half pixel.

    Example:
        >>> from monai_iste.coordinates import nearest_pixel
        >>> learner = TextureLearner(8, 16)
        >>> amp_freq = learner.amp_freq(torch.zeros(1, 8, 5, 7))
        >>> learner(amp_freq, nearest_pixel(torch.zeros(1, 3, 2), (5, 7)), torch.ones(1, 2)).shape
        torch.Size([1, 3, 1, 16])
    """

    def __init__(self, in_channels: int = 64, texture_channels: int = 256) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 3 * texture_channels, 3, padding=1, padding_mode="replicate")
        self.phase = nn.Linear(2, texture_channels)

    def amp_freq(self, feat: Tensor) -> Tensor:
        """Amplitude, frequency along y and along x of every low-resolution pixel, stacked: (B, 3 T, h, w)."""
        return self.conv(feat).contiguous(memory_format=torch.channels_last)

    def forward(self, amp_freq: Tensor, neighbors: Neighbors, cell: Tensor) -> Tensor:
        return self._wave(gather(amp_freq, neighbors.pixel), neighbors.offset, self._phase(cell).unsqueeze(2))

    @torch.jit.unused
    def on_grid(self, amp_freq: Tensor, rows: AxisNeighbors, columns: AxisNeighbors, cell: Tensor) -> Tensor:
        """Compute texture on a regular grid, where the angle is a sum of one term per row and one per column.

        Shape:
            amp_freq: (3 T, h, w); rows: (R, n'); columns: (W, n); cell: (2,); returns (R, n', n, W, T)
        """
        vectors, rows = gather_rows(amp_freq, rows, columns)
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # angles are never rounded to half
        amplitude, freq_y, freq_x = (part.contiguous() for part in vectors.chunk(3, dim=-1))
        angle = freq_x.mul_(columns.offset.mT.unsqueeze(-1)).add_(self._phase(cell.unsqueeze(0))[0])
        offset = rows.offset[:, :, None, None, None]
        texture = amplitude.new_empty(rows.pixel.shape + amplitude.shape[1:])
        for part, pixels in row_groups(rows):
            torch.addcmul(angle[pixels], freq_y[pixels], offset[part], out=texture[part])
            texture[part].sin_().mul_(amplitude[pixels])
        return texture

    @torch.jit.unused
    def on_grids(self, amp_freq: Tensor, pixels: list[GridPixel], cell: Tensor) -> list[Tensor]:
        """Compute texture on one grid per image, with gradients.

        Shape:
            amp_freq: (B, 3 T, h, w); cell: (B, 2); returns (B, H, W, T) for each of the pixels
        """
        phase, textures = self._phase(cell).unsqueeze(1), []
        for pixel in pixels:
            amplitude, freq_y, freq_x = pixel.take(amp_freq).chunk(3, dim=-1)
            angle = torch.addcmul(torch.addcmul(phase, freq_x, pixel.column_offset), freq_y, pixel.row_offset)
            textures.append(amplitude * torch.sin(angle))
        return textures

    def keys(self, amp_freq: Tensor, cell: Tensor, side: int = 48) -> Tensor:
        """Texture at the canonical key lattice: one key per low-resolution pixel, or per every ``key_step``-th.

        Shape:
            amp_freq: (B, 3 T, h, w); cell: (B, 2); returns (B, K, T), with K up to about side^2
        """
        return self._on_lattice(_thin(amp_freq, side), (amp_freq.shape[2], amp_freq.shape[3]), cell, side)

    @torch.jit.unused
    def keys_from_features(self, feat: Tensor, cell: Tensor, side: int = 48) -> Tensor:
        """Compute :meth:`keys` from the feature map, with ``amp_freq`` only for the pixels that give a key.

        Shape:
            feat: (B, C, h, w); cell: (B, 2); returns (B, K, T)
        """
        return self._on_lattice(_strided(self.conv, feat, side), (feat.shape[2], feat.shape[3]), cell, side)

    def _on_lattice(self, amp_freq: Tensor, size: tuple[int, int], cell: Tensor, side: int) -> Tensor:
        """Compute the keys from ``amp_freq`` (B, K, 3 T) of the pixels of an image of ``size`` that give one."""
        offset = key_lattice(size, amp_freq.device).transpose(0, 1).view(1, 2, size[0], size[1])
        return self._wave(amp_freq, _thin(offset, side), self._phase(cell))

    def _phase(self, cell: Tensor) -> Tensor:
        """Compute the phase, (B, 1 or Q, T)."""
        cell = cell.unsqueeze(1) if cell.ndim == 2 else cell
        return 2 * math.pi * torch.sigmoid(linear(cell, self.phase.weight, self.phase.bias))

    def _wave(self, amp_freq: Tensor, offset: Tensor, phase: Tensor) -> Tensor:
        amplitude, freq_y, freq_x = amp_freq.chunk(3, dim=-1)
        return amplitude * torch.sin(freq_y * offset[..., :1] + freq_x * offset[..., 1:] + phase)


class ConvTexture(nn.Module):
    """Ablation "w/o TL": a convolution instead, with constant texture within a low-resolution pixel.

    Same methods and shapes as :class:`TextureLearner`, with T channels where it has 3 T.
    """

    def __init__(self, in_channels: int = 64, texture_channels: int = 256) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, texture_channels, 3, padding=1, padding_mode="replicate")

    def amp_freq(self, feat: Tensor) -> Tensor:
        return self.conv(feat).contiguous(memory_format=torch.channels_last)

    def forward(self, amp_freq: Tensor, neighbors: Neighbors, cell: Tensor) -> Tensor:
        return gather(amp_freq, neighbors.pixel)

    @torch.jit.unused
    def on_grid(self, amp_freq: Tensor, rows: AxisNeighbors, columns: AxisNeighbors, cell: Tensor) -> Tensor:
        vectors, rows = gather_rows(amp_freq, rows, columns)
        return vectors[rows.pixel]

    @torch.jit.unused
    def on_grids(self, amp_freq: Tensor, pixels: list[GridPixel], cell: Tensor) -> list[Tensor]:
        return [pixel.take(amp_freq) for pixel in pixels]

    def keys(self, amp_freq: Tensor, cell: Tensor, side: int = 48) -> Tensor:
        return _thin(amp_freq, side)

    @torch.jit.unused
    def keys_from_features(self, feat: Tensor, cell: Tensor, side: int = 48) -> Tensor:
        return _strided(self.conv, feat, side)


def _strided(conv: nn.Conv2d, feat: Tensor, side: int) -> Tensor:
    """Compute ``_thin(conv(feat), side)`` only where it is kept."""
    step = key_step((feat.shape[2], feat.shape[3]), side)
    padded = F.pad(feat, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, conv.weight, conv.bias, stride=step).permute(0, 2, 3, 1).flatten(1, 2)


@torch.jit.script_if_tracing  # the step is that of the image's size, not of the traced example's
def _thin(amp_freq: Tensor, side: int) -> Tensor:
    """Select the pixels that give a key: (B, C, h, w) -> (B, K, C)."""
    step = key_step((amp_freq.shape[2], amp_freq.shape[3]), side)
    return amp_freq[:, :, ::step, ::step].permute(0, 2, 3, 1).flatten(1, 2)
