"""Local Pixel Decoder (LPD) and Local Texture Decoder (LTD): from features to colors.

Implements Sec. III-E, Eq. (6)-(7) of Duan et al., arXiv:2401.15613.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from monai_iste.coordinates import AxisNeighbors, Neighbors
from monai_iste.networks.grid_sampling import (
    GridPixel,
    ensemble,
    ensemble_grid,
    gather,
    gather_rows,
    row_groups,
    sum_weighted,
)
from monai_iste.networks.layers import Linear, linear


class _Colors(nn.Sequential):
    """``hidden_layers`` linear layers with ReLU, then the color; with ``linear_input`` a ReLU comes first.

    The last layer is linear and the weights of the contributing pixels sum to one, so it is applied to their weighted
    sum (:meth:`hidden`, then ensemble, then :meth:`color`): the same color, from one product instead of four.
    """

    def __init__(self, in_channels: int, hidden_channels: int, hidden_layers: int, linear_input: bool = False) -> None:
        first = [nn.ReLU(inplace=True)] if linear_input else []
        widths = [in_channels] + [hidden_channels] * hidden_layers
        hidden = [m for i, o in pairwise(widths) for m in (Linear(i, o), nn.ReLU(inplace=True))]
        super().__init__(*first, *hidden, Linear(widths[-1], 3))

    def hidden(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self):
            if i < len(self) - 1:
                x = layer(x)
        return x

    def color(self, x: Tensor) -> Tensor:
        return self[-1](x)


class LocalPixelDecoder(nn.Module):
    """``I_LPD = sum over four corners t of S_t * MLP([F_STF at t, offset from t, cell])``.

    The first linear layer is split: its feature part is applied once per low-resolution pixel (:meth:`features`), its
    coordinate part once per corner. That is the same sum in another order, at a fraction of the work.

    Differs from the paper: S_t is the diagonally opposite area, see :func:`monai_iste.coordinates.four_corners`. With
    ``blend="features"`` it is ``MLP'(sum over t of S_t * ReLU(first layer at t))``: the corners are blended before the
    other layers, which are then applied once instead of four times.

    Args:
        in_channels: width C of the fused features.
        hidden_channels: width D of the hidden layers.
        hidden_layers: their number. Not specified in the paper; our choice: three, as in the authors' code.
        blend: ``"colors"``, as printed, or ``"features"``.
    Shape:
        features: (B, D, h, w), from :meth:`features`; neighbors: four corners of Q queries;
        cell: (B, 2) or (B, Q, 2); returns (B, Q, 3)
    Units: offsets and cells in half low-resolution pixels; colors in [-1, 1], not clamped.
    """

    def __init__(
        self, in_channels: int = 256, hidden_channels: int = 256, hidden_layers: int = 3, blend: str = "colors"
    ) -> None:
        super().__init__()
        self.blend = blend
        self.feature_part = nn.Conv2d(in_channels, hidden_channels, 1)
        self.coordinate_part = nn.Linear(4, hidden_channels, bias=False)
        self.mlp = _Colors(hidden_channels, hidden_channels, hidden_layers - 1, linear_input=True)

    def features(self, fused: Tensor) -> Tensor:
        """Apply the part of the first layer that depends on the pixel alone: (B, C, h, w) -> (B, D, h, w)."""
        return self.feature_part(fused).contiguous(memory_format=torch.channels_last)

    def forward(self, features: Tensor, neighbors: Neighbors, cell: Tensor) -> Tensor:
        cell = cell.unsqueeze(1) if cell.ndim == 2 else cell
        where = torch.cat([neighbors.offset, cell.unsqueeze(2).expand_as(neighbors.offset)], dim=-1)
        hidden = gather(features, neighbors.pixel) + linear(where, self.coordinate_part.weight)
        if self.blend == "features":  # never negative, so that the MLP's own first ReLU changes nothing
            return self.mlp(ensemble(hidden.relu(), neighbors))
        return self.mlp.color(ensemble(self.mlp.hidden(hidden), neighbors))

    @torch.jit.unused
    def on_grid(self, features: Tensor, rows: AxisNeighbors, columns: AxisNeighbors, cell: Tensor) -> Tensor:
        """Decode a regular grid, where the coordinate part is a sum of one term per row and one per column.

        Shape:
            features: (D, h, w); rows: (R, 2); columns: (W, 2); cell: (2,); returns (R, W, 3)
        """
        weight = self.coordinate_part.weight
        vectors, rows = gather_rows(features, rows, columns)
        vectors = vectors + columns.offset.mT.unsqueeze(-1) * weight[:, 1]
        # Elementwise products: autocast would round the cell in a matrix product.
        row_part = (rows.offset.unsqueeze(-1) * weight[:, 0] + (weight[:, 2:] * cell).sum(-1))[:, :, None, None]
        hidden = vectors.new_empty(rows.pixel.shape + vectors.shape[1:])
        for part, pixels in row_groups(rows):
            torch.add(vectors[pixels], row_part[part], out=hidden[part])
        if self.blend == "features":
            return self.mlp(ensemble_grid(hidden.relu_(), rows, columns))
        return self.mlp.color(ensemble_grid(self.mlp.hidden(hidden), rows, columns))

    @torch.jit.unused
    def on_grids(self, features: Tensor, corners: list[GridPixel], cell: Tensor) -> Tensor:
        """Decode one grid per image, with gradients, corner by corner.

        Shape:
            features: (B, D, h, w); cell: (B, 2); returns (B, H, W, 3)
        """
        weight = self.coordinate_part.weight
        cell_part = (weight[:, 2:] * cell.unsqueeze(1)).sum(-1)[:, None, None]

        def hidden(corner: GridPixel) -> Tensor:
            row_part = corner.row_offset * weight[:, 0] + cell_part
            values = corner.take(features) + row_part + corner.column_offset * weight[:, 1]
            return values.relu() if self.blend == "features" else self.mlp.hidden(values)

        total = sum_weighted(map(hidden, corners), corners)
        return self.mlp(total) if self.blend == "features" else self.mlp.color(total)


class LocalTextureDecoder(nn.Module):
    """``I_LTD = sum over t of S_t * MLP(F_TL at t)``: colors of the texture.

    Differs from the paper: none with the nearest pixel's texture (n = 1, weight 1), as printed; with four corners
    (n = 4) it is as in the authors' code. With ``blend="features"`` it is
    ``MLP(sum over t of S_t * F_TL at t)``.

    Args:
        in_channels: number of texture channels T.
        hidden_channels: width of the hidden layers.
        hidden_layers: their number. Not specified in the paper; our choice: three, as in the authors' code.
        blend: ``"colors"``, as printed, or ``"features"``.
    Shape:
        texture: (B, Q, n, T); returns (B, Q, 3)
    Units: colors in [-1, 1], not clamped.
    """

    def __init__(
        self, in_channels: int = 256, hidden_channels: int = 256, hidden_layers: int = 3, blend: str = "colors"
    ) -> None:
        super().__init__()
        self.blend = blend
        self.mlp = _Colors(in_channels, hidden_channels, hidden_layers)

    def forward(self, texture: Tensor, neighbors: Neighbors) -> Tensor:
        if self.blend == "features":
            return self.mlp(ensemble(texture, neighbors))
        return self.mlp.color(ensemble(self.mlp.hidden(texture), neighbors))

    @torch.jit.unused
    def on_grid(self, texture: Tensor, rows: AxisNeighbors, columns: AxisNeighbors) -> Tensor:
        """Decode a regular grid: texture (R, n', n, W, T); returns (R, W, 3)."""
        if self.blend == "features":
            return self.mlp(ensemble_grid(texture, rows, columns))
        return self.mlp.color(ensemble_grid(self.mlp.hidden(texture), rows, columns))

    @torch.jit.unused
    def on_grids(self, textures: list[Tensor], pixels: list[GridPixel]) -> Tensor:
        """Decode one grid per image, with gradients: a texture (B, H, W, T) per pixel; returns (B, H, W, 3)."""
        if self.blend == "features":
            return self.mlp(sum_weighted(textures, pixels))
        return self.mlp.color(sum_weighted(map(self.mlp.hidden, textures), pixels))
