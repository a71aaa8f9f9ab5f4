"""Checks of the networks' inputs, each with a sentence that says what was expected."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_iste.errors import ShapeError


def check_image(image: Tensor) -> None:
    """Refuse what is no batch of RGB images.

    Raises:
        ShapeError: names the expected and the received shape, or type.
    """
    if image.ndim != 4 or image.shape[1] != 3 or image.numel() == 0:
        raise ShapeError("an image of shape (B, 3, h, w)", shape_of(image), "Add the batch axis, keep RGB.")
    if not image.is_floating_point():  # of 0 to 255 it would make numbers without meaning
        raise ShapeError("an image of floating point, in [0, 1]", str(image.dtype), "Divide 8-bit levels by 255.")


def check_queries(image: Tensor, coord: Tensor, cell: Tensor) -> None:
    """Refuse images, coordinates and cells whose shapes do not belong together.

    Raises:
        ShapeError: names the tensor, the expected and the received shape.
    """
    check_image(image)
    b = image.shape[0]
    if coord.ndim != 3 or coord.shape[0] != b or coord.shape[2] != 2:
        raise ShapeError(f"coord of shape ({b}, Q, 2), order (y, x)", shape_of(coord), "See pixel_centers().")
    if cell.shape != (b, 2) and cell.shape != (b, coord.shape[1], 2):
        raise ShapeError(f"cell of shape ({b}, 2) or ({b}, {coord.shape[1]}, 2)", shape_of(cell), "See cell_size().")


def shape_of(tensor: Tensor) -> str:
    """A tensor's shape as messages show it, "(1, 3, 5)". In its own function because TorchScript has no tuple()."""
    return str(tensor.shape) if torch.jit.is_scripting() else str(tuple(tensor.shape))
