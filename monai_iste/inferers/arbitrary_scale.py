"""MONAI interface of the tiled inference at any scale."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from monai_iste.inferers.tiling import Region, Tiler
from monai_iste.networks.checks import check_blurs, check_image
from monai_iste.networks.grid_sampling import takes_input_blur
from monai_iste.networks.metadata import plain_image, with_metadata
from monai_iste.networks.runtime import replace_input_blur


class ArbitraryScaleInferer(Tiler, Inferer):
    """Upscale images of any size by any scale, in bounded memory, without seams.

    The windows, the blending and the arguments are those of :class:`~monai_iste.inferers.tiling.Tiler`. The result
    depends on the image, the scale and the weights alone, never on the requested region.

    Args:
        window: distance between windows; a multiple of 8, the period of the key lattice and the encoder's window.
        overlap: width of the zone in which two windows are blended.
        halo: further input pixels around a window to which it does not contribute; half the overlap plus the halo is a
            multiple of 8, so that every input begins on the encoder's lattice.
    Shape:
        inputs: (B, 3, h, w); returns (B, 3, round(h * scale), round(w * scale)), or the region's height and width.
    Units: low-resolution pixels; intensities in [0, 1], the result not clamped.
    Raises:
        ConfigError: the sizes do not fit together.
        ShapeError: not an image, or a region outside the output.
        ScaleError: the scale is neither a finite number above 0 nor a size of at least 1 x 1.

    Example:
        >>> from monai_iste.networks import ISTE, EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
        >>> ArbitraryScaleInferer(window=16)(torch.rand(1, 3, 30, 26), network, scale=3.7).shape
        torch.Size([1, 3, 111, 96])
    """

    def __call__(  # type: ignore[override]  # the network must be a module: its device is needed
        self,
        inputs: Tensor,
        network: nn.Module,
        *args: Any,
        scale: float | tuple[int, int] = 2.0,
        region: Region | None = None,
        input_blur: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Upscale a batch, or one region of its output.

        A batch with metadata keeps them, with the affine of the new pixel size; a region is a plain tensor.

        Args:
            network: called as ``network.forward_grid(image, rows, columns, cell)`` where it has this method, else as
                ``network(image, coord=coord, cell=cell)``.
            scale: magnification, or the size (H, W) of the output.
            region: in pixels of the output.
            input_blur: blur of each input in its pixels, (B,), NaN where unknown; other networks ignore it.
        """
        check_image(inputs)
        size = (int(inputs.shape[2]), int(inputs.shape[3]))

        def upscale(image: Tensor, told: nn.Module) -> Tensor:
            pixels = image.permute(1, 2, 0)
            return torch.cat(list(self.bands(lambda part: pixels[part.slices], size, told, scale, region)), dim=1)

        images = plain_image(inputs)
        networks = _told_networks(network, input_blur, images)
        result = torch.stack([upscale(image, told) for image, told in zip(images, networks, strict=True)])
        return result if region is not None else with_metadata(result, inputs)


def _told_networks(network: nn.Module, input_blur: Tensor | None, images: Tensor) -> list[nn.Module]:
    """Return the network of each image: told its blur where that is known and the network takes it."""
    if input_blur is None or not takes_input_blur(network):
        return [network] * len(images)
    blurs = [None if math.isnan(blur) else blur for blur in check_blurs(images, input_blur).tolist()]
    return [replace_input_blur(network, blur) for blur in blurs]
