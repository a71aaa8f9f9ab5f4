"""Network of one fixed factor for programs that cut images into tiles, and the tiles that suit it."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from monai_iste.coordinates import LATTICE_PERIOD
from monai_iste.errors import ConfigError
from monai_iste.networks import ISTE
from scripts.drawn_tissue import drawn_tissue

_SIDE = 129  # of the image in which the receptive field is looked for


class FixedFactor(nn.Module):
    """Network of one factor from 8-bit numbers to 8-bit numbers, as programs hold images.

    It can be compiled by TorchScript.

    Args:
        network: in evaluation mode.
        factor: magnification.
    Shape:
        image: (B, 3, h, w), of any type; returns (B, 3, factor * h, factor * w), float32
    Units: 0 to 255; the result in whole numbers.

    Example:
        >>> from monai_iste.networks import EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
        >>> FixedFactor(network, 2)(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 3, 10, 14])
    """

    def __init__(self, network: nn.Module, factor: int) -> None:
        super().__init__()
        self.network = network
        self.factor = float(factor)

    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():  # memory stays flat, whatever the program that runs it
            return (self.network(image.float() / 255, scale=self.factor).clamp(0, 1) * 255).round()


def receptive_field(network: ISTE) -> int:
    """Measure how many pixels beyond its own an output pixel depends on, by its gradient.

    The retrieval of textures is left out: it looks at the whole tile.

    Raises:
        ConfigError: it reaches further than 64 pixels, as attention in windows does.

    Example:
        >>> from monai_iste.networks import EDSREncoder
        >>> receptive_field(ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8))
        6
    """
    local = copy.deepcopy(network).eval()
    local.self_texture_fusion = None
    image = torch.rand(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    offsets = torch.tensor([-0.5, 0.5]) / _SIDE
    coord = torch.cartesian_prod(offsets, offsets).unsqueeze(0)  # four points of the pixel in the middle
    local(image, coord=coord, cell=torch.ones(1, 2)).sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)).nonzero()
    reach = int((touched - _SIDE // 2).abs().max())
    if reach >= _SIDE // 2:
        raise ConfigError(f"a network that sees less than {_SIDE // 2} pixels around", "more", "Choose a light preset.")
    return reach


class Tiling(NamedTuple):
    """Sizes of the tiles of a package, in pixels of the input.

    Attributes:
        reach: receptive field beyond a pixel, see :func:`receptive_field`.
        halo: cut away on each side after upscaling.
        smallest: smallest height and width; larger ones differ from it by a multiple of ``step``.
        step: see ``smallest``.
    """

    reach: int
    halo: int
    smallest: int
    step: int


def tiling_of(network: ISTE) -> Tiling:
    """Return the tiling whose halo holds the receptive field, and whose tiles begin on the lattice of the keys."""
    reach = receptive_field(network)
    halo = -(-reach // LATTICE_PERIOD) * LATTICE_PERIOD
    return Tiling(reach, halo, 2 * (halo + LATTICE_PERIOD), LATTICE_PERIOD)


def tile_difference(network: ISTE, factor: int, tiling: Tiling) -> float:
    """Compute the mean difference, in 8-bit levels, between an image in tiles without halos and the same in one piece.

    Halos hide what the convolutions see beyond a tile. What remains is the retrieval, which sees one tile at a time.
    """
    program, inner = FixedFactor(network, factor), tiling.smallest - 2 * tiling.halo + tiling.step
    side = inner + 2 * tiling.halo
    image = as_batch(drawn_tissue(side + inner, side + inner))
    whole, differences = program(image), []
    for top in (0, inner):
        for left in (0, inner):
            tile = program(image[:, :, top : top + side, left : left + side])
            kept = slice(tiling.halo * factor, (side - tiling.halo) * factor)
            there = whole[:, :, top * factor : (top + side) * factor, left * factor : (left + side) * factor]
            differences.append(float((tile - there)[:, :, kept, kept].abs().mean()))
    return sum(differences) / len(differences)


def as_batch(pixels: np.ndarray) -> Tensor:
    """Return (h, w, 3) pixels as (1, 3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
