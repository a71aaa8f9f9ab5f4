"""Checks of the networks' inputs."""

from __future__ import annotations

from numbers import Real
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from monai_iste.errors import ConfigError, ShapeError

#: Largest blur that is a finite number in the networks' precision.
_LARGEST = torch.finfo(torch.float32).max

#: Bits of whole numbers that Python prints without raising.
_LONG = 10_000


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


def check_input_blur(
    input_blur: Optional[float], takes_input_blur: bool, learned: Optional[tuple[float, float]] = None
) -> Optional[float]:
    """Return the blur as a float, -0 as 0.

    Args:
        input_blur: blur of an image in its pixels; None: unknown.
        takes_input_blur: whether the network can be told a blur.
        learned: smallest and largest blur that its weights learned; None: unknown.
    Raises:
        ConfigError: it is neither None nor a finite number of at least 0, the network takes none, or its weights did
            not learn it.
    """
    if input_blur is None:
        return None
    if not takes_input_blur:
        remedy = "Leave it out, or choose iste_light2."
        raise ConfigError("a network that can be told the blur of its input", f"an input_blur of {input_blur}", remedy)
    if not isinstance(input_blur, Real) or isinstance(input_blur, bool):
        remedy = "Pass one number; 0 is sharp, 0.5 is soft."
        raise ConfigError("an input_blur of at least 0 pixels", repr(input_blur)[:100], remedy)
    if not 0 <= input_blur <= _LARGEST:
        is_long = isinstance(input_blur, int) and input_blur.bit_length() > _LONG  # Python refuses to print it
        received = "a number of more digits than can be printed" if is_long else str(input_blur)[:100]
        raise ConfigError("an input_blur of at least 0 pixels", received, "0 is sharp, 0.5 is soft.")
    _check_learned(float(input_blur), learned)
    return float(input_blur) + 0.0


def _check_learned(input_blur: float, learned: Optional[tuple[float, float]]) -> None:
    if learned is not None:
        low, high = learned
        if not low <= input_blur <= max(high, float(np.float32(high))):  # numbers in float32 may be rounded up
            remedy = f"Pass {high:g} at most, or reduce a softer image first."
            raise ConfigError(f"an input_blur from {low:g} to {high:g} pixels, as learned", str(input_blur), remedy)


def check_learned_blurs(blurs: Tensor, learned: Optional[tuple[float, float]]) -> None:
    """Raise ConfigError if the weights did not learn one of the blurs of a batch; NaN is unknown.

    Args:
        blurs: result of :func:`check_blurs`.
        learned: smallest and largest blur that the weights learned; None: unknown.
    """
    if learned is not None and not (torch.compiler.is_compiling() or blurs.is_meta):
        for blur in blurs[~blurs.isnan()].tolist():
            _check_learned(blur, learned)


def check_blurs(image: Tensor, input_blur: Tensor) -> Tensor:
    """Return the blurs of a batch on the device of the images, in their type or in float32 if that is finer.

    Raises:
        ShapeError: it is no tensor with one number per image.
        ConfigError: one of them is negative or infinite.
    """
    readable = True
    remedy = "Pass one per image, NaN where unknown."
    if not torch.jit.is_scripting():
        if not isinstance(input_blur, Tensor):
            raise ShapeError(f"input_blur as a tensor of shape ({len(image)},)", repr(input_blur)[:100], remedy)
        readable = not (torch.compiler.is_compiling() or input_blur.is_meta)
    if input_blur.ndim != 1 or input_blur.shape[0] != image.shape[0]:
        raise ShapeError(f"input_blur of shape ({image.shape[0]},)", shape_of(input_blur), remedy)
    if input_blur.is_complex() or input_blur.dtype == torch.bool:
        raise ShapeError("an input_blur of real numbers", str(input_blur.dtype), remedy)
    blurs = input_blur.to(image.device, torch.promote_types(image.dtype, torch.float32))
    wrong = (blurs < 0) | blurs.isinf()
    if readable and bool(wrong.any()):
        raise ConfigError("an input_blur of at least 0 pixels", str(float(blurs[wrong][0])), "0 is sharp, 0.5 is soft.")
    return blurs
