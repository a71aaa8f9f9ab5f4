"""Intermediate results of ISTE: retrieved keys, texture features, and the contributions of the decoders.

No equation is repeated here. Forward hooks record or zero the outputs of modules inside the network's own ``encode``
and ``decode``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from experiments.figures.inputs import get_device
from monai_iste.coordinates import cell_size, output_size, pixel_centers
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import inside
from monai_iste.networks import ISTE
from monai_iste.networks.checks import check_image
from monai_iste.networks.grid_sampling import ensemble
from monai_iste.networks.self_texture_fusion import SelfTextureFusion


class Retrieval(NamedTuple):
    """Key that every low-resolution pixel retrieves in stage 1.

    Attributes:
        key: index of the retrieved key, (h, w), int64.
        place: position of that key, (h, w, 2).
        confidence: cosine similarity of pixel and key, (h, w).
        keys: number of keys K.
    Units: positions in low-resolution pixels, (y, x), 0 at the center of the first.
    """

    key: Tensor
    place: Tensor
    confidence: Tensor
    keys: int


class TextureFeatures(NamedTuple):
    """Feature maps before and after the Texture Learner: F_LR (C, h, w) and, over a region, F_TL (T, H', W')."""

    before: Tensor
    after: Tensor


class DecoderParts(NamedTuple):
    """Summands of an output region: ``base + pixel + texture = total``.

    ``base`` is the bicubic interpolation if the network adds it (``bicubic_residual``), else constant middle gray.
    ``pixel`` and ``texture`` are the signed I_LPD and I_LTD as they enter the sum; if bicubic is added, they are
    multiplied by the residual gate.

    Shape:
        (3, H', W') each
    Units: those of an image in [0, 1], half of those inside the network.
    """

    base: Tensor
    pixel: Tensor
    texture: Tensor
    total: Tensor


@torch.no_grad()
def retrieve(network: ISTE, low: Tensor, scale: float) -> Retrieval:
    """Run Self-Texture Fusion on the whole image and return the retrieved keys.

    Args:
        network: network in evaluation mode, with its ``self_texture_fusion``.
        low: low-resolution image.
        scale: scale factor.
    Shape:
        low: (3, h, w)
    Units: in [0, 1].
    """
    seen: list[tuple[Any, ...]] = []
    module = cast(SelfTextureFusion, network.self_texture_fusion)
    with _output_hook(module, lambda args, result: seen.append(args)):
        _, cell = _encode(network, low, scale)
    index, _, confidence = module.retrieve(*seen[0])
    h, w = low.shape[1:]
    places = network.key_positions((h, w), cell)[index[0].cpu()]
    return Retrieval(index.view(h, w).cpu(), places.view(h, w, 2), confidence.view(h, w).cpu(), seen[0][1].shape[1])


@torch.no_grad()
def texture_features(network: ISTE, low: Tensor, scale: float, region: Region) -> TextureFeatures:
    """Compute the feature maps before and after the Texture Learner; four corners are blended by their areas.

    Args:
        network: network in evaluation mode.
        low: low-resolution image.
        scale: scale factor.
        region: region of the output where the texture is evaluated.
    Shape:
        low: (3, h, w)
    """
    seen: list[Tensor] = []
    with _output_hook(network.encoder, lambda args, result: seen.append(result)):
        encoding, cell = _encode(network, low, scale)
    coord = _coordinates(low, scale, region).to(cell.device)
    neighbors = network.texture_neighbors(coord, (low.shape[1], low.shape[2]))
    texture = ensemble(network.texture_learner(encoding.amp_freq, neighbors, cell), neighbors)
    return TextureFeatures(
        seen[0][0].float().cpu(), texture[0].mT.reshape(-1, region.height, region.width).float().cpu()
    )


@torch.no_grad()
def decoder_parts(network: ISTE, low: Tensor, scale: float, region: Region) -> DecoderParts:
    """Compute the contribution of each decoder to a region of the output, by zeroing the other decoder.

    Args:
        network: network in evaluation mode, with its ``local_texture_decoder``.
        low: low-resolution image.
        scale: scale factor.
        region: region of the output.
    Shape:
        low: (3, h, w)
    """
    encoding, cell = _encode(network, low, scale)
    coord = _coordinates(low, scale, region).to(cell.device)

    def image(*zeroed: nn.Module) -> Tensor:
        with _zero_outputs(*zeroed):
            rgb = network.decode(encoding, coord, cell)
        return rgb[0].T.reshape(3, region.height, region.width).float().cpu()

    lpd, ltd = network.local_pixel_decoder, cast(nn.Module, network.local_texture_decoder)
    base = image(lpd, ltd)
    return DecoderParts(base, image(ltd) - base, image(lpd) - base, image())


def _encode(network: ISTE, low: Tensor, scale: float) -> tuple[Any, Tensor]:
    """Encode the whole image up to stage 1, and return the cell. At inference, keys do not depend on queries."""
    image = low.unsqueeze(0).to(get_device(network))
    check_image(image)
    size = (low.shape[1], low.shape[2])
    cell = cell_size(size, output_size(size, scale), image.device).unsqueeze(0)
    return network.eval().encode(image, torch.zeros(1, 1, 2, device=image.device), cell), cell


def _coordinates(low: Tensor, scale: float, region: Region) -> Tensor:
    """Compute the region's pixel centers on the grid of the whole output, (1, H' W', 2)."""
    output = output_size((low.shape[1], low.shape[2]), scale)
    top, left, height, width = inside(region, output)
    grid = pixel_centers(output).view(*output, 2)
    return grid[top : top + height, left : left + width].reshape(1, -1, 2)


@contextmanager
def _output_hook(module: nn.Module, callback: Any) -> Iterator[None]:
    """Call ``callback(arguments, result)`` after every call of the module, within the context."""
    handle = module.register_forward_hook(lambda _, args, result: callback(args, result))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _zero_outputs(*modules: nn.Module) -> Iterator[None]:
    """Replace the outputs of the modules by zeros, within the context."""
    handles = [module.register_forward_hook(lambda _, args, result: torch.zeros_like(result)) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
