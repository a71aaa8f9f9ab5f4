"""Inputs of the figures: image pairs, views, and reconstructions."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from experiments.methods import METHODS
from monai_iste.errors import ConfigError, find_error
from monai_iste.functional import upscale_bands
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import inside
from monai_iste.metrics.protocols import Protocol, get_protocol
from monai_iste.networks import ISTE, Bicubic
from monai_iste.networks.baselines.fixed_scale import FixedScaleNetwork
from monai_iste.transforms import LoadRGB
from monai_iste.visualize import most_detailed, to_picture

#: Name of bicubic interpolation in figures and tables.
BICUBIC = METHODS["bicubic"].label

#: File, or image in memory: (3, H, W), uint8.
ImageSource = str | os.PathLike[str] | np.ndarray | Tensor


class Pair(NamedTuple):
    """Low-resolution image and ground truth of a protocol.

    Shape:
        low: (3, h, w); truth: (3, H, W), float32 in [0, 1]
    """

    low: Tensor
    truth: Tensor
    scale: float
    protocol: Protocol

    @property
    def size(self) -> tuple[int, int]:
        return int(self.truth.shape[1]), int(self.truth.shape[2])


def make_pair(image: ImageSource, scale: float, protocol: str = "iste-rgb", crop: Region | None = None) -> Pair:
    """Reduce an image, or a crop of it, by a scale; the image is cropped to a size that the scale divides.

    Raises:
        ConfigError: the protocol does not exist.
        DataError: the file cannot be used.
        ShapeError: the crop is outside the image.
        ScaleError: the scale is below 1.
    """
    named = get_protocol(protocol)
    pixels = LoadRGB()(image)
    if crop is not None:
        top, left, height, width = inside(crop, (pixels.shape[1], pixels.shape[2]))
        pixels = pixels[:, top : top + height, left : left + width]
    try:
        item = cast(dict[str, Tensor], named.preprocessing()({"image": pixels, "scale": scale}))
    except RuntimeError as error:  # MONAI's Compose wraps errors of its transforms
        raise find_error(error) or error from error
    return Pair(item["image"], item["label"], float(scale), named)


def parse_crop(text: str | None) -> Region | None:
    """Parse ``top,left,size`` to a square region; None stays None.

    Raises:
        ConfigError: the text is not three whole numbers, or the size is 0.

    Example:
        >>> parse_crop("10,20,64")
        Region(top=10, left=20, height=64, width=64)
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),([1-9]\d{0,8})", text)
    if match is None:
        raise ConfigError("a crop top,left,size, such as 100,200,64", repr(text), "Whole pixels, no spaces.")
    top, left, size = (int(number) for number in match.groups())
    return Region(top, left, size, size)


def choose_view(image: Tensor, crop: Region | None, side: int | None) -> Region:
    """Choose the part of an image to show: the crop, else the square of ``side`` with most detail, else all of it.

    Shape:
        image: (3, H, W)
    Raises:
        ShapeError: the crop is outside the image.
    """
    size = int(image.shape[1]), int(image.shape[2])
    if crop is not None:
        return inside(crop, size)
    if side is None or side >= min(size):
        return Region(0, 0, *size)
    return Region(*most_detailed(image, side), side, side)


def get_device(network: nn.Module) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


@torch.no_grad()
def reconstruct(network: nn.Module, low: Tensor, scale: float, size: tuple[int, int]) -> Tensor:
    """Upscale an image with any network: in windows for networks of any scale, as in the command, else at once.

    Shape:
        low: (3, h, w); returns (3, H, W), float32, on the CPU
    Units: in [0, 1]; the result is not clamped.
    """
    if isinstance(network, (FixedScaleNetwork, Bicubic)):
        return network(low.unsqueeze(0).to(get_device(network)), scale=scale)[0].float().cpu()
    return torch.cat(list(upscale_bands(low, network, size)), dim=1)


def require_iste(network: nn.Module, *parts: str) -> ISTE:
    """Return the network if it is ISTE with these modules.

    Raises:
        ConfigError: the network is not ISTE, or has no such module.
    """
    if not isinstance(network, ISTE):
        raise ConfigError("an ISTE network", type(network).__name__, "Choose a preset such as iste_light2.")
    missing = [part for part in parts if getattr(network, part) is None]
    if missing:
        raise ConfigError(f"an ISTE network with its {missing[0]}", "one without", "Choose another preset.")
    return network


def as_pixels(image: Tensor) -> np.ndarray:
    """Convert an image to 8-bit pixels for drawing: clamped, rounded, channels last.

    Shape:
        (3, H, W) in [0, 1] -> (H, W, 3), uint8
    """
    return np.asarray(to_picture(image))


def format_scale(scale: float) -> str:
    """Format a scale factor for printing.

    Example:
        >>> format_scale(2.5)
        '×2.5'
    """
    return f"×{scale:g}"
