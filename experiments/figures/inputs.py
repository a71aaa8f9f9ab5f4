"""What every figure begins with: an image and its low-resolution counterpart, the part to show, and reconstructions."""

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

#: What figures and tables call bicubic interpolation.
BICUBIC = METHODS["bicubic"].label

#: A file, or an image in memory: (3, H, W), uint8.
ImageSource = str | os.PathLike[str] | np.ndarray | Tensor


class Pair(NamedTuple):
    """A low-resolution image and the truth, made under a protocol.

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
    """Reduce an image, or a part of it, by a scale; pixels beyond a whole number of low-resolution ones are cut off.

    Raises:
        ConfigError: no such protocol. DataError: not a usable file. ShapeError: the part lies outside the image.
        ScaleError: no scale of at least 1.
    """
    named = get_protocol(protocol)
    pixels = LoadRGB()(image)
    if crop is not None:
        top, left, height, width = inside(crop, (pixels.shape[1], pixels.shape[2]))
        pixels = pixels[:, top : top + height, left : left + width]
    try:
        item = cast(dict[str, Tensor], named.preprocessing()({"image": pixels, "scale": scale}))
    except RuntimeError as error:  # MONAI's pipelines hide in it what their steps raise
        raise find_error(error) or error from error
    return Pair(item["image"], item["label"], float(scale), named)


def parse_crop(text: str | None) -> Region | None:
    """``top,left,size`` as a square; None stays None.

    Raises:
        ConfigError: not three whole numbers, or no size.

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
    """The part of an image to show: the crop, else the square of ``side`` with most detail, else all of it.

    Shape:
        image: (3, H, W)
    Raises:
        ShapeError: the crop lies outside the image.
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
    """The magnified image by any network: those of any scale in windows, as users get it, the others whole.

    Shape:
        low: (3, h, w); returns (3, H, W), float32, on the CPU
    Units: in [0, 1]; the result is not clamped.
    """
    if isinstance(network, (FixedScaleNetwork, Bicubic)):
        return network(low.unsqueeze(0).to(get_device(network)), scale=scale)[0].float().cpu()
    return torch.cat(list(upscale_bands(low, network, size)), dim=1)


def require_iste(network: nn.Module, *parts: str) -> ISTE:
    """The network itself, if it is ISTE and has these parts.

    Raises:
        ConfigError: it is another network, or was built without one of them.
    """
    if not isinstance(network, ISTE):
        raise ConfigError("an ISTE network", type(network).__name__, "Choose a preset such as iste_light.")
    missing = [part for part in parts if getattr(network, part) is None]
    if missing:
        raise ConfigError(f"an ISTE network with its {missing[0]}", "one without", "Choose another preset.")
    return network


def as_pixels(image: Tensor) -> np.ndarray:
    """An image as 8-bit pixels for drawing: clamped, rounded, channels last.

    Shape:
        (3, H, W) in [0, 1] -> (H, W, 3), uint8
    """
    return np.asarray(to_picture(image))


def format_scale(scale: float) -> str:
    """A magnification as figures print it.

    Example:
        >>> format_scale(2.5)
        '×2.5'
    """
    return f"×{scale:g}"
