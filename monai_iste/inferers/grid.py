"""MONAI interface of training on grids: one grid of rows and columns per image."""

from __future__ import annotations

from typing import Any

from monai.inferers import Inferer
from torch import Tensor, nn

from monai_iste.networks.grid_sampling import query_grid


class GridInferer(Inferer):
    """Compute the colors of one grid per image, with gradients, row by row as a label of points.

    A network with ``forward_grid`` is called by that; any other, such as one that PyTorch distributes, gets the list of
    coordinates. The colors are the same.

    Shape:
        inputs: (B, 3, h, w); rows: (B, R); columns: (B, S); cell: (B, 2); returns (B, R * S, 3).
    Units: intensities in [0, 1], the result not clamped; coordinates in [-1, 1]; cell in half low-resolution pixels.

    Example:
        >>> import torch
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> rows, columns = torch.zeros(1, 2), torch.zeros(1, 3)
        >>> GridInferer()(torch.rand(1, 3, 5, 7), network, rows=rows, columns=columns, cell=torch.ones(1, 2)).shape
        torch.Size([1, 6, 3])
    """

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        return query_grid(network, inputs, *args, **kwargs).flatten(2).mT
