"""Magnify an image that is in memory: arrays, Pillow images and tensors, in their own layout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError, DataError, ScaleError, ShapeError
from monai_iste.inferers import ArbitraryScaleInferer, Region
from monai_iste.networks import load_network
from monai_iste.networks.presets import DEFAULT_PRESET, known_device

__all__ = [
    "MAX_OUTPUT_PIXELS",
    "at_precision",
    "default_device",
    "emulates_bf16",
    "exact_size",
    "magnified_bands",
    "magnified_size",
    "magnified_to_mpp",
    "to_range",
    "upscale",
]

#: Largest width * height that :func:`upscale` returns: 1.5 GB as 8-bit RGB, 6 GB as float32.
MAX_OUTPUT_PIXELS = 500_000_000

# Largest width * height that one window of the image becomes: it is computed at once, in some 80 bytes a pixel.
_MAX_WINDOW_PIXELS = 2**25

_REDUCE = "To make an image smaller use a resampler, such as Pillow's Image.resize."

Picture = TypeVar("Picture", np.ndarray, Image.Image, Tensor)


def upscale(
    image: Picture,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    model: nn.Module | str | None = None,
    device: torch.device | str | None = None,
    precision: str = "fp32",
) -> Picture:
    """Magnify an RGB image by any factor from 1 upwards; the same kind, layout and type comes back.

    The image goes through :class:`~monai_iste.inferers.ArbitraryScaleInferer` in windows, so that size costs time, not
    memory beyond the result itself.

    Args:
        image: one of the kinds under Shape.
        scale: magnification; the result has ``round(H * scale) x round(W * scale)`` pixels.
        size: exact size (H, W) of the result, instead of ``scale``; each axis then has a scale of its own.
        model: a network, which is put into evaluation mode, or the name of a preset with released weights
            (default: ``iste_light``).
        device: where it runs; default: where the network is, or for a preset the GPU if there is one.
        precision: ``"fp32"``, or ``"bf16"``: faster on GPUs and some processors.
    Shape:
        NumPy array (H, W, 3); Pillow image of mode RGB; tensor (3, H, W) or (B, 3, H, W).
    Units: uint8 from 0 to 255, or floating point in [0, 1], to which the result is clamped.
    Raises:
        ScaleError: the scale is below 1 or not a finite number, or the result has more than
            :data:`MAX_OUTPUT_PIXELS`, or one window of it too many (above x27); nothing has been allocated then.
        ShapeError: not an RGB image of these kinds. ConfigError: no such preset, weights, device or precision.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> upscale(np.zeros((10, 20, 3), np.uint8), 3.7, model=network).shape
        (37, 74, 3)
    """
    pixels = _channels_first(image)
    height, width = magnified_size((pixels.shape[2], pixels.shape[3]), scale, size)
    if isinstance(model, nn.Module):
        network: nn.Module = model.eval() if device is None else model.to(known_device(device)).eval()
    else:
        network = _preset(model or DEFAULT_PRESET, str(device or default_device()))
    network = at_precision(network, precision)
    # Channels are innermost in memory, as arrays and pictures want them: those are views of the result.
    result = torch.empty((len(pixels), 3, height, width), dtype=pixels.dtype, memory_format=torch.channels_last)
    for source, target in zip(pixels, result, strict=True):
        top = 0
        for band in magnified_bands(source, network, (height, width)):
            target[:, top : top + band.shape[1]] = to_range(band, pixels.dtype)
            top += band.shape[1]
    return _like(image, result)


def magnified_size(
    size: tuple[int, int],
    scale: float | None = None,
    target: tuple[int, int] | None = None,
    limit: int = MAX_OUTPUT_PIXELS,
) -> tuple[int, int]:
    """The size (H, W) that an image of ``size`` (h, w) is magnified to, by a scale or to a given size.

    Raises:
        ConfigError: not exactly one of scale and target. ScaleError: the result would be smaller than the image, larger
            than ``limit`` pixels, or one window of it too large; or the scale is not a finite number above 0.

    Example:
        >>> magnified_size((300, 260), 3.7), magnified_size((300, 260), target=(301, 520))
        ((1110, 962), (301, 520))
    """
    if (scale is None) == (target is None):
        raise ConfigError("one of scale and size", "both" if scale is not None else "neither", "Give the one you mean.")
    if scale is not None:
        try:
            scale = float(scale)
        except (TypeError, ValueError) as error:
            raise ScaleError("a scale, such as 2 or 3.7", repr(scale), "Give one number.") from error
        if 0 < scale < 1:
            raise ScaleError("a scale of at least 1", repr(scale), _REDUCE)
        if 1 <= scale < math.inf:
            _check_extent(size, (size[0] * scale, size[1] * scale), limit)
        return output_size(size, scale)
    height, width = exact_size(target)
    if height < size[0] or width < size[1]:
        raise ScaleError(f"a size of at least {size[0]} x {size[1]} (H x W)", f"{height} x {width}", _REDUCE)
    _check_extent(size, (height, width), limit)
    return height, width


def exact_size(size: Any) -> tuple[int, int]:
    """A size (H, W) that a user gives.

    Raises:
        ConfigError: not two whole numbers above 0.

    Example:
        >>> exact_size([41, 30])
        (41, 30)
    """
    with suppress(TypeError, ValueError):
        height, width = size
        if all(isinstance(n, Integral) and int(n) >= 1 for n in (height, width)):
            return int(height), int(width)
    raise ConfigError("a size (H, W) of at least 1 x 1", repr(size), "Give two whole numbers.")


def magnified_to_mpp(
    path: Any, size: tuple[int, int], mpp: tuple[float, float] | None, wanted: float
) -> tuple[int, int]:
    """The size (H, W) that an image of ``size`` and ``mpp`` is magnified to at ``wanted`` micrometres per pixel.

    Args:
        path: the image's, for the messages.
        mpp: micrometres per pixel of the image, (y, x); None if they are unknown.
    Raises:
        DataError: they are unknown. ScaleError: ``wanted`` is coarser than the image.

    Example:
        >>> magnified_to_mpp("a.svs", (100, 200), (0.5, 0.5), 0.3)
        (167, 333)
    """
    if mpp is None:
        raise DataError(
            f"the pixel size of {path} in its file", "none or an implausible one", "Give it: --input-mpp 0.5."
        )
    if wanted > min(mpp):
        raise ScaleError(
            f"--mpp of at most {min(mpp):.4g}, the input's", f"{wanted:g}", "Reduce with a resampler instead."
        )
    return round(size[0] * mpp[0] / wanted), round(size[1] * mpp[1] / wanted)


def _check_extent(size: tuple[int, int], output: tuple[float, float], limit: int) -> None:
    height, width = output
    if height * width > limit:
        raise ScaleError(
            f"an output of at most {limit:,} pixels",
            f"{height:,.0f} x {width:,.0f} (H x W; {3e-9 * height * width:,.1f} GB in 8 bits)",
            "Lower the scale, or magnify a part of the image.",
        )
    inferer = ArbitraryScaleInferer()
    side = inferer.window + inferer.overlap
    if math.prod(min(n, side) * m / n for n, m in zip(size, output, strict=True)) > _MAX_WINDOW_PIXELS:
        raise ScaleError(
            f"a magnification that makes at most {_MAX_WINDOW_PIXELS:,} pixels of {side} x {side}",
            f"x{math.sqrt(height * width / math.prod(size)):.4g}",
            "Lower the scale, or magnify in two steps.",
        )


def magnified_bands(
    image: Tensor, network: nn.Module, size: tuple[int, int], region: Region | None = None
) -> Iterator[Tensor]:
    """The magnified image from top to bottom, in bands of rows; what :func:`upscale` and the command are made of.

    Args:
        network: in evaluation mode, on its device.
        size: size (H, W) of the whole result.
        region: the part of the result that is wanted.
    Shape:
        image: (3, h, w); yields (3, rows, W), or the region's width, float32, on the CPU.
    Units: image in uint8, 0 to 255, or floating point in [0, 1]; bands around [0, 1], not clamped.
    """

    def read(top: int, left: int, bottom: int, right: int) -> Tensor:
        part = image[:, top:bottom, left:right]
        return part.float() if part.is_floating_point() else part.float() / 255

    yield from ArbitraryScaleInferer().bands(read, (image.shape[1], image.shape[2]), network, size, region)


def at_precision(network: nn.Module, precision: str) -> nn.Module:
    """The network itself for ``"fp32"``; for ``"bf16"`` one around it whose products are computed in bfloat16.

    Raises:
        ConfigError: no such precision.
    """
    if precision not in ("fp32", "bf16"):
        raise ConfigError("a precision: fp32, bf16", repr(precision), "Choose one of these.")
    return network if precision == "fp32" else _HalfPrecision(network)


def emulates_bf16(device: torch.device | str) -> bool:
    """Whether bfloat16 is slower than float32 there: on a processor without instructions for it."""
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


class _HalfPrecision(nn.Module):
    """Autocast inside the network's call: around a generator of bands it would leak to whoever consumes them.

    What comes out as NaN or infinite is computed again in full precision: bfloat16 has float32's range, but sums that
    cancel in one need not in the other.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, **queries: Tensor) -> Tensor:
        with torch.autocast(image.device.type, torch.bfloat16):
            result: Tensor = self.network(image, **queries)
        return result if bool(result.isfinite().all()) else self.network(image, **queries)


def to_range(band: Tensor, dtype: torch.dtype) -> Tensor:
    """Colours around [0, 1] as they are handed out: clamped, and rounded to 0 to 255 for uint8.

    Shape: any

    Example:
        >>> to_range(torch.tensor([-0.1, 0.5, 1.2]), torch.uint8).tolist()
        [0, 128, 255]
    """
    band = band.clamp(0, 1)
    return band.mul(255).round().byte() if dtype == torch.uint8 else band.to(dtype)


def default_device() -> str:
    """The GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@lru_cache(maxsize=2)
def _preset(name: str, device: str) -> nn.Module:
    return load_network(name, device=device)


def _channels_first(image: Any) -> Tensor:
    """Any accepted image as a tensor (B, 3, H, W); refuses the others."""
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ShapeError("a Pillow image of mode RGB", f"mode {image.mode}", "Convert it: image.convert('RGB').")
        image = np.asarray(image)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3:
            raise ShapeError("an array of shape (H, W, 3)", str(image.shape), "Put the channels last, keep RGB.")
        if image.dtype != np.uint8 and image.dtype.kind != "f":
            raise _wrong_values(str(image.dtype))
        # torch takes neither negative strides nor read-only memory.
        pixels = torch.from_numpy(np.require(image, None, ["C", "W"])).permute(2, 0, 1)
    elif isinstance(image, Tensor):
        pixels = image.detach()
    else:
        raise ShapeError("a NumPy array, a Pillow image or a tensor", type(image).__name__, "Read the file first.")
    if pixels.ndim not in (3, 4) or pixels.shape[-3] != 3 or pixels.numel() == 0:
        raise ShapeError("an image of shape (3, H, W) or (B, 3, H, W)", str(tuple(pixels.shape)), "Keep RGB.")
    if pixels.dtype != torch.uint8:
        if not pixels.is_floating_point():
            raise _wrong_values(str(pixels.dtype))
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise _wrong_values(f"{pixels.dtype} from {low:g} to {high:g}")
    return pixels if pixels.ndim == 4 else pixels.unsqueeze(0)


def _wrong_values(received: str) -> ShapeError:
    return ShapeError("uint8, or floating point in [0, 1]", received, "Convert it: divide by its largest value.")


def _like(image: Picture, result: Tensor) -> Picture:
    if isinstance(image, Tensor):
        return (result if image.ndim == 4 else result[0]).contiguous().to(image.device)
    array = result[0].permute(1, 2, 0).numpy()
    if not isinstance(image, Image.Image):
        return array
    picture = Image.fromarray(array)
    if "icc_profile" in image.info:  # Pillow writes it to the file that the picture is saved to
        picture.info["icc_profile"] = image.info["icc_profile"]
    return picture
