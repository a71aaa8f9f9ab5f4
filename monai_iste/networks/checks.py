"""Checks of the networks' inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_iste.errors import ConfigError, ShapeError


def check_image(image: Tensor) -> None:
    """Raise ShapeError unless ``image`` is a float tensor of shape (B, 3, h, w)."""
    if image.ndim != 4 or image.shape[1] != 3 or image.numel() == 0:
        raise ShapeError("an image of shape (B, 3, h, w)", shape_of(image), "Add the batch axis, keep RGB.")
    if not image.is_floating_point():  # 8-bit levels would pass without an error
        raise ShapeError("an image of floating point, in [0, 1]", str(image.dtype), "Divide 8-bit levels by 255.")


def check_precision(image: Tensor, weight: Tensor) -> None:
    """Raise ConfigError for weights or images in half precision, whose coordinates and angles would be rounded.

    Autocast is no such case: it rounds products alone. Its images may be in half precision.
    """
    if weight.dtype == torch.float16 or weight.dtype == torch.bfloat16:
        remedy = "Call network.float(); for speed use precision='bf16' or torch.autocast."
        raise ConfigError("a network in full precision", f"weights of {weight.dtype}", remedy)
    if image.dtype == torch.float16 or image.dtype == torch.bfloat16:
        autocast = False
        if not torch.jit.is_scripting():  # programs are run without autocast
            autocast = torch.is_autocast_enabled(image.device.type)
        if not autocast:
            remedy = "Pass image.float(), or use torch.autocast."
            raise ConfigError("an image in full precision", str(image.dtype), remedy)


def check_queries(image: Tensor, coord: Tensor, cell: Tensor) -> None:
    """Raise ShapeError unless the shapes of image (B, 3, h, w), coordinates and cells fit together."""
    check_image(image)
    b = image.shape[0]
    if coord.ndim != 3 or coord.shape[0] != b or coord.shape[2] != 2:
        raise ShapeError(f"coord of shape ({b}, Q, 2), order (y, x)", shape_of(coord), "See pixel_centers().")
    if cell.shape != (b, 2) and cell.shape != (b, coord.shape[1], 2):
        raise ShapeError(f"cell of shape ({b}, 2) or ({b}, {coord.shape[1]}, 2)", shape_of(cell), "See cell_size().")


def shape_of(tensor: Tensor) -> str:
    """Format a tensor's shape for messages, "(1, 3, 5)"; a function of its own because TorchScript has no tuple()."""
    return str(tensor.shape) if torch.jit.is_scripting() else str(tuple(tensor.shape))


def check_grid(image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor, per_image: bool = False) -> None:
    """Raise ShapeError unless image is (B, 3, h, w), rows (H,), columns (W,) and cell (B, 2), none of them empty.

    With ``per_image``, rows may be (B, H) and columns (B, W): one grid per image.
    """
    check_image(image)
    b = image.shape[0]
    for name, axis in (("rows", rows), ("columns", columns)):
        known = axis.ndim == 1 or (per_image and axis.ndim == 2 and axis.shape[0] == b)
        if not known or axis.numel() == 0:
            shapes = f"(n,) or ({b}, n)" if per_image else "(n,)"
            raise ShapeError(f"{name} of shape {shapes}", shape_of(axis), "Pass one coordinate per row and column.")
    if cell.shape != (b, 2):
        raise ShapeError(f"cell of shape ({b}, 2)", shape_of(cell), "A grid has one scale per image.")
