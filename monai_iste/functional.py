"""Upscaling of images in memory: arrays, Pillow images and tensors, each in its own layout."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from monai_iste.errors import ShapeError
from monai_iste.inferers.output_size import OutputSize, require_one
from monai_iste.inferers.tiling import Region, Tiler
from monai_iste.networks.metadata import plain_image, with_metadata
from monai_iste.networks.runtime import resolve_network

Picture = TypeVar("Picture", np.ndarray, Image.Image, Tensor)


def upscale(
    image: Picture,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    model: nn.Module | str | None = None,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    input_blur: float | None = None,
) -> Picture:
    """Upscale an RGB image by any factor of at least 1; the result has the same kind, layout and type.

    The image is processed in windows (:class:`~monai_iste.inferers.tiling.Tiler`), so that memory beyond the result
    itself does not grow with its size. On the CPU as many windows are computed at once as PyTorch has threads
    (``torch.set_num_threads``); the result does not depend on their number.

    Args:
        image: see Shape.
        scale: magnification; the result has ``round(H * scale) x round(W * scale)`` pixels.
        size: exact size (H, W) of the result, instead of ``scale``; each axis then has a scale of its own.
        model: network, which is put into evaluation mode, or the name of a preset with released weights
            (default: ``iste_light2``).
        device: default: the device of the network, or for a preset the GPU if there is one.
        precision: ``"fp32"``, or ``"bf16"``: faster on GPUs and some processors.
        input_blur: blur of the image, see :func:`monai_iste.load`; default: unknown.
    Shape:
        NumPy array (H, W, 3); Pillow image of mode RGB; tensor (3, H, W) or (B, 3, H, W).
    Units: uint8 from 0 to 255, or floating point in [0, 1], to which the result is clamped.
    Raises:
        ScaleError: the scale is below 1 or not a finite number, or the result has more than :data:`MAX_OUTPUT_PIXELS`,
            or one window of it too many (above x27); nothing has been allocated then.
        ShapeError: not an RGB image of these kinds.
        ConfigError: no such preset, weights, device or precision, or a blur that the network cannot be told.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8)
        >>> upscale(np.zeros((10, 20, 3), np.uint8), 3.7, model=network).shape
        (37, 74, 3)
    """
    pixels = _channels_first(image)
    require_one({"scale": scale, "size": size})
    height, width = OutputSize(scale, size).resolve_upscaled((pixels.shape[2], pixels.shape[3]))
    network = resolve_network(model, device, precision, input_blur=input_blur)
    # Channels are innermost in memory, as in arrays and Pillow images, which are views of the result.
    result = torch.empty((len(pixels), 3, height, width), dtype=pixels.dtype, memory_format=torch.channels_last)
    for source, target in zip(pixels, result, strict=True):
        top = 0
        with closing(upscale_bands(source, network, (height, width))) as bands:
            for band in bands:
                target[:, top : top + band.shape[1]] = to_range(band, pixels.dtype)
                top += band.shape[1]
    return _like(image, result)


def upscale_bands(
    image: Tensor, network: nn.Module, size: tuple[int, int], region: Region | None = None
) -> Generator[Tensor, None, None]:
    """Yield the upscaled image from top to bottom, in bands of rows.

    Args:
        network: in evaluation mode, on its device.
        size: size (H, W) of the whole result.
        region: part of the result; default: all of it.
    Shape:
        image: (3, h, w); yields (3, rows, W), or the region's width, float32, on the CPU.
    Units: image in uint8, 0 to 255, or floating point in [0, 1]; bands around [0, 1], not clamped.
    """

    pixels = image.permute(1, 2, 0)
    read = lambda part: pixels[part.slices]  # noqa: E731
    yield from Tiler().bands(read, (image.shape[1], image.shape[2]), network, size, region)


def to_range(band: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert colors around [0, 1] to ``dtype``: clamped, and rounded to 0 to 255 for uint8.

    Shape: any

    Example:
        >>> to_range(torch.tensor([-0.1, 0.5, 1.2]), torch.uint8).tolist()
        [0, 128, 255]
    """
    band = band.clamp(0, 1)
    return band.mul(255).round().byte() if dtype == torch.uint8 else band.to(dtype)


def to_array(band: Tensor, dtype: torch.dtype = torch.uint8) -> np.ndarray:
    """Convert colors around [0, 1] to an array with the channels last, see :func:`to_range`.

    Shape:
        band: (3, H, W); returns (H, W, 3).

    Example:
        >>> to_array(torch.zeros(3, 4, 5)).shape
        (4, 5, 3)
    """
    array: np.ndarray = to_range(band, dtype).permute(1, 2, 0).numpy()
    return array


def _channels_first(image: Any) -> Tensor:
    """Convert an image to a tensor (B, 3, H, W); raise ShapeError if it is none of the accepted kinds."""
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
        pixels = plain_image(image.detach())
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
        return with_metadata((result if image.ndim == 4 else result[0]).contiguous().to(image.device), image)
    array = result[0].permute(1, 2, 0).numpy()
    if not isinstance(image, Image.Image):
        return array
    picture = Image.fromarray(array)
    if "icc_profile" in image.info:  # Pillow writes it to the file that the picture is saved to
        picture.info["icc_profile"] = image.info["icc_profile"]
    return picture
